// The first part of the atlas's script: the plane and the map that places are drawn in.
// atlas.state.js holds data, colours and state, atlas.side.js what stands beside the panels. The
// three are one module.
const by_id = (id) => document.getElementById(id)
const clamp = (value, low, high) => Math.min(high, Math.max(low, value))
const DEGREE = Math.PI / 180
const OUTSIDE = 65_533  // in place of the number of a place: beyond the edge of the globe
const TAP_PX = 6  // a finger that moved less has tapped
const MAX_ZOOM = 12
const NAME_SHIFTS_PX = [0, -20, 20, -36, 36]  // of a name in the plane that lies under a mark

// ---- Projections, in radians and Earth radii. forward: where a place is, null if it is not seen;
// inverse: the place that is there, null beyond the edge. center: longitude and latitude.
const EQUAL_EARTH = [1.340264, -0.081106, 0.000893, 0.003796]  // Savric et al. (2019), eq. 5 to 7
const HALF_ROOT_3 = Math.sqrt(3) / 2

function equal_earth_y(angle) {
  const [a, b, c, d] = EQUAL_EARTH, square = angle * angle, sixth = square ** 3
  return angle * (a + b * square + sixth * (c + d * square))
}

function equal_earth_slope(angle) {
  const [a, b, c, d] = EQUAL_EARTH, square = angle * angle, sixth = square ** 3
  return a + 3 * b * square + sixth * (7 * c + 9 * d * square)
}

const flat = {
  half_width: Math.PI / HALF_ROOT_3 / EQUAL_EARTH[0],
  half_height: equal_earth_y(Math.PI / 3),
  forward(lon, lat, center) {
    const angle = Math.asin(HALF_ROOT_3 * Math.sin(lat))
    const east = Math.atan2(Math.sin(lon - center[0]), Math.cos(lon - center[0]))
    const x = east * Math.cos(angle) / (HALF_ROOT_3 * equal_earth_slope(angle))
    return [x, equal_earth_y(angle) - this.middle(center)]
  },
  inverse(x, y, center) {
    const height = y + this.middle(center)
    if (Math.abs(height) > this.half_height) return null
    if (height !== this.height) {  // once a row of pixels: Newton's method
      this.height = height
      this.angle = height / EQUAL_EARTH[0]
      for (let i = 0; i < 6; i++) {
        this.angle -= (equal_earth_y(this.angle) - height) / equal_earth_slope(this.angle)
      }
    }
    const east = x * HALF_ROOT_3 * equal_earth_slope(this.angle) / Math.cos(this.angle)
    if (Math.abs(east) > Math.PI) return null
    return [center[0] + east, Math.asin(clamp(Math.sin(this.angle) / HALF_ROOT_3, -1, 1))]
  },
  middle: (center) => equal_earth_y(Math.asin(HALF_ROOT_3 * Math.sin(center[1]))),
}

const globe = {
  half_width: 1,
  half_height: 1,
  forward(lon, lat, center) {  // orthographic
    const east = lon - center[0]
    const depth = Math.sin(center[1]) * Math.sin(lat) +
      Math.cos(center[1]) * Math.cos(lat) * Math.cos(east)
    if (depth < 0) return null  // on the other side
    return [Math.cos(lat) * Math.sin(east), Math.cos(center[1]) * Math.sin(lat) -
      Math.sin(center[1]) * Math.cos(lat) * Math.cos(east)]
  },
  inverse(x, y, center) {
    const square = x * x + y * y
    if (square > 1) return null
    const depth = Math.sqrt(1 - square)
    const sine = Math.sin(center[1]), cosine = Math.cos(center[1])
    const lat = Math.asin(clamp(depth * sine + y * cosine, -1, 1))
    return [center[0] + Math.atan2(x, depth * cosine - y * sine), lat]
  },
}

// ---- Panels. A panel draws pixels first, then lines and text; screen positions are in pixels of
// the canvas. Positions in its own world are x and y, or longitude and latitude in degrees.
class Panel {
  constructor(id, view) {
    this.home = view  // x and y, or longitude and latitude, of the middle; zoom
    this.view = {...view}
    this.canvas = by_id(id).querySelector("canvas")
    this.context = this.canvas.getContext("2d")
    new ResizeObserver(() => this.resize()).observe(this.canvas)
    listen(this)
  }

