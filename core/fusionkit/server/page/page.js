// The page of `fusionkit serve`. All that it shows comes from the machine that it came from.
const $ = (selector, root = document) => root.querySelector(selector);
const COLORS = ["#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#666666", "#f0e442"];
const MOST = 4, MANY = 8; // methods; sources up to which each is shown in full
const SQUARES = 8, BLINK = 700; // squares along the longer side; milliseconds that a source is seen

const state = { catalog: null, session: null, info: null, files: [], scenes: [], many: [], all: null, sources: [], methods: [], odd: false, view: { zoom: 1, x: 0.5, y: 0.5 }, run: 0 };

async function ask(path, how = {}) {
  // one address is asked for a result and told to cancel it; a cache would make the second wait for the first
  const response = await fetch(path, { cache: "no-store", ...how }).catch(() => { throw new Error("The server does not answer; is fusionkit serve still running?"); });
  if (!response.ok) {
    let text = `${response.status}`;
    try { text = (await response.json()).error ?? text; } catch { /* not JSON */ }
    throw new Error(text);
  }
  return response;
}
const json = async (path, how) => (await ask(path, how)).json();
const post = (path, body) => json(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
const say = (text, failed = false) => { $("#status").textContent = text; $("#status").classList.toggle("failed", failed); };
const element = (tag, fields = {}, ...children) => { const e = Object.assign(document.createElement(tag), fields); e.append(...children); return e; };

// --- pictures: decoded once, drawn through one view ------------------------------------------------------------------
class Picture {
  constructor(canvas, label) {
    this.canvas = canvas; this.label = label; this.bitmap = null; this.data = null; this.under = []; this.mode = "";
    canvas.setAttribute("aria-label", label);
    listen(this);
  }
  async load(path, map = false) {
    const bitmap = await createImageBitmap(await (await ask(path)).blob());
    const whole = new OffscreenCanvas(bitmap.width, bitmap.height), context = whole.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    this.bitmap?.close();
    this.bitmap = bitmap;
    if (!map) this.data = context.getImageData(0, 0, bitmap.width, bitmap.height); // values are the result's, not a map's
    this.canvas.width = bitmap.width; this.canvas.height = bitmap.height;
    this.canvas.style.setProperty("--ratio", bitmap.width / bitmap.height);
    this.canvas.classList.remove("stale");
    this.draw();
  }
  clear() {
    for (const bitmap of [this.bitmap, ...this.under]) bitmap?.close();
    this.bitmap = this.data = null; this.under = [];
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }
  // the part of a bitmap that is seen, in its own pixels
  part({ width, height }) {
    const { zoom, x, y } = state.view, w = width / zoom, h = height / zoom;
    return [Math.min(Math.max(x * width - w / 2, 0), width - w), Math.min(Math.max(y * height - h / 2, 0), height - h), w, h];
  }
  draw() {
    if (!this.bitmap) return;
    const context = this.canvas.getContext("2d"), { width, height } = this.canvas;
    const paint = (bitmap) => context.drawImage(bitmap, ...this.part(bitmap), 0, 0, width, height);
    const within = (path, bitmap) => { context.save(); context.beginPath(); path(); context.clip(); paint(bitmap); context.restore(); };
    context.imageSmoothingEnabled = state.view.zoom < 3;
    context.clearRect(0, 0, width, height);
    const share = Number($("#split").value) / 100, [main, other] = this.pair?.() ?? [];
    if (this.mode && main) {
      const side = Math.max(width, height) / SQUARES;
      if (this.mode === "blink") paint(state.odd ? other : main);
      else {
        paint(main);
        within(() => { for (let j = 0; j * side < height; j++) for (let i = j % 2; i * side < width; i += 2) context.rect(i * side, j * side, side, side); }, other);
      }
    } else {
      paint(this.bitmap);
      const before = this.ofMethod && share > 0 && (this.under[Number($("#before").value)] ?? state.sources[Number($("#before").value)]?.picture.bitmap);
      if (before) {
        const edge = Math.round(share * width);
        within(() => context.rect(0, 0, edge, height), before);
        context.fillStyle = "#fff"; context.fillRect(edge - 1, 0, Math.max(2, width / 600), height);
      }
    }
    this.canvas.classList.toggle("zoomed", state.view.zoom > 1);
  }
  // [0, 1] of the picture for a place on the canvas
  place(event) {
    const box = this.canvas.getBoundingClientRect(), [left, top, w, h] = this.part(this.bitmap);
    return [(left + (event.clientX - box.left) / box.width * w) / this.bitmap.width, (top + (event.clientY - box.top) / box.height * h) / this.bitmap.height];
  }
  value(x, y) {
    if (!this.data) return null;
    const i = Math.min(Math.floor(x * this.data.width), this.data.width - 1), j = Math.min(Math.floor(y * this.data.height), this.data.height - 1);
    return this.data.data.slice(4 * (j * this.data.width + i), 4 * (j * this.data.width + i) + 3);
  }
}
const pictures = () => [...state.sources.map((s) => s.picture), ...state.methods.map((m) => m.picture)];
function look(zoom, x, y) {
  const z = Math.min(Math.max(zoom, 1), 32), half = 0.5 / z;
  state.view = { zoom: z, x: Math.min(Math.max(x, half), 1 - half), y: Math.min(Math.max(y, half), 1 - half) };
  $("#zoom").textContent = z === 1 ? "fit" : `${z.toFixed(1)}×`;
  pictures().forEach((p) => p.draw());
}
function listen(picture) {
  const { canvas } = picture, pointers = new Map();
  let apart = 0;
  canvas.addEventListener("wheel", (event) => {
    if (!(event.ctrlKey || event.metaKey) || !picture.bitmap) return; // else the page scrolls
    event.preventDefault();
    const [x, y] = picture.place(event), { zoom } = state.view, factor = Math.exp(-event.deltaY / 300);
    look(zoom * factor, x + (state.view.x - x) / factor, y + (state.view.y - y) / factor);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { pointers.set(event.pointerId, event); apart = 0; });
  canvas.addEventListener("pointermove", (event) => {
    if (!picture.bitmap) return;
    const before = pointers.get(event.pointerId);
    if (before && (state.view.zoom > 1 || pointers.size > 1)) {
      canvas.setPointerCapture(event.pointerId);
      const box = canvas.getBoundingClientRect(), { zoom, x, y } = state.view;
      pointers.set(event.pointerId, event);
      if (pointers.size === 2) {
        const [a, b] = [...pointers.values()], distance = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        if (apart) look(zoom * distance / apart, x, y);
        apart = distance;
      } else look(zoom, x - (event.clientX - before.clientX) / box.width / zoom, y - (event.clientY - before.clientY) / box.height / zoom);
    }
    values(...picture.place(event));
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) canvas.addEventListener(name, (event) => { pointers.delete(event.pointerId); apart = 0; });
  canvas.addEventListener("keydown", (event) => {
    const { zoom, x, y } = state.view, step = 0.1 / zoom;
    const to = { "+": [zoom * 1.5, x, y], "=": [zoom * 1.5, x, y], "-": [zoom / 1.5, x, y], 0: [1, 0.5, 0.5], ArrowLeft: [zoom, x - step, y], ArrowRight: [zoom, x + step, y], ArrowUp: [zoom, x, y - step], ArrowDown: [zoom, x, y + step] }[event.key];
    if (!to || (zoom === 1 && event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    look(...to);
    values(state.view.x, state.view.y);
  });
}
function values(x, y) {
  const rows = pictures().filter((p) => p.data).map((p) => {
    const rgb = p.value(x, y), grey = Math.round(0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]);
    return element("tr", {}, element("th", { scope: "row", textContent: p.label }), element("td", { textContent: [...rgb].join(", ") }), element("td", { textContent: `luma ${grey}` }));
  });
  $("#values tbody").replaceChildren(...rows);
  $("#pointer").textContent = pictures().filter((p) => p.data).map((p) => `${p.label} ${[...p.value(x, y)].join(" ")}`).join("  ·  ");
  if (state.info.sources.some((s) => s.depth !== "8")) stored(x, y);
}
// counts or degrees, which the pictures that a browser shows do not have; one question at a time, the last one counts
let asking = false, next = null;
async function stored(x, y) {
  next = [x, y];
  if (asking) return;
  asking = true;
  try {
    for (let at; (at = next);) {
      next = null;
      const found = await json(`api/sessions/${state.session}/values?x=${at[0]}&y=${at[1]}`);
      const told = [...state.sources.map((s) => [s.picture, found.sources[s.number]]), ...state.methods.map((m) => [m.picture, found.results[m.result]])].filter(([p, v]) => p.data && v);
      if (next) continue;
      const text = (v) => v.map((n) => Number(n.toPrecision(6))).join(", ");
      $("#pointer").textContent = told.map(([p, v]) => `${p.label} ${text(v)}`).join("  ·  ");
      $("#values tbody").replaceChildren(...told.map(([p, v]) => element("tr", {}, element("th", { scope: "row", textContent: p.label }), element("td", { textContent: text(v) }), element("td", { textContent: "stored" }))));
    }
  } catch { /* the session is over: the next fusion says so */ } finally { asking = false; }
}
function histogram() {
  const canvas = $("#histogram"), context = canvas.getContext("2d"), shown = pictures().filter((p) => p.data), legend = [];
  context.clearRect(0, 0, canvas.width, canvas.height);
  shown.forEach((p, k) => {
    const bins = new Float64Array(256), d = p.data.data, step = 4 * Math.max(1, Math.floor(d.length / 4 / 400000));
    for (let i = 0; i < d.length; i += step) bins[Math.round(0.299 * d[i] + 0.587 * d[i + 1] + 0.114 * d[i + 2])] += 1;
    const top = Math.max(...[...bins].slice(2, 254), 1);
    context.strokeStyle = COLORS[k % COLORS.length]; context.lineWidth = 2; context.beginPath();
    bins.forEach((n, i) => context.lineTo(i / 255 * canvas.width, canvas.height - Math.min(n / top, 1) * (canvas.height - 4)));
    context.stroke();
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = context.strokeStyle;
    legend.push(swatch, p.label);
  });
  $("#legend").replaceChildren(...legend);
}

// --- files -----------------------------------------------------------------------------------------------------------
async function entries(items) {
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) {
      const file = await new Promise((done, fail) => entry.file(done, fail));
      file.path = entry.fullPath.slice(1);
      found.push(file);
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (let some; (some = await new Promise((done, fail) => reader.readEntries(done, fail))).length;) for (const one of some) await walk(one);
    }
  };
  for (const entry of [...items].map((i) => i.webkitGetAsEntry?.()).filter(Boolean)) await walk(entry);
  return found;
}
const pathOf = (file) => file.path || file.webkitRelativePath || file.name;
// what belongs together is decided by the names, as `fusionkit run --pairs` does
async function take(files) {
  state.files = state.files.length === 1 ? [...state.files, ...files] : files; // some pick one at a time
  for (const id of ["patterns", "group"]) $(`#${id}`).value = "";
  await match();
}
async function match() {
  if (state.all) state.all.stopped = true;
  try {
    const found = await post("api/scenes", { names: state.files.map(pathOf), patterns: $("#patterns").value, group: Number($("#group").value) });
    const scenes = found.scenes.map((s) => ({ name: s.name, files: s.files.map((i) => state.files[i]), mark: "" }));
    if (scenes[0].files.length < 2) {
      const [here] = scenes[0].files, others = state.files.filter((file) => file !== here).map((file) => file.name);
      state.files = [here];
      const out = others.length ? `${others.join(", ")}: no picture of a kind that is read here. ` : "";
      return say(`${out}${here.name} is here; two files or more make one picture: add another one.`, true);
    }
    Object.assign(state, { scenes, many: found.many });
    $("#patterns").value = found.patterns;
    const of = `${scenes[0].files.length} files`, left = found.left ? `, ${found.left} file${found.left > 1 ? "s" : ""} left out` : "";
    $("#matched").textContent = (scenes.length > 1 ? `${scenes.length} scenes of ${of}` : `One scene of ${of}`) + left;
    $("#scenes").hidden = state.files.length < 3;
    $("#all").hidden = $("#scene-field").hidden = scenes.length < 2;
    $("#all").textContent = `Fuse all ${scenes.length}`;
    marked();
    await open(scenes[0]);
  } catch (error) { say(error.message, true); }
}
// the list of scenes with what is known of each, doubtful ones first in the table
function marked() {
  const marks = { done: "✓ ", doubtful: "! ", failed: "✗ ", going: "… " }, chosen = $("#pair").value;
  // what is noted of most scenes is no reason to doubt one of them
  const kind = (text) => text.replace(/[\d.]+/g, ""), all = state.scenes.filter((s) => s.doubts), kinds = all.flatMap((s) => [...new Set(s.doubts.map(kind))]);
  const common = new Set(kinds.filter((k) => all.length > 2 && kinds.filter((o) => o === k).length > all.length / 2));
  for (const scene of all) {
    const own = scene.doubts.filter((text) => !common.has(kind(text)));
    Object.assign(scene, { mark: own.length ? "doubtful" : "done", said: own.join("; ") });
  }
  const usual = [...common].map((k) => all.flatMap((s) => s.doubts).find((text) => kind(text) === k));
  $("#usual").textContent = usual.length ? `Of most scenes, as here: ${usual.join("; ")}` : "";
  $("#pair").replaceChildren(...state.scenes.map((s, i) => element("option", { value: i, textContent: `${marks[s.mark] ?? ""}${s.name}` })));
  if (state.scenes[chosen]) $("#pair").value = chosen;
  const rank = ["failed", "doubtful", "done"], over = state.scenes.filter((s) => rank.includes(s.mark)).sort((a, b) => rank.indexOf(a.mark) - rank.indexOf(b.mark));
  const counts = rank.map((r) => [r, over.filter((s) => s.mark === r).length]).filter(([, n]) => n).map(([r, n]) => `${n} ${r}`);
  $("#review").hidden = !over.length;
  $("#review summary").textContent = `Fused: ${counts.join(", ")}`;
  $("#review tbody").replaceChildren(...over.map((s) => {
    const button = element("button", { type: "button", textContent: s.name });
    button.addEventListener("click", () => go(state.scenes.indexOf(s)));
    return element("tr", { className: s.mark }, element("th", { scope: "row" }, button), element("td", { textContent: s.mark }), element("td", { textContent: s.said }));
  }));
}
function go(number) { $("#pair").value = number; open(state.scenes[number]); }
async function send(session, files) {
  await Promise.all(files.map((file, i) => ask(`api/sessions/${session}/files/${i}?name=${encodeURIComponent(file.name)}`, { method: "PUT", body: file })));
}
const opened = async () => (await json("api/sessions", { method: "POST" })).session;
const closed = (session) => ask(`api/sessions/${session}`, { method: "DELETE" }).catch(() => {});
async function open(scene) {
  const run = ++state.run, { files, bytes } = state.catalog.limits;
  if (scene.files.length > files) return say(`At most ${files} files make one scene; these are ${scene.files.length}. Say below which files belong together.`, true);
  const large = scene.files.find((f) => f.size > bytes);
  if (large) return say(`${large.name} is larger than ${bytes / 1e6} MB.`, true);
  const few = scene.files.length > 4 ? `${scene.files.length} files` : scene.files.map((f) => f.name).join(", ");
  say(`Reading ${few} …`);
  await begin(run, scene.files.map(pathOf), (session) => send(session, scene.files));
}
// every scene by the first method's choices, at full size, each in a session of its own; results are saved one by one
async function fuseAll() {
  const all = state.all = { began: performance.now(), done: 0, count: state.scenes.length, stopped: false }, { scenes } = state, choices = state.methods[0].choices();
  for (const scene of scenes) {
    let session;
    Object.assign(scene, { mark: "going", said: "", doubts: null }); marked(); jobs();
    try {
      session = await opened();
      await send(session, scene.files);
      await json(`api/sessions/${session}/read`, { method: "POST" });
      const { result } = await post(`api/sessions/${session}/results`, { choices, full: true }), path = `api/sessions/${session}/results/${result}`;
      let now;
      while (!all.stopped && ["waiting", "running"].includes((now = await json(path)).status));
      if (all.stopped) { scene.mark = ""; break; }
      if (now.status !== "done") throw new Error(now.reason);
      await save(`${path}/file`, scene.name);
      scene.doubts = now.notes.filter((n) => n.doubt).map((n) => n.text);
    } catch (error) { Object.assign(scene, { mark: "failed", said: error.message }); } finally { if (session) closed(session); }
    all.done += 1;
    marked(); jobs();
  }
  if (state.all === all) state.all = null;
  if (state.scenes === scenes) { marked(); $("#review").open = scenes.some((s) => ["failed", "doubtful"].includes(s.mark)); }
  jobs();
}
// name: of a scene, which its result is saved under
async function save(path, name) {
  const answer = await ask(path), ending = answer.headers.get("Content-Disposition").match(/\.\w+$/)[0];
  const link = element("a", { href: URL.createObjectURL(await answer.blob()), download: `${name}-fused${ending}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
// fill: brings the files of a new session; without it, the session is there already. methods: as `remember` has them
async function begin(run, given, fill, known = null, methods = []) {
  try {
    const session = known ?? await opened();
    await fill?.(session);
    const info = await json(`api/sessions/${session}/read`, { method: "POST" });
    if (run !== state.run) return closed(session);
    const old = state.session; // only now: what cannot be read leaves what is there
    Object.assign(state, { session, info });
    if (old) closed(old);
    state.names = given ?? info.sources.map((s) => s.name);
    const names = info.sources.map((s) => s.name), twice = new Set(names).size < names.length;
    state.labels = twice ? state.names.map((n, i) => (n.includes("/") ? n.split("/").slice(-2).join("/") : `${n} (${i + 1})`)) : names;
    $("#view").hidden = $("#below").hidden = false;
    $("#add").disabled = false;
    look(1, 0.5, 0.5);
    $("#empty").hidden = true;
    if (methods.length) methods.forEach(([choice, chosen]) => add(choice, chosen));
    else if (!state.methods.length) add();
    else state.methods.forEach((m) => m.fuse());
    await showSources();
    recognised();
  } catch (error) { if (run === state.run) say(error.message, true); }
}
const recognised = () => say(`Recognised as ${state.info.scene}.`);
async function showSources() {
  state.sources = state.info.sources.map((source, i) => {
    const panel = $("#source-panel").content.cloneNode(true).firstElementChild;
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = COLORS[i % COLORS.length]; // its colour in the histogram and in maps of trust
    $(".name", panel).append(swatch, state.labels[i]);
    const about = [`${source.width}×${source.height}`, source.depth === "float" ? "float" : `${source.depth} bits`, source.color ? "colour" : "grey"];
    about.push(source.noise >= 1.5 ? `noise ${source.noise} levels` : "no noise found");
    if (source.apart) about.push(`looks ${source.apart} px off: choose align`);
    $(".about", panel).textContent = [...about, ...source.notes].join(", ");
    return { panel, picture: new Picture($(".picture", panel), state.labels[i]), number: i };
  });
  $("#sources").replaceChildren(...state.sources.map((s) => s.panel));
  $("#before").replaceChildren(...state.sources.map((s) => element("option", { value: s.number, textContent: s.picture.label })));
  const side = state.sources.length > MANY ? "?side=800" : "";
  await Promise.all(state.sources.map((s) => s.picture.load(`api/sessions/${state.session}/sources/${s.number}${side}`)));
  histogram();
}

// --- methods ---------------------------------------------------------------------------------------------------------
function control(field, change) {
  const { schema } = field, first = schema.anyOf?.find((s) => s.type !== "null") ?? schema, initial = schema.default?.length === 0 ? "" : schema.default ?? "";
  let input;
  if (first.enum || first.const !== undefined) {
    input = element("select", {}, ...(first.enum ?? [first.const]).map((v) => element("option", { value: v, textContent: v })));
    input.value = initial;
  } else if (first.type === "boolean") input = element("input", { type: "checkbox", checked: Boolean(initial) });
  else if (first.type === "number" || first.type === "integer") {
    input = element("input", { type: "number", step: first.type === "integer" ? 1 : "any", value: initial });
    for (const [key, bound] of [["minimum", "min"], ["exclusiveMinimum", "min"], ["maximum", "max"], ["exclusiveMaximum", "max"]]) if (first[key] !== undefined) input[bound] = first[key];
  } else input = element("input", { type: "text", value: typeof initial === "object" ? JSON.stringify(initial) : initial });
  input.addEventListener("change", change);
  const read = () => {
    const value = first.type === "boolean" ? input.checked : input.value;
    if (String(value) === String(typeof initial === "object" ? JSON.stringify(initial) : initial)) return undefined;
    if (first.type === "number" || first.type === "integer") return value === "" ? undefined : Number(value);
    if (first.type === "array" || first.type === "object") { try { return JSON.parse(value); } catch { return value; } }
    return value;
  };
  const write = (value) => { if (first.type === "boolean") input.checked = value; else input.value = typeof value === "object" ? JSON.stringify(value) : value; };
  const label = element("label", { title: field.type }, element("span", { textContent: field.name.replaceAll("_", " ") }), input, element("small", { textContent: field.description }));
  return { name: field.name, read, write, label };
}
class Method {
  constructor(choice, chosen = {}) {
    this.panel = $("#method-panel").content.cloneNode(true).firstElementChild;
    this.picture = new Picture($(".picture", this.panel), "result");
    this.picture.ofMethod = true;
    this.picture.pair = () => this.pair();
    this.select = $(".choice", this.panel);
    const option = (value, text, extra = {}) => element("option", { value, textContent: text, ...extra });
    const priors = element("optgroup", { label: "Priors" });
    priors.append(...state.catalog.priors.map((p) => option(`prior:${p.name}`, p.name, { disabled: Boolean(p.missing.length || p.broken), title: p.missing.length ? `needs ${p.missing.join(", ")}` : p.summary })));
    this.select.append(option("", "default"), priors);
    this.select.value = choice;
    this.select.addEventListener("change", () => { this.form(); this.fuse(); });
    $(".shown", this.panel).addEventListener("change", () => this.show());
    $(".remove", this.panel).addEventListener("click", () => remove(this));
    $(".cancel", this.panel).addEventListener("click", () => this.cancel());
    $(".download", this.panel).addEventListener("click", (event) => {
      if (this.panel.dataset.done) return;
      event.preventDefault(); // it comes with the full size
      this.wanted = true;
      ask(`${this.path}/want`, { method: "POST" }).catch(() => {});
    });
    $(".metrics", this.panel).addEventListener("toggle", () => this.figures());
    for (const button of this.panel.querySelectorAll(".copy")) button.addEventListener("click", () => this.copy(button));
    this.form();
    this.set(chosen);
  }
  form() {
    const name = this.select.value.slice("prior:".length), change = () => this.fuse();
    const prior = state.catalog.priors.find((p) => p.name === (name || state.catalog.defaults.prior));
    $(".summary", this.panel).textContent = prior?.summary ?? "";
    this.own = (prior?.options ?? []).map((f) => control(f, change));
    const asked = state.catalog.asked.filter((f) => !name || f.name !== "task").map((f) => control(f, change)); // a task is a choice of the default
    this.fields = state.catalog.fields.map((f) => control(f.name === "color" ? { ...f, schema: { enum: state.catalog.colors, default: state.catalog.defaults.color } } : f, change));
    this.sampling = state.catalog.sampling.map((f) => control(f, change));
    $(".asked", this.panel).replaceChildren(...asked.map((c) => c.label));
    const groups = [["Sources and result", this.fields], [`The prior ${prior?.name ?? ""}`, this.own], ["Sampling", this.sampling]];
    $(".more", this.panel).replaceChildren(...groups.filter(([, of]) => of.length).flatMap(([title, of]) => [element("h3", { textContent: title }), ...of.map((c) => c.label)]));
    this.fields.unshift(...asked);
    this.picture.label = this.select.selectedOptions[0].textContent;
  }
  // choices as `choices()` gives them
  set({ prior, prior_options: own = {}, sampler = {}, ...fields }) {
    for (const [controls, values] of [[this.fields, fields], [this.own, own], [this.sampling, sampler]]) for (const c of controls) if (c.name in values) c.write(values[c.name]);
  }
  choices() {
    const [kind, name] = this.select.value.split(/:(.*)/s), chosen = (controls) => Object.fromEntries(controls.map((c) => [c.name, c.read()]).filter(([, v]) => v !== undefined));
    const result = { ...(kind ? { [kind]: name } : {}), ...chosen(this.fields) }, own = chosen(this.own), sampler = chosen(this.sampling);
    if (Object.keys(own).length) result.prior_options = own;
    if (Object.keys(sampler).length) result.sampler = sampler;
    return result;
  }
  said(text, failed = false) { const p = $(".said", this.panel); p.textContent = text; p.classList.toggle("failed", failed); }
  // what was there is of other choices, or of another scene
  forget() {
    if (this.of !== state.session) this.picture.clear();
    this.picture.canvas.classList.add("stale");
    $(".which", this.panel).textContent = "";
    this.of = state.session; this.values = null;
    delete this.panel.dataset.done;
    this.picture.mode = ""; this.picture.under.forEach((b) => b.close()); this.picture.under = [];
    this.picture.canvas.hidden = false; $(".instead", this.panel).hidden = true;
    $(".metrics", this.panel).dataset.of = "";
    $(".notes", this.panel).replaceChildren();
    $(".metrics tbody", this.panel).replaceChildren();
  }
  // stands where the picture would, with what mends it
  failed(text, mends = []) {
    this.picture.clear();
    this.said("");
    const instead = $(".instead", this.panel);
    $("p", instead).textContent = text;
    $(".actions", instead).replaceChildren(...mends.map(({ label, choices }) => {
      const button = element("button", { type: "button", textContent: label });
      button.addEventListener("click", () => { this.set(choices); this.fuse(); });
      return button;
    }));
    instead.classList.remove("calm");
    this.picture.canvas.hidden = true; instead.hidden = false;
    histogram();
  }
  going(now) {
    const seconds = `about ${now.left < 1 ? 1 : Math.round(now.left)} s`, nth = (n) => `${n}${["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] ?? "th"}`;
    const [what, of] = now.preview ? [`Preview at 1/${now.preview} size; ${this.wanted ? "download" : "full size"}: `, ""] : ["", "Fusing: "];
    this.share = now.share;
    this.said(what + (now.status === "waiting" ? `${nth(now.place)} in line, ${seconds}` : now.left > 0 ? `${of}${Math.round(100 * now.share)} %, ${seconds} left` : `${of}it takes longer than estimated`));
    jobs();
  }
  // a job whose number is not known yet is cancelled as soon as it is
  async cancel() { this.unwanted = this.run; if (this.path) await this.drop(this.path); }
  drop(path) { return ask(path, { method: "DELETE" }).catch(() => {}); }
  async fuse() {
    if (!state.session) return;
    if (this.path && this.of === state.session) this.drop(this.path); // the server keeps what is shown
    const run = this.run = (this.run ?? 0) + 1;
    this.busy = true; this.result = this.path = null; this.share = 0; this.wanted = false;
    this.forget();
    this.said("Fusing …");
    remember();
    $(".cancel", this.panel).hidden = false;
    $(".download", this.panel).hidden = $(".recipe", this.panel).hidden = true;
    try {
      const results = `api/sessions/${state.session}/results`, { result } = await post(results, { choices: this.choices() });
      if (run !== this.run || run === this.unwanted) await this.drop(`${results}/${result}`);
      if (run !== this.run) return;
      this.result = result; this.path = `${results}/${result}`;
      let now, seen = false;
      while (run === this.run && ["waiting", "running"].includes((now = await json(this.path)).status)) if (run === this.run) {
        if (now.preview && !seen) { seen = true; await this.preview(); }
        this.going(now);
      }
      if (run !== this.run) return;
      if (now.status === "cancelled") {
        if (seen) return this.said("full size cancelled");
        this.failed("Cancelled.", [{ label: "Fuse again", choices: {} }]);
        $(".instead", this.panel).classList.add("calm");
        return this.said("cancelled");
      }
      if (now.status !== "done") return this.failed(now.reason, now.mends);
      this.reference = now.reference;
      await this.show(true);
      if (run !== this.run) return;
      this.said(`${now.seconds.toFixed(2)} s`);
      $(".notes", this.panel).replaceChildren(...now.notes.map((n) => element("li", { textContent: n.text, className: n.doubt ? "doubt" : "" })));
      this.downloads();
      this.panel.dataset.done = result;
      if (this.wanted) $(".download", this.panel).click();
      await this.figures();
    } catch (error) { if (run === this.run) this.failed(error.message); } finally {
      if (run === this.run) { this.busy = false; $(".cancel", this.panel).hidden = true; jobs(); }
    }
  }
  downloads() { const link = $(".download", this.panel); link.href = `${this.path}/file`; link.hidden = false; }
  // smaller, until the full size is there
  async preview() {
    try {
      await this.picture.load(`${this.path}/pictures/preview`);
      this.downloads();
      histogram();
    } catch { /* the full size came meanwhile, or nobody wants it any more */ }
  }
  async show(fresh = false) {
    if (!fresh && (this.busy || !this.panel.dataset.done)) return; // it is shown when it is there
    const what = $(".shown", this.panel).value, sources = ["squares", "blink"].includes(what);
    try {
      this.picture.mode = "";
      if (fresh || what === "result" || sources) await this.picture.load(`${this.path}/pictures/result`);
      if (sources || Number($("#split").value)) await this.lay();
      if (sources) { this.picture.mode = what; this.picture.draw(); }
      else if (what !== "result") await this.picture.load(`${this.path}/pictures/${what}`, true);
      this.named();
      histogram();
    } catch (error) { this.said(error.message, true); }
  }
  // the sources as they were fused: aligned, and of one size
  async lay() {
    if (!this.result) return;
    const { under } = this.picture, wanted = [...new Set([...this.others, Number($("#before").value)])].filter((i) => !under[i]);
    await Promise.all(wanted.map(async (i) => { under[i] = await createImageBitmap(await (await ask(`${this.path}/pictures/source-${i}`)).blob()); }));
    this.picture.draw();
  }
  // the reference and the source that it is compared with
  get others() {
    const before = Number($("#before").value), count = state.sources.length;
    return [this.reference, before === this.reference ? (before + 1) % count : before];
  }
  pair() { const pair = this.others.map((i) => this.picture.under[i]); return pair.every(Boolean) ? pair : []; }
  named() {
    const label = (i) => state.labels[i], [main, other] = this.others, what = $(".shown", this.panel).value;
    const text = { squares: `${label(main)} and ${label(other)} in turn`, blink: label(state.odd ? other : main), trusted: "Each place has the colour of the source whose edges the result shows: the squares beside the names." };
    $(".which", this.panel).textContent = text[what] ?? "";
  }
  async figures() {
    const details = $(".metrics", this.panel);
    if (!details.open || !this.result || !this.panel.dataset.done || details.dataset.of === this.panel.dataset.done) return;
    details.dataset.of = this.panel.dataset.done;
    try { this.values = await json(`${this.path}/figures`); } catch (error) { details.dataset.of = ""; return this.said(error.message, true); }
    for (const method of state.methods) method.table();
  }
  table() {
    if (!this.values) return;
    const others = state.methods.map((m) => m.values).filter(Boolean);
    const rows = Object.entries(this.values).map(([name, { value, merit, better, definition }]) => {
      const all = others.map((o) => o[name]?.merit).filter((v) => v !== undefined), best = new Set(all).size > 1 && merit === Math.max(...all);
      return element("tr", { title: definition }, element("th", { scope: "row", textContent: `${name.replaceAll("_", " ")} ${better}` }), element("td", { className: best ? "best" : "", textContent: value.toPrecision(3) + (best ? " best" : "") }));
    });
    $(".metrics tbody", this.panel).replaceChildren(...rows);
  }
  async copy(button) {
    const out = $(".recipe", this.panel);
    try {
      const text = (await post("api/recipe", { choices: this.choices(), names: state.names, many: state.many }))[button.dataset.what];
      out.textContent = text; out.hidden = false;
      if (!state.many.length && new Set(state.names).size < state.names.length) return this.said("The files have one name, and a browser does not say their folders: put those before them.");
      try { await navigator.clipboard.writeText(text); this.said("Copied."); } catch { this.said("Select the text below to copy it."); }
    } catch (error) { this.said(error.message, true); }
  }
}
// what is being done, where it is seen from anywhere on the page
function jobs() {
  const busy = state.methods.filter((m) => m.busy), { all } = state;
  const texts = busy.map((m) => `${m.picture.label}: ${$(".said", m.panel).textContent}`), shares = busy.map((m) => m.share ?? 0);
  if (all) {
    const left = (performance.now() - all.began) / 1000 / Math.max(1, all.done) * (all.count - all.done);
    texts.unshift(`All scenes: ${all.done} of ${all.count}${all.done ? `, about ${left < 90 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`} left` : ""}`);
    shares.push(all.done / all.count);
  }
  $("#all").disabled = Boolean(all);
  $("#jobs").hidden = !texts.length;
  $("#going").textContent = texts.join("  ·  ");
  $("#share").value = shares.reduce((sum, share) => sum + share, 0) / Math.max(1, shares.length);
}
// a reload finds the session and its choices again
function remember() {
  const { session, names, methods } = state;
  sessionStorage.setItem("fusionkit", JSON.stringify({ session, names, methods: methods.map((m) => [m.select.value, m.choices()]) }));
}
function add(choice, chosen) {
  const used = state.methods.map((m) => m.select.value), next = ["", ...state.catalog.priors.filter((p) => p.offered && p.name !== state.catalog.defaults.prior).map((p) => `prior:${p.name}`)].find((v) => !used.includes(v));
  const method = new Method(choice ?? next ?? "", chosen);
  state.methods.push(method);
  $("#methods").append(method.panel);
  counted();
  method.fuse();
}
function remove(method) {
  method.run = (method.run ?? 0) + 1;
  method.cancel();
  state.methods = state.methods.filter((m) => m !== method);
  method.panel.remove();
  counted();
  jobs();
  remember();
  $("#add").focus();
  histogram();
}
function counted() {
  $("#methods").dataset.count = state.methods.length;
  $("#add").disabled = state.methods.length >= MOST;
  for (const m of state.methods) $(".remove", m.panel).hidden = state.methods.length < 2;
}

// --- beginning -------------------------------------------------------------------------------------------------------
for (const id of ["files", "folder"]) $(`#${id}`).addEventListener("change", (event) => { take([...event.target.files]); event.target.value = ""; });
$("#pair").addEventListener("change", (event) => go(Number(event.target.value)));
for (const [id, by] of [["previous", -1], ["next", 1]]) $(`#${id}`).addEventListener("click", () => go((Number($("#pair").value) + by + state.scenes.length) % state.scenes.length));
$("#patterns").addEventListener("change", () => { $("#group").value = ""; match(); });
$("#group").addEventListener("change", () => { $("#patterns").value = ""; match(); });
$("#all").addEventListener("click", fuseAll);
$("#add").addEventListener("click", () => { recognised(); add(); });
$("#stop").addEventListener("click", () => { if (state.all) state.all.stopped = true; state.methods.filter((m) => m.busy).forEach((m) => m.cancel()); });
for (const id of ["split", "before"]) $(`#${id}`).addEventListener("input", () => {
  pictures().forEach((p) => p.draw());
  for (const m of state.methods) { m.named(); if ((m.picture.mode || Number($("#split").value)) && m.panel.dataset.done) m.lay().catch(() => {}); }
});
setInterval(() => {
  state.odd = !state.odd;
  for (const m of state.methods.filter((m) => m.picture.mode === "blink")) { m.picture.draw(); m.named(); }
}, BLINK);
$("#in").addEventListener("click", () => look(state.view.zoom * 1.5, state.view.x, state.view.y));
$("#out").addEventListener("click", () => look(state.view.zoom / 1.5, state.view.x, state.view.y));
$("#fit").addEventListener("click", () => look(1, 0.5, 0.5));
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const plain = [...event.dataTransfer.files], found = await entries(event.dataTransfer.items);
  take(found.length ? found : plain);
});
addEventListener("pagehide", () => { if (state.session) fetch(`api/sessions/${state.session}/leave`, { method: "POST", keepalive: true }); });
state.catalog = await json("api/catalog");
for (const { name, title, choices } of state.catalog.samples) {
  const button = element("button", { type: "button", textContent: title });
  button.addEventListener("click", () => { say("Making the sample …"); begin(++state.run, null, (session) => ask(`api/sessions/${session}/samples/${name}`, { method: "POST" }), null, [["", choices]]); });
  $("#samples").append(button);
}
const kept = JSON.parse(sessionStorage.getItem("fusionkit") ?? "null");
if (kept?.session) {
  await begin(++state.run, kept.names, null, kept.session, kept.methods);
  if (!state.session) { sessionStorage.removeItem("fusionkit"); say("The files of this page are forgotten; drop them again.", true); }
}
document.body.dataset.ready = "yes";
