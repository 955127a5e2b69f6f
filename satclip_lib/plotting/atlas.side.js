// The third part of the atlas's script: what stands beside the panels, the search, and the start.
const LISTED = 20  // places of a lasso
const SUGGESTED = 8  // names of towns

// ---- Elements. Names and titles are appended as text, and so can never be markup.
function make(tag, class_name, ...children) {
  const element = Object.assign(document.createElement(tag), {className: class_name})
  element.append(...children)
  return element
}

function make_button(class_name, action, ...children) {
  const button = make("button", class_name, ...children)
  return Object.assign(button, {type: "button", onclick: action})
}

// ---- Words
function format(value) {
  const few = {maximumSignificantDigits: 3}, whole = {maximumFractionDigits: 0}
  return value.toLocaleString("en", Math.abs(value) < 100 ? few : whole).replace("-", "−")
}

function count(number) {  // counts are never rounded
  return number.toLocaleString("en")
}

function format_quantity(layer, value) {
  const quantity = format(layer.is_log ? Math.expm1(value) : value)
  return layer.units ? `${quantity} ${layer.units}` : quantity
}

function describe(layer, place) {
  const value = layer.values[place]
  if (Number.isNaN(value)) return "no data"
  return layer.names.length ? layer.names[value] : format_quantity(layer, value)
}

function describe_place(place) {  // country, and the nearest town
  const [town, distance_km] = find_nearest(map.position(place), town_vectors)
  const country = facts.countries[data.country[place]]
  return `${country && `${country}, `}${count(Math.round(distance_km))} km from ${towns[town][0]}`
}

function describe_position(place) {
  const degrees = (value, [positive, negative]) =>
    `${Math.abs(value).toFixed(2)}° ${value < 0 ? negative : positive}`
  const [lon, lat] = map.position(place)
  return `${degrees(lat, "NS")}, ${degrees(lon, "EW")}`
}

function make_picture(place) {
  const column = place % facts.sprite_columns, row = Math.floor(place / facts.sprite_columns)
  const picture = make("div", "picture")
  picture.style.backgroundSize = `calc(${facts.sprite_columns} * var(--side)) auto`
  picture.style.backgroundPosition = `calc(${-column} * var(--side)) calc(${-row} * var(--side))`
  picture.dataset.place = place
  return picture
}

function list_labels(place) {  // what the layers say of a place
  const known = layers.slice(0, SIMILARITY + 1).filter(({values}) => !Number.isNaN(values[place]))
  return make("dl", "", ...known.flatMap((layer) => [
    make("dt", "", layer.title), make("dd", "", describe(layer, place))]))
}

function show_card(place, x, y) {  // beside the mouse
  const card = by_id("card")
  card.style.display = place < 0 ? "none" : "block"
  if (place < 0) return
  card.replaceChildren(make_picture(place), make("b", "", describe_place(place)),
    make("small", "", describe_position(place)), list_labels(place))
  const {width, height} = card.getBoundingClientRect()
  card.style.left = `${Math.max(0, x + width + 24 > innerWidth ? x - width - 12 : x + 12)}px`
  card.style.top = `${clamp(y + 12, 0, Math.max(0, innerHeight - height - 8))}px`
}

// ---- Legend
function show_legend() {
  const layer = layers[state.layer]
  const shown = is_shown.reduce((sum, value) => sum + value, 0)
  const part = shown < num_places ? `${count(shown)} of ` : ""
  by_id("legend").replaceChildren(
    make("h2", "", `${layer.title}: ${part}${count(num_places)} places`),
    ...(layer.names.length ? [make_class_legend(layer)] : make_scale(layer)),
    ...(layer.names.length || state.place < 0 ? [] : [list_labels(state.place)]))
}

