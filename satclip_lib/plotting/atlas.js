// The second part of the atlas's script: data, state, colours, and what stands beside the panels.

// ---- Data: a gzipped safetensors file, its header first. All text is in the header's metadata.
const TYPES = {F32: Float32Array, U16: Uint16Array, I8: Int8Array, U8: Uint8Array}

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))
  const buffer = await new Response(stream).arrayBuffer()
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true))
  const {__metadata__, ...entries} = JSON.parse(new TextDecoder().decode(buffer.slice(8, start)))
  const data = {}
  for (const [name, {dtype, data_offsets: [first, end]}] of Object.entries(entries)) {
    data[name] = new TYPES[dtype](buffer.slice(start + first, start + end))
  }
  return [JSON.parse(__metadata__.facts), data]
}

const [facts, data] = await unpack(by_id("contents").textContent)
const num_places = data.lonlat.length / 2
const num_numbers = data.embeddings.length / num_places  // of an embedding
const place_vectors = to_unit_vectors(data.lonlat)
const towns = facts.named_places.filter(([, country]) => country)
const town_vectors = to_unit_vectors(towns.flatMap(([, , lon, lat]) => [lon, lat]))

// Everything that colours places is a layer. After those that came with the page: how similar each
// place is to the one that was touched, and the first numbers of the embeddings.
const layers = facts.layers.map((layer, i) => ({...layer, values: data[`layer${i}`]}))
const SIMILARITY = layers.length
layers.push({title: "Similarity to a place", units: "", low: 0, high: 1, names: [], islands: [],
  colors: facts.similarity_colors, values: new Float64Array(num_places).fill(NaN)})
const lengths = Float64Array.from({length: num_places}, (_, i) => Math.hypot(...embedding_of(i)))
for (let k = 0; k < facts.num_sliders; k++) {
  const values = Float64Array.from(lengths, (length, i) => embedding_of(i)[k] / length)
  const limit = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9)
  layers.push({title: `Number ${k + 1} of the embedding`, units: "", low: -limit, high: limit,
    names: [], islands: [], colors: facts.number_colors, values})
}

// ---- State. What it holds survives in the address of the page.
const state = {
  layer: 0,  // that colours the places
  classes: new Set(),  // of the layer, to which the view is confined; empty: all
  place: -1,  // that was touched
  query: null,  // its embedding, which the sliders change
  numbers: num_numbers,  // how many numbers of the embeddings are compared
  lasso: null,  // {panel, points}
  globe: innerWidth < 900,
}
const colours = new Uint32Array(65_536)  // of places, then of what is no place
const is_shown = new Uint8Array(num_places)  // others are muted
let marks = []  // places with a ring or a number
const plane = new PlanePanel("panel-plane")
const map = new MapPanel("panel-map")
const panels = {plane, map}

function save_state() {
  const round = (value) => Number(value.toFixed(3))
  const position = (place) => map.position(place).map(round).join()
  const view = (panel) => {
    const text = (values) => Object.values(values).map(round).join()
    return text(panel.view) === text(panel.home) ? "" : text(panel.view)
  }
  const kept = {
    colour: state.layer ? layers[state.layer].title : "",
    classes: [...state.classes].join(),
    place: state.place < 0 ? "" : position(state.place),
    numbers: state.numbers < num_numbers ? state.numbers : "",
    sliders: state.query ? changed_numbers().map(([k, value]) => `${k}:${round(value)}`).join() : "",
    globe: Number(state.globe),
    map: view(map),
    plane: view(plane),
    lasso: state.lasso ? [state.lasso.panel === map ? "map" : "plane",
      ...state.lasso.points.flat().map(round)].join() : "",
  }
  const text = new URLSearchParams(Object.entries(kept).filter(([, value]) => value !== ""))
  if (location.protocol !== "about:") history.replaceState(null, "", `#${text}`)
}

