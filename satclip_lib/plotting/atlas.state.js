// The second part of the atlas's script: data, state, similarity and colours.

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
const lengths = Float64Array.from({length: num_places}, (_, i) =>
  Math.sqrt(embedding_of(i).reduce((sum, value) => sum + value * value, 0)))
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
    sliders: changed_numbers().map(([k, value]) => `${k}:${round(value)}`).join(),
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
  const parts = (name) => (kept.get(name) ?? "").split(",").filter(Boolean)
  const numbers = (name) => parts(name).map(Number).filter(Number.isFinite)
  state.layer = Math.max(0, layers.findIndex((layer) => layer.title === kept.get("colour")))
  state.classes = new Set(numbers("classes"))
  const place = numbers("place")
  state.place = place.length === 2 ? find_nearest(place, place_vectors)[0] : -1
  state.query = state.place < 0 ? null : unit_embedding(state.place)
  state.numbers = clamp(Math.round(numbers("numbers")[0]), 1, num_numbers) || num_numbers
  for (const change of parts("sliders")) {
    const [k, value] = change.split(":").map(Number)
    if (state.query && k in state.query) state.query[k] = value
  }
  if (kept.has("globe")) state.globe = kept.get("globe") === "1"
  for (const [name, panel] of Object.entries(panels)) {
    const [across, up, zoom] = numbers(name), [x, y] = Object.keys(panel.home)
    if (zoom >= 1) Object.assign(panel.view, {[x]: across, [y]: up, zoom})
  }
  const [name, ...points] = parts("lasso")
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
    if (!plane.image || !map.image || by_id("atlas").dataset.ready) return
    by_id("atlas").dataset.ready = performance.now()
    setTimeout(prepare)
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
  if (!state.query) return []
  const original = unit_embedding(state.place)
  return [...state.query.entries()].filter(([k, value]) => value !== original[k])
}

let first_lengths = {numbers: 0, values: null}
function lengths_of_first(numbers) {  // kept, as a touch changes none of them
  if (first_lengths.numbers !== numbers) {
    const values = new Float64Array(num_places)
    for (let i = 0; i < num_places; i++) {
      const start = i * num_numbers
      let square = 0
      for (let k = start; k < start + numbers; k++) square += data.embeddings[k] ** 2
      values[i] = Math.sqrt(square)
    }
    first_lengths = {numbers, values}
  }
  return first_lengths.values
}

function compute_similarity(query, numbers) {  // cosine of the first numbers, for each place
  const {embeddings} = data, norms = lengths_of_first(numbers)
  const cosines = new Float64Array(num_places)
  const length = Math.hypot(...query.subarray(0, numbers))
  for (let i = 0; i < num_places; i++) {
    const start = i * num_numbers
    let product = 0
    for (let k = 0; k < numbers; k++) product += query[k] * embeddings[start + k]
    cosines[i] = product / (norms[i] * length || 1)
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
    const k = 3 * i
    const cosine = x * place_vectors[k] + y * place_vectors[k + 1] + z * place_vectors[k + 2]
    if (cosine > largest) continue
    if (!(similarity[i] <= similarity[best.get(continent)])) best.set(continent, i)
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
    const step = Math.floor((values[i] - low) / (high - low) * pixels.length)
    colours[i] = is_shown[i] ? pixels[clamp(step, 0, pixels.length - 1)] ?? unknown : muted
  }
  colours[facts.sea] = to_pixel("#f1f5f8")
  colours[facts.no_place] = to_pixel("#f7f7f7")
  colours[OUTSIDE] = 0
}

function is_chosen(number) {  // a class
  return !state.classes.size || state.classes.has(number)
}

function choose_shown() {  // in the lasso, and of the chosen classes
  const {values} = layers[state.layer]
  const is_inside = make_lasso_test()
  for (let i = 0; i < num_places; i++) {
    is_shown[i] = is_chosen(values[i]) && is_inside(i)
  }
}

function make_lasso_test() {
  if (!state.lasso) return () => true
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
    const width = Math.cos(lat)
    vectors.set([width * Math.cos(lon), width * Math.sin(lon), Math.sin(lat)], 3 * i)
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
