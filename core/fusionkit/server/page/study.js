// One comparison after another; votes go to the server at once, so that nothing is lost when the page is closed.
const $ = id => document.getElementById(id);
let viewer = "", sheets = [], given = {}, at = 0;
const view = {scale: 1, x: 0, y: 0};

async function asked(path, options) {
  try {
    const response = await fetch(path, options), answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    $("problem").textContent = "";
    return answer;
  } catch (error) {
    $("problem").textContent = `Not kept: ${error.message}. Try once more.`;
    return null;
  }
}

$("who").onsubmit = async event => {
  event.preventDefault();
  viewer = $("viewer").value.trim();
  const answer = await asked(`api/sheets?viewer=${encodeURIComponent(viewer)}`);
  if (!answer) return;
  ({sheets, given} = answer);
  $("question").textContent = answer.question;
  $("who").hidden = true;
  go(sheets.findIndex(sheet => !(sheet.number in given)));
};

function go(to) {
  at = to < 0 ? sheets.length : to;
  const over = at >= sheets.length;
  $("sheet").hidden = over;
  $("end").hidden = !over;
  $("count").textContent = sheets.length;
  if (over) return;
  const sheet = sheets[at];
  $("place").textContent = `${at + 1} of ${sheets.length}`;
  $("above").replaceChildren(...sheet.sources.map((path, i) => Object.assign(new Image(), {src: path, alt: `source ${i + 1}`})));
  for (const side of ["a", "b"]) $(side).src = sheet[side];
  $("reason").value = "";
  document.querySelectorAll("#answers button").forEach(b => b.classList.toggle("given", given[sheet.number] === b.dataset.choice));
  Object.assign(view, {scale: 1, x: 0, y: 0});
  place();
  document.body.dataset.sheet = sheet.number;
  for (const path of sheets[at + 1] ? [sheets[at + 1].a, sheets[at + 1].b] : []) new Image().src = path;
}

let sending = false;
async function choose(choice) {
  if (sending || $("sheet").hidden) return;
  sending = true;
  const sheet = sheets[at].number, reason = $("reason").value.trim();
  const kept = await asked("api/vote", {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({viewer, sheet, choice, reason}),
  });
  sending = false;
  if (!kept) return;
  given[sheet] = choice;
  go(at + 1);
}

const back = () => at > 0 && go(at - 1);
document.querySelectorAll("#answers button").forEach(button => { button.onclick = () => choose(button.dataset.choice); });
$("back").onclick = $("again").onclick = back;

const KEYS = {ArrowLeft: "A", ArrowRight: "B", ArrowDown: "="};
document.addEventListener("keydown", event => {
  if (!$("who").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const typing = event.target.tagName === "INPUT";
  if (event.key in KEYS && !(typing && event.key !== "ArrowDown")) choose(KEYS[event.key]);
  else if (event.key === "Enter" && typing) event.target.blur();
  else if (event.key === "Backspace" && !typing) back();
  else if (event.key === "0" && !typing) { Object.assign(view, {scale: 1, x: 0, y: 0}); place(); }
  else return;
  event.preventDefault();
});

// both pictures zoom and move together
function place() {
  for (const side of ["a", "b"]) $(side).style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
}
function zoom(factor, x, y, box) {
  const scale = Math.min(16, Math.max(1, view.scale * factor)), ratio = scale / view.scale;
  view.x = Math.min(0, Math.max(box.width * (1 - scale), x - (x - view.x) * ratio));
  view.y = Math.min(0, Math.max(box.height * (1 - scale), y - (y - view.y) * ratio));
  view.scale = scale;
  place();
}
const fingers = new Map();
document.querySelectorAll(".frame").forEach(frame => {
  frame.addEventListener("wheel", event => {
    const box = frame.getBoundingClientRect();
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top, box);
  }, {passive: false});
  frame.onpointerdown = event => { frame.setPointerCapture(event.pointerId); fingers.set(event.pointerId, event); };
  frame.onpointerup = frame.onpointercancel = event => fingers.delete(event.pointerId);
  frame.onpointermove = event => {
    const before = fingers.get(event.pointerId), box = frame.getBoundingClientRect();
    if (!before) return;
    const other = [...fingers.values()].find(finger => finger.pointerId !== event.pointerId);
    if (other) {
      const apart = finger => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY);
      const x = (event.clientX + other.clientX) / 2, y = (event.clientY + other.clientY) / 2;
      zoom(apart(event) / Math.max(1, apart(before)), x - box.left, y - box.top, box);
    } else {
      view.x += event.clientX - before.clientX;
      view.y += event.clientY - before.clientY;
      zoom(1, 0, 0, box);
    }
    fingers.set(event.pointerId, event);
  };
});