function make_class_legend(layer) {
  const counts = new Uint32Array(layer.names.length)
  const is_inside = make_lasso_test()
  layer.values.forEach((value, i) => { if (!Number.isNaN(value) && is_inside(i)) counts[value]++ })
  return make("div", "classes", ...layer.names.map((name, number) => {
    const dot = make("i", "")
    dot.style.background = layer.colors[number]
    const row = make_button("row", () => {
      state.classes.delete(number) || state.classes.add(number)
      refresh()
    }, dot, make("span", "", name), make("span", "end", count(counts[number])))
    row.setAttribute("aria-pressed", state.classes.has(number))
    row.classList.toggle("faded", !is_chosen(number))
    return row
  }))
}

function make_scale(layer) {
  const bar = make("div", "bar")
  bar.style.background = `linear-gradient(90deg, ${layer.colors.join()})`
  const [low, high] = [layer.low, layer.high].map((value) => format_quantity(layer, value))
  const note = "Cosine of the embeddings. Zero and negative values have the palest colour."
  return [bar, make("div", "ends", make("span", "", low), make("span", "", high)),
    ...(state.layer === SIMILARITY ? [make("div", "hint", note)] : [])]
}

// ---- Answer: the touched place, and the places that are like it
const INVITATION = "All other places are then coloured by similarity of their embeddings. The " +
  "most similar places on other continents are listed here. Drag to move, scroll or pinch to " +
  "zoom. With “Lasso” on, draw around places in one panel to see them in the other. Touch a " +
  "class of the legend to see this class alone."
const WHAT_IF = "Sliders change the numbers of the touched place. A button colours by its number."

function make_row(place, mark) {
  const similarity = layers[SIMILARITY].values[place]
  return make_button("row", () => touch(place), ...(mark ? [make("span", "mark", mark)] : []),
    make_picture(place), make("span", "", make("b", "", describe_place(place)),
      make("small", "", `${describe_position(place)} · ${describe(layers[0], place)}`)),
    make("span", "end", Number.isNaN(similarity) ? "" : similarity.toFixed(2)))
}

function show_answer() {
  const rows = []
  const is_touched = state.place >= 0
  marks = is_touched ? [{place: state.place, text: ""}] : []
  if (is_touched) {
    const far = `at least ${count(facts.far_km)} km away`
    rows.push(make("h2", "", `Most similar on other continents, ${far}`), make_row(state.place))
    find_most_similar().forEach((place, i) => {
      marks.push({place, text: String(i + 1)})
      rows.push(make_row(place, String(i + 1)))
    })
  } else if (!state.lasso) {
    rows.push(make("h2", "", "Touch any place"), make("p", "hint", INVITATION))
  }
  if (state.lasso) {
    const similarity = layers[SIMILARITY].values
    const inside = [...is_shown.keys()].filter((i) => is_shown[i])
    if (is_touched) inside.sort((a, b) => similarity[b] - similarity[a])
    const order = is_touched ? ", most similar first" : ""
    rows.push(make("h2", "", `In the lasso: ${count(inside.length)} places${order}`),
      ...inside.slice(0, LISTED).map((place) => make_row(place)))
  }
  by_id("answer").lastChild.replaceChildren(...rows)
}

// ---- Sliders: how many numbers are compared, and what the first ones of the touched place are
function make_slider(caption, limits, get, set, say) {
  const input = Object.assign(make("input", ""), {type: "range", ...limits})
  const output = make("output", "")
  const label = make("label", "", caption, input, output)
  input.oninput = () => { set(Number(input.value)); refresh() }
  label.update = () => {
    Object.assign(input, {value: get(), disabled: !state.query})
    output.textContent = say(get())
  }
  return label
}

function make_sliders() {
  const few = make_slider("", {min: 1, max: num_numbers}, () => state.numbers,
    (value) => { state.numbers = value },
    (value) => `compared: the first ${value} of ${num_numbers}`)
  few.className = "first"
  const sliders = [few]
  for (let k = 0; k < facts.num_sliders; k++) {
    const layer = SIMILARITY + 1 + k, {high, title} = layers[layer]
    const button = Object.assign(make_button("", () => choose_layer(layer), k + 1), {title})
    sliders.push(make_slider(button, {min: -high, max: high, step: high / 100},
      () => state.query?.[k] ?? 0, (value) => { state.query[k] = value },
      (value) => value.toFixed(2).replace("-", "−")))
  }
  by_id("numbers").replaceChildren(make("h2", "", "The numbers of the embedding"), ...sliders,
    make("p", "hint", WHAT_IF))
  return sliders
}