function load_state() {
  const kept = new URLSearchParams(location.hash.slice(1))
  const numbers = (name) => (kept.get(name) ?? "").split(",").filter(Boolean).map(Number)
  state.layer = Math.max(0, layers.findIndex((layer) => layer.title === kept.get("colour")))
  state.classes = new Set(numbers("classes"))
  const place = numbers("place")
  state.place = place.length === 2 ? find_nearest(place, place_vectors)[0] : -1
  state.query = state.place < 0 ? null : unit_embedding(state.place)
  state.numbers = clamp(Math.round(numbers("numbers")[0] ?? num_numbers), 1, num_numbers) || num_numbers
  for (const change of (kept.get("sliders") ?? "").split(",").filter(Boolean)) {
    const [k, value] = change.split(":").map(Number)
    if (state.query && k in state.query) state.query[k] = value
  }
  if (kept.has("globe")) state.globe = kept.get("globe") === "1"
  const [lon, lat, map_zoom] = numbers("map")
  if (map_zoom >= 1) Object.assign(map.view, {lon, lat, zoom: map_zoom})
  const [x, y, zoom] = numbers("plane")
  if (zoom >= 1) Object.assign(plane.view, {x, y, zoom})
  const [name, ...points] = (kept.get("lasso") ?? "").split(",")
  const pairs = points.map(Number).flatMap((value, i, all) => (i % 2 ? [[all[i - 1], value]] : []))
  state.lasso = name in panels ? {panel: panels[name], points: pairs} : null
  refresh()
}

let waiting = 0
function save_soon() {  // browsers allow no more than a few changes of the address a second
  clearTimeout(waiting)
  waiting = setTimeout(save_state, 250)
}

let is_drawing = false
function draw_soon() {
  if (is_drawing) return
  is_drawing = true
  requestAnimationFrame(() => {
    is_drawing = false
    plane.draw()
    map.draw()
    if (plane.image && map.image) by_id("atlas").dataset.ready ??= performance.now()
  })
}

function refresh() {  // after any change of the state but of the views
  if (state.query) layers[SIMILARITY].values = compute_similarity(state.query, state.numbers)
  choose_shown()
  choose_colours()
  by_id("layer").value = state.layer
  by_id("globe").setAttribute("aria-pressed", state.globe)
  show_legend()
  show_answer()
  for (const slider of sliders) slider.update()
  draw_soon()
  save_soon()
}

// ---- Similarity
function embedding_of(place) {
  return data.embeddings.subarray(place * num_numbers, (place + 1) * num_numbers)
}

function unit_embedding(place) {
  return Float64Array.from(embedding_of(place), (value) => value / lengths[place])
}

function changed_numbers() {  // by the sliders
  const original = unit_embedding(state.place)
  return [...state.query.entries()].filter(([k, value]) => value !== original[k])
}

function compute_similarity(query, numbers) {  // cosine of the first numbers, for each place
  const {embeddings} = data
  const cosines = new Float64Array(num_places)
  let query_square = 0
  for (let k = 0; k < numbers; k++) query_square += query[k] * query[k]
  for (let i = 0; i < num_places; i++) {
    const start = i * num_numbers
    let product = 0, square = 0
    for (let k = 0; k < numbers; k++) {
      const value = embeddings[start + k]
      product += query[k] * value
      square += value * value
    }
    cosines[i] = product / (Math.sqrt(square * query_square) || 1)
  }
  return cosines
}

function find_most_similar() {  // one place on each other continent, not just across a border
  const best = new Map()
  const similarity = layers[SIMILARITY].values
  const home = data.continent[state.place]
  const largest = Math.cos(facts.far_km / facts.earth_radius_km)  // cosine of the angle between
  const [x, y, z] = place_vectors.subarray(3 * state.place)
  for (let i = 0; i < num_places; i++) {
    const continent = data.continent[i]
    if (continent === home || facts.continents[continent] === "") continue
    const [u, v, w] = place_vectors.subarray(3 * i, 3 * i + 3)
    if (x * u + y * v + z * w > largest) continue
    if (!best.has(continent) || similarity[i] > similarity[best.get(continent)]) best.set(continent, i)
  }
  return [...best.values()].sort((a, b) => similarity[b] - similarity[a])
}

// ---- Colours and what is shown
function to_pixel(color) {  // "#rrggbb" as alpha, blue, green, red
  const number = parseInt(color.slice(1), 16)
  return (0xff000000 | (number & 255) << 16 | number & 0xff00 | number >> 16) >>> 0
}

function choose_colours() {
  const {values, low, high, colors} = layers[state.layer]
  const pixels = colors.map(to_pixel)
  const [unknown, muted] = [facts.no_value_color, "#e6e6e6"].map(to_pixel)
  for (let i = 0; i < num_places; i++) {
    const step = clamp(Math.floor((values[i] - low) / (high - low) * pixels.length), 0, pixels.length - 1)
    colours[i] = is_shown[i] ? pixels[step] ?? unknown : muted
  }
  colours[facts.sea] = to_pixel("#f1f5f8")
  colours[facts.no_place] = to_pixel("#f7f7f7")
  colours[OUTSIDE] = 0
}

