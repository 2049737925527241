// The page of `fusionkit serve`. All that it shows comes from the machine that it came from.
const $ = (selector, root = document) => root.querySelector(selector);
const COLORS = ["#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#666666", "#f0e442"];
const MOST = 4;

const state = { catalog: null, session: null, info: null, groups: [], sources: [], methods: [], view: { zoom: 1, x: 0.5, y: 0.5 }, run: 0 };

async function ask(path, how = {}) {
  // one address is asked for a result and told to cancel it; a cache would make the second wait for the first
  const response = await fetch(path, { cache: "no-store", ...how });
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
    this.canvas = canvas; this.label = label; this.bitmap = null; this.data = null;
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
    this.draw();
  }
  clear() {
    this.bitmap?.close();
    this.bitmap = this.data = null;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }
  // the part of the picture that is seen, in its own pixels
  part() {
    const { zoom, x, y } = state.view, w = this.bitmap.width / zoom, h = this.bitmap.height / zoom;
    const left = Math.min(Math.max(x * this.bitmap.width - w / 2, 0), this.bitmap.width - w);
    const top = Math.min(Math.max(y * this.bitmap.height - h / 2, 0), this.bitmap.height - h);
    return [left, top, w, h];
  }
  draw() {
    if (!this.bitmap) return;
    const context = this.canvas.getContext("2d"), { width, height } = this.canvas;
    context.imageSmoothingEnabled = state.view.zoom < 3;
    context.clearRect(0, 0, width, height);
    context.drawImage(this.bitmap, ...this.part(), 0, 0, width, height);
    const share = Number($("#split").value) / 100, before = state.sources[Number($("#before").value)]?.picture;
    if (this.ofMethod && share > 0 && before?.bitmap) {
      const edge = Math.round(share * width);
      context.save();
      context.beginPath(); context.rect(0, 0, edge, height); context.clip();
      context.drawImage(before.bitmap, ...before.part(), 0, 0, width, height);
      context.restore();
      context.fillStyle = "#fff"; context.fillRect(edge - 1, 0, 2, height);
    }
    this.canvas.classList.toggle("zoomed", state.view.zoom > 1);
  }
  // [0, 1] of the picture for a place on the canvas
  place(event) {
    const box = this.canvas.getBoundingClientRect(), [left, top, w, h] = this.part();
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
const HIDDEN = /^\.|^(thumbs\.db|desktop\.ini)$/i;
function groups(files) {
  // one scene, or many: by folder where folders have files of the same names
  const folders = new Map();
  for (const file of files.filter((f) => !HIDDEN.test(f.name))) {
    const path = file.path ?? file.webkitRelativePath ?? "", folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "";
    folders.set(folder, [...(folders.get(folder) ?? []), file]);
  }
  const stem = (file) => file.name.replace(/\.[^.]*$/, ""), names = [...folders.keys()].sort();
  const shared = names.length > 1 ? [...new Set(folders.get(names[0]).map(stem))].filter((s) => names.every((n) => folders.get(n).some((f) => stem(f) === s))) : [];
  if (shared.length) return shared.sort().map((s) => ({ name: s, files: names.map((n) => folders.get(n).find((f) => stem(f) === s)) }));
  const all = [...folders.values()].flat().sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  return all.length ? [{ name: all.map((f) => f.name).join(" + "), files: all }] : [];
}
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
async function take(files) {
  const found = groups(files);
  if (!found.length) return say("No file was in there.", true);
  if (found[0].files.length < 2) return say(`${found[0].name}: two files or more make one picture; drop them together.`, true);
  state.groups = found;
  $("#pair-field").hidden = state.groups.length < 2;
  $("#pair").replaceChildren(...state.groups.map((g, i) => element("option", { value: i, textContent: g.name })));
  await open(state.groups[0]);
}
async function open(group) {
  const run = ++state.run;
  if (group.files.length > state.catalog.limits.files) return say(`At most ${state.catalog.limits.files} files at once; these are ${group.files.length}.`, true);
  const large = group.files.find((f) => f.size > state.catalog.limits.bytes);
  if (large) return say(`${large.name} is larger than ${state.catalog.limits.bytes / 1e6} MB.`, true);
  say(`Reading ${group.files.map((f) => f.name).join(", ")} …`);
  await begin(run, group.files.map((f) => f.path || f.webkitRelativePath || f.name), async (session) => {
    await Promise.all(group.files.map((file, i) => ask(`api/sessions/${session}/files/${i}?name=${encodeURIComponent(file.name)}`, { method: "PUT", body: file })));
  });
}
// fill: brings the files of a new session; without it, the session is there already. methods: as `remember` has them
async function begin(run, given, fill, known = null, methods = []) {
  try {
    const session = known ?? (await json("api/sessions", { method: "POST" })).session;
    await fill?.(session);
    const info = await json(`api/sessions/${session}/read`, { method: "POST" });
    if (run !== state.run) return ask(`api/sessions/${session}`, { method: "DELETE" });
    const old = state.session; // only now: what cannot be read leaves what is there
    Object.assign(state, { session, info });
    if (old) ask(`api/sessions/${old}`, { method: "DELETE" }).catch(() => {});
    state.names = given ?? info.sources.map((s) => s.name);
    const names = info.sources.map((s) => s.name), twice = new Set(names).size < names.length;
    state.labels = twice ? state.names.map((n, i) => (n.includes("/") ? n.split("/").slice(-2).join("/") : `${n} (${i + 1})`)) : names;
    $("#view").hidden = $("#below").hidden = false;
    $("#add").disabled = false;
    look(1, 0.5, 0.5);
    $("#samples").hidden = true;
    if (methods.length) methods.forEach(([choice, chosen]) => add(choice, chosen));
    else if (!state.methods.length) add();
    else state.methods.forEach((m) => m.fuse());
    await showSources();
    say(`Recognised as ${state.info.scene}.`);
  } catch (error) { if (run === state.run) say(error.message, true); }
}
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
  await Promise.all(state.sources.map((s) => s.picture.load(`api/sessions/${state.session}/sources/${s.number}`)));
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
    $(".more", this.panel).replaceChildren(...[...this.fields, ...this.own, ...this.sampling].map((c) => c.label));
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
    this.of = state.session; this.values = null;
    delete this.panel.dataset.done;
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
    this.picture.canvas.hidden = true; instead.hidden = false;
    histogram();
  }
  going(now) {
    const seconds = `about ${now.left < 1 ? 1 : Math.round(now.left)} s`, nth = (n) => `${n}${["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] ?? "th"}`;
    this.share = now.share;
    this.said(now.status === "waiting" ? `${nth(now.place)} in line, ${seconds}` : now.left > 0 ? `Fusing: ${Math.round(100 * now.share)} %, ${seconds} left` : "Fusing: it takes longer than estimated");
    jobs();
  }
  get path() { return `api/sessions/${state.session}/results/${this.result}`; }
  // a job whose number is not known yet is cancelled as soon as it is
  async cancel() { this.unwanted = this.run; if (this.result) await this.drop(this.path); }
  drop(path) { return ask(path, { method: "DELETE" }).catch(() => {}); }
  async fuse() {
    if (!state.session) return;
    const run = this.run = (this.run ?? 0) + 1;
    if (this.busy) this.cancel();
    else if (this.result && this.of === state.session) this.drop(this.path); // the server keeps what is shown
    this.busy = true; this.result = null; this.share = 0;
    this.forget();
    this.said("Fusing …");
    remember();
    $(".cancel", this.panel).hidden = false;
    $(".download", this.panel).hidden = $(".recipe", this.panel).hidden = true;
    try {
      const results = `api/sessions/${state.session}/results`, { result } = await post(results, { choices: this.choices() });
      if (run !== this.run || run === this.unwanted) await this.drop(`${results}/${result}`);
      if (run !== this.run) return;
      this.result = result;
      let now;
      while (run === this.run && ["waiting", "running"].includes((now = await json(this.path)).status)) if (run === this.run) this.going(now);
      if (run !== this.run) return;
      if (now.status === "cancelled") return this.said("cancelled");
      if (now.status !== "done") return this.failed(now.reason, now.mends);
      await this.show(true);
      if (run !== this.run) return;
      this.said(`${now.seconds.toFixed(2)} s`);
      $(".notes", this.panel).replaceChildren(...now.notes.map((n) => element("li", { textContent: n })));
      const link = $(".download", this.panel);
      link.href = `${this.path}/file`; link.hidden = false;
      this.panel.dataset.done = result;
      await this.figures();
    } catch (error) { if (run === this.run) this.failed(error.message); } finally {
      if (run === this.run) { this.busy = false; $(".cancel", this.panel).hidden = true; jobs(); }
    }
  }
  async show(fresh = false) {
    if (!fresh && (this.busy || !this.panel.dataset.done)) return; // it is shown when it is there
    const what = $(".shown", this.panel).value;
    try {
      if (fresh || what === "result") await this.picture.load(`${this.path}/pictures/result`);
      if (what !== "result") await this.picture.load(`${this.path}/pictures/${what}`, true);
      if (what === "trusted") this.said("Each place has the colour of the source whose edges the result shows: the squares beside the names.");
      histogram();
    } catch (error) { this.said(error.message, true); }
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
      const text = (await post("api/recipe", { choices: this.choices(), names: state.names }))[button.dataset.what];
      out.textContent = text; out.hidden = false;
      if (new Set(state.names).size < state.names.length) return this.said("The files have one name, and a browser does not say their folders: put those before them.");
      try { await navigator.clipboard.writeText(text); this.said("Copied."); } catch { this.said("Select the text below to copy it."); }
    } catch (error) { this.said(error.message, true); }
  }
}
// what is being done, where it is seen from anywhere on the page
function jobs() {
  const busy = state.methods.filter((m) => m.busy);
  $("#jobs").hidden = !busy.length;
  $("#going").textContent = busy.map((m) => `${m.picture.label}: ${$(".said", m.panel).textContent}`).join("  ·  ");
  $("#share").value = busy.reduce((sum, m) => sum + (m.share ?? 0), 0) / Math.max(1, busy.length);
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
$("#pair").addEventListener("change", (event) => open(state.groups[Number(event.target.value)]));
$("#add").addEventListener("click", () => add());
$("#stop").addEventListener("click", () => state.methods.filter((m) => m.busy).forEach((m) => m.cancel()));
for (const id of ["split", "before"]) $(`#${id}`).addEventListener("input", () => pictures().forEach((p) => p.draw()));
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
for (const { name, title } of state.catalog.samples) {
  const button = element("button", { type: "button", textContent: title });
  button.addEventListener("click", () => { say("Making the sample …"); begin(++state.run, null, (session) => ask(`api/sessions/${session}/samples/${name}`, { method: "POST" })); });
  $("#samples").append(button);
}
const kept = JSON.parse(sessionStorage.getItem("fusionkit") ?? "null");
if (kept?.session) {
  await begin(++state.run, kept.names, null, kept.session, kept.methods);
  if (!state.session) { sessionStorage.removeItem("fusionkit"); say("The files of this page are forgotten; drop them again.", true); }
}
document.body.dataset.ready = "yes";