// ---- Search
function plain(text) {  // without accents, apostrophes and hyphens
  return text.normalize("NFD").replace(/[\p{M}'’]/gu, "").replace(/-/g, " ").toLowerCase().trim()
}

const plain_names = facts.named_places.map(([name]) => plain(name))

function find_by_name(text) {  // names that are so, begin so, or hold it; larger towns first
  const wanted = plain(text)
  const matching = (test) => plain_names.flatMap((name, i) => (test(name) ? [i] : []))
  const begin = matching((name) => name.startsWith(wanted))
  const exact = begin.filter((i) => plain_names[i] === wanted)
  const found = [...exact, ...begin, ...matching((name) => name.includes(wanted))]
  return wanted ? [...new Set(found)].slice(0, SUGGESTED) : []
}

function parse_lonlat(text) {
  const [lon, lat, ...more] = text.split(/[,;\s]+/).filter(Boolean).map(Number)
  return !more.length && Math.abs(lon) <= 180 && Math.abs(lat) <= 90 ? [lon, lat] : null
}

function suggest() {
  by_id("suggestions").replaceChildren(...find_by_name(by_id("place").value).map((number) => {
    const [name, country] = facts.named_places[number]
    return make_button("row", () => go_to_name(number), make("span", "", name),
      make("small", "end", country))
  }))
}

function go_to_name(number) {
  const [name, , ...lonlat] = facts.named_places[number]
  by_id("place").value = name
  go_to(lonlat, name)
}

function go_to([lon, lat], name) {
  const [place, distance_km] = find_nearest([lon, lat], place_vectors)
  by_id("found").textContent = `${name}: nearest place ${count(Math.round(distance_km))} km away`
  by_id("suggestions").replaceChildren()
  if (!state.globe) map.view.lon = lon
  touch(place)
}

function search(text) {
  const lonlat = parse_lonlat(text), [number] = find_by_name(text)
  if (lonlat) go_to(lonlat, text)
  else if (number !== undefined) go_to_name(number)
  else by_id("found").textContent =
    "Nothing found. Type a country, a town of over 50,000 people, or longitude (−180 to 180), " +
    "latitude (−90 to 90)."
}

// ---- Start
function prepare() {  // what the first touch would wait for: compiled code, decoded pictures
  compute_similarity(unit_embedding(0), state.numbers)
  const picture = make_picture(0)
  picture.classList.add("unseen")
  document.body.append(picture)
}

function reset() {  // as the page was first
  layers[SIMILARITY].values.fill(NaN)
  Object.assign(state, {place: -1, query: null, numbers: num_numbers, lasso: null})
  for (const panel of [plane, map]) Object.assign(panel.view, panel.home)
  by_id("found").textContent = by_id("place").value = ""
  by_id("suggestions").replaceChildren()
  choose_layer(0)
}

document.title = facts.title
document.querySelector("h1").textContent = facts.title
by_id("subtitle").textContent = facts.subtitle
by_id("layer").append(...layers.map(({title}, i) => new Option(title, i)))
by_id("layer").onchange = (event) => choose_layer(Number(event.target.value))
by_id("place").oninput = suggest
by_id("search").onsubmit = (event) => { event.preventDefault(); search(by_id("place").value) }
by_id("globe").onclick = () => { state.globe = !state.globe; map.drag(0, 0); refresh() }
by_id("lasso").onclick = ({target}) => target.setAttribute("aria-pressed", !is_lasso_on())
by_id("reset").onclick = reset
document.addEventListener("keydown", ({key}) => { if (key === "Escape") reset() })
addEventListener("hashchange", load_state)
const sliders = make_sliders()
load_state()
by_id("found").textContent = ""
// For tests, and for the curious:
window.atlas = {data, layers, state, colours, is_shown, make_lasso_test, map, plane}