function choose_shown() {  // in the lasso, and of the chosen classes
  const {values} = layers[state.layer]
  const is_inside = state.lasso ? make_lasso_test() : () => true
  for (let i = 0; i < num_places; i++) {
    is_shown[i] = (!state.classes.size || state.classes.has(values[i])) && is_inside(i)
  }
}

function make_lasso_test() {
  const {panel, points} = state.lasso
  const near = (lon, other) => (panel === map ? other + wrap(lon - other) : lon)
  const corners = []  // with longitudes that run on across the date line
  for (const [x, y] of points) corners.push([near(x, corners.at(-1)?.[0] ?? x), y])
  const middle = corners.reduce((sum, [x]) => sum + x / corners.length, 0)
  return (place) => {
    const position = panel.position(place)
    const x = near(position[0], middle), y = position[1]
    let is_inside = false
    corners.forEach(([x1, y1], i) => {
      const [x2, y2] = corners.at(i - 1)
      if (y1 > y !== y2 > y && x < x1 + (x2 - x1) * (y - y1) / (y2 - y1)) is_inside = !is_inside
    })
    return is_inside
  }
}

function is_lasso_on() {
  return by_id("lasso").getAttribute("aria-pressed") === "true"
}

function extend_lasso(panel, point, is_first) {
  if (is_first) state.lasso = {panel, points: []}
  if (point) state.lasso.points.push(point)
}

// ---- Places
function wrap(degrees) {
  return degrees - 360 * Math.floor((degrees + 180) / 360)
}

function to_unit_vectors(lonlat) {
  const vectors = new Float64Array(lonlat.length / 2 * 3)
  for (let i = 0; i < lonlat.length / 2; i++) {
    const lon = lonlat[2 * i] * DEGREE, lat = lonlat[2 * i + 1] * DEGREE
    vectors.set([Math.cos(lat) * Math.cos(lon), Math.cos(lat) * Math.sin(lon), Math.sin(lat)], 3 * i)
  }
  return vectors
}

function find_nearest(lonlat, vectors) {  // its number, and its distance in km
  const [x, y, z] = to_unit_vectors(lonlat)
  let nearest = 0, largest = -2  // cosine
  for (let i = 0; i < vectors.length / 3; i++) {
    const cosine = x * vectors[3 * i] + y * vectors[3 * i + 1] + z * vectors[3 * i + 2]
    if (cosine > largest) [nearest, largest] = [i, cosine]
  }
  return [nearest, facts.earth_radius_km * Math.acos(clamp(largest, -1, 1))]
}

function touch(place, panel) {
  if (place < 0) return
  state.place = place
  state.query = unit_embedding(place)
  choose_layer(SIMILARITY)
  if (panel === map) return
  const [lon, lat] = map.position(place)
  if (state.globe) Object.assign(map.view, {lon, lat})
}

function choose_layer(layer) {
  state.layer = layer
  state.classes = new Set()
  refresh()
}

// ---- Text. Names and titles become text by textContent, never markup.
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}

function format(value) {
  const digits = Math.abs(value) >= 100 ? {maximumFractionDigits: 0} : {maximumSignificantDigits: 3}
  return value.toLocaleString("en", digits).replace("-", "−")
}

function format_quantity(layer, value) {
  if (Number.isNaN(value)) return "no data"
  const quantity = format(layer.is_log ? Math.expm1(value) : value)
  return layer.units ? `${quantity} ${layer.units}` : quantity
}

function describe(layer, place) {
  const value = layer.values[place]
  return layer.names.length && !Number.isNaN(value) ? layer.names[value] : format_quantity(layer, value)
}

function describe_place(place) {  // country, and the nearest town
  const [town, distance_km] = find_nearest(map.position(place), town_vectors)
  const country = facts.countries[data.country[place]]
  return [country, `${count(Math.round(distance_km))} km from ${towns[town][0]}`].filter(Boolean).join(", ")
}

function describe_position(place) {
  const degrees = (value, letters) => `${Math.abs(value).toFixed(2)}° ${letters[Number(value < 0)]}`
  const [lon, lat] = map.position(place)
  return `${degrees(lat, "NS")}, ${degrees(lon, "EW")}`
}

function make_picture(place) {
  const column = place % facts.sprite_columns, row = Math.floor(place / facts.sprite_columns)
  const picture = make("div", {className: "picture"})
  picture.style.backgroundSize = `calc(${facts.sprite_columns} * var(--side)) auto`
  picture.style.backgroundPosition = `calc(${-column} * var(--side)) calc(${-row} * var(--side))`
  picture.dataset.place = place
  return picture
}