  resize() {
    this.ratio = Math.min(2, devicePixelRatio)  // more would be slow, and not seen
    const pixels = (length) => Math.max(1, Math.round(length * this.ratio))
    this.width = this.canvas.width = pixels(this.canvas.clientWidth)
    this.height = this.canvas.height = pixels(this.canvas.clientHeight)
    this.image = this.context.createImageData(this.width, this.height)
    this.pixels = new Uint32Array(this.image.data.buffer)  // alpha, blue, green, red
    draw_soon()
  }

  draw() {
    if (!this.image) return  // not laid out yet
    this.paint()
    this.context.putImageData(this.image, 0, 0)
    this.annotate()
    if (state.lasso?.panel === this) this.draw_lasso()
    marks.forEach((mark) => this.draw_mark(mark))
  }

  zoom(factor, x, y) {  // what is under the finger stays there
    const place = this.to_world(x, y)
    this.view.zoom = clamp(this.view.zoom * factor, 1, MAX_ZOOM)
    const now = place && this.to_screen(...place)
    if (now) this.drag(x - now[0], y - now[1])
  }

  draw_mark({place, text}) {
    const at = this.to_screen(...this.position(place))
    if (!at) return
    const {context, ratio} = this
    context.beginPath()
    context.arc(...at, (text ? 9 : 7) * ratio, 0, 2 * Math.PI)
    context.lineWidth = 5 * ratio
    context.strokeStyle = "#fff"
    context.stroke()
    context.lineWidth = 2 * ratio
    context.strokeStyle = context.fillStyle = "#111"
    if (!text) return context.stroke()
    context.fill()
    context.fillStyle = "#fff"
    context.font = `${11 * ratio}px system-ui, sans-serif`
    context.textAlign = "center"
    context.textBaseline = "middle"
    context.fillText(text, at[0], at[1] + ratio / 2)
  }

  draw_lasso() {
    const {context} = this
    context.beginPath()
    for (const point of state.lasso.points) {
      const at = this.to_screen(...point)
      if (at) context.lineTo(...at)
    }
    context.closePath()
    context.lineWidth = 1.5 * this.ratio
    context.strokeStyle = "#111"
    context.setLineDash([4 * this.ratio, 3 * this.ratio])
    context.stroke()
    context.setLineDash([])
  }
}

class PlanePanel extends Panel {
  constructor(id) {
    const [x, y] = [0, 1].map((axis) => data.plane.filter((_, i) => i % 2 === axis).sort())
    super(id, {x: (x[0] + x.at(-1)) / 2, y: (y[0] + y.at(-1)) / 2, zoom: 1})
    this.extent = [x, y].map((values) => 1.1 * (values.at(-1) - values[0]) || 1)
  }

  get scale() {
    return this.view.zoom * Math.min(this.width / this.extent[0], this.height / this.extent[1])
  }

  position(place) {
    return [data.plane[2 * place], data.plane[2 * place + 1]]
  }

  to_screen(x, y) {
    const {view, scale} = this
    return [this.width / 2 + (x - view.x) * scale, this.height / 2 - (y - view.y) * scale]
  }

  to_world(x, y) {
    const {view, scale} = this
    return [view.x + (x - this.width / 2) / scale, view.y - (y - this.height / 2) / scale]
  }

  drag(x, y) {
    this.view.x -= x / this.scale
    this.view.y += y / this.scale
  }

  pick(x, y, reach = 16) {  // the nearest dot, -1 if none is near
    const [left, top] = this.to_world(x, y)
    let found = -1, nearest = (reach * this.ratio / this.scale) ** 2
    for (let i = 0; i < num_places; i++) {
      const distance = (data.plane[2 * i] - left) ** 2 + (data.plane[2 * i + 1] - top) ** 2
      if (distance < nearest) [found, nearest] = [i, distance]
    }
    return found
  }

