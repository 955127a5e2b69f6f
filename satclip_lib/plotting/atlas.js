// The body of a function that Bokeh calls once the plots are there. Arguments: source, cursor,
// goal, mapper, filter, renderers, layers, earth_radius_km; see atlas.py.
const find = (id) => document.getElementById(id)
const columns = source.data
const num_points = columns.lon.length
const sprite_columns = Number(find("atlas").dataset.spriteColumns)
let current = 0  // layer
let hidden = new Set()  // classes

const values = () => columns[`layer${current}`]
const format = (value) => value.toLocaleString("en", {maximumSignificantDigits: 4})
const degrees = (value, letters) => `${Math.abs(value).toFixed(2)}° ${letters[value < 0 ? 1 : 0]}`

function describe(layer, index) {
  const value = columns[`layer${index[0]}`][index[1]]
  if (Number.isNaN(value)) return "no data"
  return layer.names.length ? layer.names[value] : `${format(value)} ${layer.units}`
}

function show_layer(index) {
  current = index
  hidden = new Set()
  const layer = layers[current]
  mapper.setv({palette: layer.colors, low: layer.low, high: layer.high})
  const color = {field: `layer${current}`, transform: mapper}
  for (const renderer of renderers) {
    renderer.glyph.fill_color = color
    renderer.selection_glyph.fill_color = color
  }
  apply_filter()
}

function apply_filter() {
  filter.booleans = hidden.size ? Array.from(values(), (value) => !hidden.has(value)) : null
  show_legend()
}

function count_classes() {  // of the selected points, or of all
  const selected = source.selected.indices
  const counts = new Map()
  const add = (i) => counts.set(values()[i], (counts.get(values()[i]) ?? 0) + 1)
  if (selected.length) selected.forEach(add)
  else for (let i = 0; i < num_points; i++) add(i)
  return counts
}

function show_legend() {
  const layer = layers[current]
  const legend = find("legend")
  const selected = source.selected.indices.length
  legend.innerHTML = "<label></label><div></div>"
  const [heading, body] = legend.children
  heading.textContent = selected
    ? `${format(selected)} of ${format(num_points)} places selected`
    : `${format(num_points)} places`
  if (layer.names.length) {
    const counts = count_classes()
    body.className = "classes"
    layer.names.forEach((name, value) => {
      const row = document.createElement("button")
      row.type = "button"
      row.setAttribute("aria-pressed", String(!hidden.has(value)))
      row.innerHTML = "<i></i><em style='font-style:normal'></em><span></span>"
      row.children[0].style.background = layer.colors[value]
      row.children[1].textContent = name
      row.children[2].textContent = format(counts.get(value) ?? 0)
      row.onclick = () => { hidden.delete(value) || hidden.add(value); apply_filter() }
      row.ondblclick = () => {
        hidden = new Set([...layer.names.keys()].filter((other) => other !== value))
        apply_filter()
      }
      body.append(row)
    })
  } else {
    body.innerHTML = "<div class='bar'></div><div class='ends'><span></span><span></span></div>"
    body.children[0].style.background = `linear-gradient(90deg, ${layer.colors.join(",")})`
    const [low, high] = body.children[1].children
    low.textContent = format(layer.low)
    high.textContent = `${format(layer.high)} ${layer.units}`
  }
}

function mark(marks, index) {  // one point in both panels
  const picked = (name) => (index === null ? [] : [columns[name][index]])
  marks.data = Object.fromEntries(["x", "y", "east", "north"].map((name) => [name, picked(name)]))
}

function show_card(index, x, y) {
  const card = find("card")
  card.style.display = index === null ? "none" : "block"
  if (index === null) return
  card.dataset.index = index
  const [picture, heading, text] = card.children
  const side = 96
  picture.style.backgroundSize = `${sprite_columns * side}px auto`
  picture.style.backgroundPosition =
    `-${(index % sprite_columns) * side}px -${Math.floor(index / sprite_columns) * side}px`
  heading.textContent = `${degrees(columns.lon[index], "EW")}, ${degrees(columns.lat[index], "NS")}`
  text.innerText = layers.map((layer, i) => `${layer.title}: ${describe(layer, [i, index])}`).join("\n")
  const {width, height} = card.getBoundingClientRect()
  card.style.left = `${Math.max(0, x + width + 24 > innerWidth ? x - width - 12 : x + 12)}px`
  card.style.top = `${Math.max(0, Math.min(y + 12, innerHeight - height - 8))}px`
}

function search(text) {
  const [lon, lat, ...more] = text.split(/[,;\s]+/).filter(Boolean).map(Number)
  if (more.length || !(Math.abs(lon) <= 180 && Math.abs(lat) <= 90)) {
    find("found").textContent = "Longitude (−180 to 180), then latitude (−90 to 90), in degrees."
    mark(goal, null)
    return
  }
  const radians = Math.PI / 180
  let nearest = 0
  let largest = -2  // cosine of the angle between the two places
  for (let i = 0; i < num_points; i++) {
    const cosine = Math.sin(lat * radians) * Math.sin(columns.lat[i] * radians) +
      Math.cos(lat * radians) * Math.cos(columns.lat[i] * radians) *
      Math.cos((lon - columns.lon[i]) * radians)
    if (cosine > largest) [nearest, largest] = [i, cosine]
  }
  const distance_km = earth_radius_km * Math.acos(Math.min(1, largest))
  find("found").textContent =
    `nearest point ${Math.round(distance_km)} km away: ${describe(layers[current], [current, nearest])}`
  mark(goal, nearest)
}

let mouse = [0, 0]
document.addEventListener("mousemove", (event) => { mouse = [event.clientX, event.clientY] }, true)
document.addEventListener("atlas-hover", (event) => {
  const index = event.detail.length ? event.detail[event.detail.length - 1] : null  // the topmost
  mark(cursor, index)
  show_card(index, ...mouse)
})
for (const id of ["panel-plane", "panel-map"]) {
  find(id).addEventListener("mouseleave", () => { mark(cursor, null); show_card(null) })
}
find("layer").onchange = (event) => show_layer(Number(event.target.value))
find("search").onsubmit = (event) => { event.preventDefault(); search(find("place").value) }
source.selected.change.connect(() => show_legend())
show_layer(0)
find("atlas").dataset.ready = "true"