function list_labels(place) {  // what the layers say of a place
  const known = layers.slice(0, SIMILARITY + 1).filter((layer) => !Number.isNaN(layer.values[place]))
  return make("dl", {}, ...known.flatMap((layer) => [
    make("dt", {textContent: layer.title}), make("dd", {textContent: describe(layer, place)})]))
}

function show_card(place, x, y) {
  const card = by_id("card")
  card.style.display = place < 0 ? "none" : "block"
  if (place < 0) return
  card.replaceChildren(make_picture(place), make("b", {textContent: describe_place(place)}),
    make("small", {textContent: describe_position(place)}), list_labels(place))
  const {width, height} = card.getBoundingClientRect()
  card.style.left = `${Math.max(0, x + width + 24 > innerWidth ? x - width - 12 : x + 12)}px`
  card.style.top = `${clamp(y + 12, 0, Math.max(0, innerHeight - height - 8))}px`
}

// ---- Beside the panels
const LISTED = 20  // places of a lasso

function show_legend() {
  const layer = layers[state.layer]
  const shown = is_shown.reduce((sum, value) => sum + value, 0)
  const heading = shown < num_places ? `${count(shown)} of ${count(num_places)} places` : `${count(num_places)} places`
  const title = make("h2", {textContent: `${layer.title}: ${heading}`})
  const legend = layer.names.length ? make_class_legend(layer) : make_scale(layer)
  const labels = layer.names.length || state.place < 0 ? [] : [list_labels(state.place)]
  by_id("legend").replaceChildren(title, legend, ...labels)
}

function count(number) {
  return number.toLocaleString("en")
}

function make_class_legend(layer) {
  const counts = new Uint32Array(layer.names.length)
  const is_inside = state.lasso ? make_lasso_test() : () => true
  layer.values.forEach((value, i) => { if (!Number.isNaN(value) && is_inside(i)) counts[value]++ })
  return make("div", {className: "classes"}, ...layer.names.map((name, number) => {
    const dot = make("i")
    dot.style.background = layer.colors[number]
    const row = make("button", {type: "button", className: "row"}, dot, make("span", {textContent: name}),
      make("span", {className: "end", textContent: count(counts[number])}))
    row.setAttribute("aria-pressed", state.classes.has(number))
    row.classList.toggle("faded", state.classes.size > 0 && !state.classes.has(number))
    row.onclick = () => {
      state.classes.delete(number) || state.classes.add(number)
      refresh()
    }
    return row
  }))
}

function make_scale(layer) {
  const bar = make("div", {className: "bar"})
  bar.style.background = `linear-gradient(90deg, ${layer.colors.join()})`
  const [low, high] = [layer.low, layer.high].map((value) => format_quantity(layer, value))
  const ends = make("div", {className: "ends"}, make("span", {textContent: low}), make("span", {textContent: high}))
  const note = state.layer === SIMILARITY ? "Cosine of the embeddings; 0 and less is the palest colour." : ""
  return make("div", {}, bar, ends, make("div", {className: "hint", textContent: note}))
}

function make_row(place, mark) {
  const similarity = layers[SIMILARITY].values[place]
  const about = `${describe_position(place)} · ${describe(layers[0], place)}`
  const row = make("button", {type: "button", className: "row"},
    ...(mark ? [make("span", {className: "mark", textContent: mark})] : []),
    make_picture(place), make("span", {}, make("b", {textContent: describe_place(place)}),
      make("small", {textContent: about})),
    make("span", {className: "end", textContent: Number.isNaN(similarity) ? "" : similarity.toFixed(2)}))
  row.onclick = () => touch(place)
  return row
}

function show_answer() {
  const rows = [], is_touched = state.place >= 0
  marks = is_touched ? [{place: state.place, text: ""}] : []
  const heading = (textContent) => rows.push(make("h2", {textContent}))
  if (is_touched) {
    heading(`Most similar on other continents, ${count(facts.far_km)} km away or more`)
    rows.push(make_row(state.place))
    find_most_similar().forEach((place, i) => {
      marks.push({place, text: String(i + 1)})
      rows.push(make_row(place, String(i + 1)))
    })
  } else if (!state.lasso) {
    heading("Touch any place")
    rows.push(make("p", {className: "hint", textContent:
      "Every other place is then coloured by how similar its embedding is, and the most similar " +
      "places on other continents are listed here. Drag to move, scroll or pinch to zoom. With " +
      "“Lasso” on, draw around an island of one panel to see where its places are in the other."}))
  }
  if (state.lasso) {
    const similarity = layers[SIMILARITY].values
    const inside = [...is_shown.keys()].filter((i) => is_shown[i])
    if (is_touched) inside.sort((a, b) => similarity[b] - similarity[a])
    heading(`In the lasso: ${count(inside.length)} places${is_touched ? ", most similar first" : ""}`)
    rows.push(...inside.slice(0, LISTED).map((place) => make_row(place)))
  }
  by_id("answer").lastChild.replaceChildren(...rows)
}