  paint() {  // a small disc for each place; muted ones below
    const radius = (1.4 + 0.5 * Math.sqrt(this.view.zoom)) * this.ratio, reach = Math.ceil(radius)
    const halves = []  // of the rows of a disc
    for (let v = -reach; v <= reach; v++) {
      halves.push(Math.floor(Math.sqrt(Math.max(0, radius * radius - v * v))))
    }
    const {pixels, width, height, scale, view} = this
    pixels.fill(0)
    for (const layer of [false, true]) {
      for (let i = 0; i < num_places; i++) {
        if (Boolean(is_shown[i]) !== layer) continue
        const x = width / 2 + (data.plane[2 * i] - view.x) * scale
        const y = height / 2 - (data.plane[2 * i + 1] - view.y) * scale
        if (!(x > reach && y > reach && x < width - reach - 1 && y < height - reach - 1)) continue
        const left = Math.round(x), top = Math.round(y)
        for (let v = -reach; v <= reach; v++) {
          const middle = (top + v) * width + left, half = halves[v + reach]
          for (let at = middle - half; at <= middle + half; at++) pixels[at] = colours[i]
        }
      }
    }
  }

  annotate() {  // names of the islands, beside marks; the smaller class goes where two overlap
    const layer = layers[state.layer].islands.length ? layers[state.layer] : layers[0]
    const {context, ratio} = this
    context.font = `${11 * ratio}px system-ui, sans-serif`
    context.textAlign = "center"
    context.textBaseline = "middle"
    context.lineWidth = 3 * ratio
    context.strokeStyle = "#ffffffd8"
    context.lineJoin = "round"
    context.fillStyle = "#111"
    const taken = []
    const marked = marks.map(({place}) => this.to_screen(...this.position(place))).filter(Boolean)
    for (const [number, ...position] of layer.islands) {
      if (layer === layers[state.layer] && !is_chosen(number)) continue
      const half = context.measureText(layer.names[number]).width / 2
      const [center, middle] = this.to_screen(...position)
      const x = clamp(center, half + 4 * ratio, this.width - half - 4 * ratio)
      const is_free = (y, others) => others.every(([other_x, other_y, other_half = 12 * ratio]) =>
        Math.abs(x - other_x) > half + other_half + 4 * ratio || Math.abs(y - other_y) > 16 * ratio)
      if (!is_free(middle, taken) || Math.abs(x - center) > half) continue
      const y = NAME_SHIFTS_PX.map((shift) => middle + shift * ratio)
        .find((y) => is_free(y, [...taken, ...marked]))
      if (y === undefined || y < 0 || y > this.height) continue
      taken.push([x, y, half])
      context.strokeText(layer.names[number], x, y)
      context.fillText(layer.names[number], x, y)
    }
  }
}

class MapPanel extends Panel {
  constructor(id) {
    super(id, {lon: 10, lat: 0, zoom: 1})
  }

  get projection() {
    return state.globe ? globe : flat
  }

  get center() {
    return [this.view.lon * DEGREE, this.view.lat * DEGREE]
  }

  get scale() {
    const {half_width, half_height} = this.projection
    return 0.48 * this.view.zoom * Math.min(this.width / half_width, this.height / half_height)
  }

  position(place) {
    return [data.lonlat[2 * place], data.lonlat[2 * place + 1]]
  }

  to_screen(lon, lat) {
    const at = this.projection.forward(lon * DEGREE, lat * DEGREE, this.center)
    return at && [this.width / 2 + at[0] * this.scale, this.height / 2 - at[1] * this.scale]
  }

  to_world(x, y) {
    const left = (x - this.width / 2) / this.scale, up = (this.height / 2 - y) / this.scale
    const place = this.projection.inverse(left, up, this.center)
    return place && [wrap(place[0] / DEGREE), place[1] / DEGREE]
  }

  drag(x, y) {
    const highest = state.globe ? 90 : 90 * (1 - 1 / this.view.zoom)
    const shrunk = Math.max(0.2, Math.cos(this.center[1]))
    this.view.lon = wrap(this.view.lon - x / this.scale / DEGREE / shrunk)
    this.view.lat = clamp(this.view.lat + y / this.scale / DEGREE, -highest, highest)
  }