function make_slider(caption, limits, get, set) {  // a label with a slider that knows its value
  const input = make("input", {type: "range", ...limits})
  const output = make("output")
  const label = make("label", {}, caption, input, output)
  input.oninput = () => { set(Number(input.value)); refresh() }
  label.update = () => {
    input.value = get()
    input.disabled = !state.query
    output.textContent = output.describe(get())
  }
  return label
}

function make_sliders() {
  const few = make_slider("", {min: 1, max: num_numbers}, () => state.numbers,
    (value) => { state.numbers = value })
  few.className = "first"
  few.querySelector("output").describe = (value) => `compared: the first ${value} of ${num_numbers}`
  const sliders = [...Array(facts.num_sliders).keys()].map((k) => {
    const layer = SIMILARITY + 1 + k, {high} = layers[layer]
    const button = make("button", {type: "button", textContent: k + 1, title: layers[layer].title})
    button.onclick = () => choose_layer(layer)
    const slider = make_slider(button, {min: -high, max: high, step: high / 100},
      () => state.query?.[k] ?? 0, (value) => { state.query[k] = value })
    slider.querySelector("output").describe = (value) => value.toFixed(2).replace("-", "−")
    return slider
  })
  by_id("numbers").replaceChildren(make("h2", {textContent: "The numbers of the embedding"}), few,
    ...sliders, make("p", {className: "hint", textContent:
      "What if a number of the touched place were another? A button colours by its number."}))
  return [few, ...sliders]
}

// ---- Search
const plain = (text) => text.normalize("NFD").replace(/[\p{M}'’]/gu, "").replace(/-/g, " ").toLowerCase().trim()
const plain_names = facts.named_places.map(([name]) => plain(name))

function find_by_name(text) {  // names that begin so, the best known first, then that hold it
  const wanted = plain(text)
  if (!wanted) return []
  const matching = (test) => plain_names.flatMap((name, i) => (test(name) ? [i] : []))
  const first = matching((name) => name.startsWith(wanted))
  const exact = first.filter((i) => plain_names[i] === wanted)
  const later = first.length < 8 ? matching((name) => name.indexOf(wanted) > 0) : []
  return [...new Set([...exact, ...first, ...later])].slice(0, 8)
}

function parse_lonlat(text) {
  const [lon, lat, ...more] = text.split(/[,;\s]+/).filter(Boolean).map(Number)
  return !more.length && Math.abs(lon) <= 180 && Math.abs(lat) <= 90 ? [lon, lat] : null
}

function suggest() {
  by_id("suggestions").replaceChildren(...find_by_name(by_id("place").value).map((i) => {
    const [name, country] = facts.named_places[i]
    const row = make("button", {type: "button", className: "row"}, make("span", {textContent: name}),
      make("small", {className: "end", textContent: country}))
    row.onclick = () => go_to(i)
    return row
  }))
}

function go_to(number) {
  const [name, , ...lonlat] = facts.named_places[number]
  by_id("place").value = name
  show_found(lonlat, name)
}

function show_found(lonlat, name) {
  by_id("suggestions").replaceChildren()
  const [place, distance_km] = find_nearest(lonlat, place_vectors)
  by_id("found").textContent = `${name}: nearest place ${count(Math.round(distance_km))} km away`
  Object.assign(map.view, {lon: lonlat[0], lat: state.globe ? lonlat[1] : map.view.lat})
  touch(place)
}

function search(text) {
  const lonlat = parse_lonlat(text), [number] = find_by_name(text)
  if (lonlat) show_found(lonlat, text)
  else if (number !== undefined) go_to(number)
  else by_id("found").textContent =
    "No town of 50,000 people, no country, nor longitude (−180 to 180), latitude (−90 to 90)."
}

// ---- Start
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
by_id("layer").append(...layers.map(({title}, value) => make("option", {value, textContent: title})))
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
window.atlas = {data, layers, state, colours, is_shown, make_lasso_test, map, plane}  // for tests, and for the curious