  pick(x, y) {
    const at = this.to_world(x, y)
    if (!at) return -1
    const [place, distance_km] = find_nearest(at, place_vectors)
    return distance_km <= facts.near_km ? place : -1
  }

  find_places() {  // the place of each pixel: once a view, whatever the colours are
    const key = JSON.stringify([this.view, state.globe, this.width, this.height])
    if (key === this.key) return
    this.key = key
    this.places = new Uint16Array(this.width * this.height).fill(OUTSIDE)
    const {projection, center, scale, width, height} = this
    const num_rows = Math.sqrt(data.place_of_cell.length / 2), num_columns = 2 * num_rows
    for (let y = 0, pixel = 0; y < height; y++) {
      const up = (height / 2 - y - 0.5) / scale
      for (let x = 0; x < width; x++, pixel++) {
        const place = projection.inverse((x + 0.5 - width / 2) / scale, up, center)
        if (!place) continue
        const row = Math.min(num_rows - 1, Math.floor((0.5 - place[1] / Math.PI) * num_rows))
        const turn = place[0] / (2 * Math.PI) + 0.5
        const column = Math.floor((turn - Math.floor(turn)) * num_columns)
        this.places[pixel] = data.place_of_cell[row * num_columns + column]
      }
    }
  }

  paint() {
    this.find_places()
    const {pixels, places} = this
    for (let i = 0; i < pixels.length; i++) pixels[i] = colours[places[i]]
  }

  annotate() {  // shores
    const {context, width} = this
    context.beginPath()
    let vertex = 0
    for (const length of data.shore_lengths) {
      let last = null
      for (let i = 0; i < length; i++, vertex++) {
        const at = this.to_screen(data.shores[2 * vertex], data.shores[2 * vertex + 1])
        const joined = at && last && Math.abs(at[0] - last[0]) < width / 4  // not across the edge
        if (joined) context.lineTo(...at)
        else if (at) context.moveTo(...at)
        last = at
      }
    }
    context.lineWidth = 0.6 * this.ratio
    context.strokeStyle = "#555"
    context.stroke()
  }
}

// ---- Fingers and mouse: one drags or draws a lasso, two zoom, a tap touches a place.
function listen(panel) {
  const {canvas} = panel
  const fingers = new Map()  // where each is now
  let moved = 0
  const where = (event) => {
    const box = canvas.getBoundingClientRect()
    return [(event.clientX - box.left) * panel.ratio, (event.clientY - box.top) * panel.ratio]
  }
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId)
    fingers.set(event.pointerId, where(event))
    moved = fingers.size > 1 ? Infinity : 0
    show_card(-1)
  }
  canvas.onpointermove = (event) => {
    const now = where(event), before = fingers.get(event.pointerId)
    if (!before) {
      if (event.pointerType === "mouse") show_card(panel.pick(...now), event.clientX, event.clientY)
      return
    }
    const start = moved < TAP_PX * panel.ratio
    moved += Math.hypot(now[0] - before[0], now[1] - before[1])
    if (moved < TAP_PX * panel.ratio) return
    fingers.set(event.pointerId, now)
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at)
      const distance = (at) => Math.hypot(at[0] - other[0], at[1] - other[1])
      panel.zoom(distance(now) / Math.max(1, distance(before)), ...other)
    } else if (is_lasso_on()) {
      extend_lasso(panel, panel.to_world(...now), start)
    } else {
      panel.drag(now[0] - before[0], now[1] - before[1])
    }
    draw_soon()
  }
  canvas.onpointerup = (event) => {
    fingers.delete(event.pointerId)
    if (moved < TAP_PX * panel.ratio) touch(panel.pick(...where(event)), panel)
    else if (is_lasso_on()) refresh()
    save_soon()
  }
  canvas.onpointercancel = (event) => fingers.delete(event.pointerId)
  canvas.onpointerleave = () => show_card(-1)
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault()
    panel.zoom(Math.exp(-event.deltaY / 500), ...where(event))
    draw_soon()
    save_soon()
  }, {passive: false})
}
