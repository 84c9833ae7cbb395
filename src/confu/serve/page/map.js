// The collection as points in the plane, and where the query lands among them.
import { $, h } from "./dom.js";
import { itemAddress, json } from "./api.js";
import { thumbnail } from "./media.js";
import { show as showItem } from "./item.js";
import { words } from "./subsets.js";
import { View } from "./view.js";
import { dot as spot, has, known as coloured, seed, variable } from "./colours.js";

const state = { subset: null, items: [], point: null, hits: [] };
const maps = new Map();
let about;
const canvas = h("canvas", { tabindex: "0", role: "img", "aria-describedby": "map-keys" });
const tip = h("div", { class: "tip", hidden: true });
const list = h("ol", { class: "near" });
const legend = h("ul", { class: "legend", "aria-label": "Colours" });
const title = h("h2", { id: "map-title" });
const view = new View(canvas, () => requestAnimationFrame(paint));

export function build(known) {
  about = known;
  const button = (label, text, act) => h("button", { type: "button", class: "quiet", "aria-label": label, onclick: act }, text);
  $("map").replaceChildren(title,
    h("div", { class: "stage" }, canvas, tip, h("div", { class: "tools" }, button("Zoom in", "+", () => view.by(1.5)),
      button("Zoom out", "−", () => view.by(1 / 1.5)), button("Show all of the map", "⤢", () => view.reset()))),
    legend,
    h("p", { class: "hint", id: "map-keys" }, "Drag to move; Ctrl and the wheel, + and − to zoom; click on a point to see its item."),
    h("details", {}, h("summary", {}, "The map as a list"), list));
  canvas.addEventListener("pointermove", hover);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("click", (event) => {
    const item = view.moved ? null : nearest(event.offsetX, event.offsetY);
    if (item) showItem(item[0]);
  });
}

// Points of a subset's embeddings; asked of the server once.
export async function load(subset) {
  if (!maps.has(subset)) maps.set(subset, json(`v1/map?subset=${encodeURIComponent(subset)}`));
  try { return (await maps.get(subset)).items; } catch (error) { maps.delete(subset); throw error; }
}

export async function draw(subset, answer) {
  const items = await load(subset);
  if (state.subset !== subset) {
    Object.assign(state, { subset, items, labels: frequent(items) });
    seed(state.labels.slice(0, 10).sort());
    drawLegend();
  }
  const changed = state.fitted !== `${subset} ${answer?.point ?? ""}`;
  Object.assign(state, { point: answer?.point ?? null, hits: answer?.hits ?? [], fitted: `${subset} ${answer?.point ?? ""}` });
  $("map").hidden = !items.length;
  title.textContent = state.point ? "Where your query lands" : "Map of the collection";
  canvas.setAttribute("aria-label", `Map of ${items.length} items by their ${words(subset)}${state.point ? ", with your query and what it found" : ""}`);
  if (changed) view.fit(items.map(([, x, y]) => [x, y]).concat(state.point ? [state.point] : []));
  drawList();
  paint();
}

// The labels of the items, the most frequent first.
function frequent(items) {
  const counts = new Map();
  items.forEach(([, , , label]) => has(label) && counts.set(label, (counts.get(label) ?? 0) + 1));
  return [...counts].sort((a, b) => b[1] - a[1]).map(([label]) => label);
}

function drawLegend() {
  const named = coloured().filter((label) => state.labels.includes(label));
  const others = state.labels.length > named.length;
  legend.replaceChildren(...named.map((label) => h("li", {}, spot(label), label)), ...(others ? [h("li", {}, spot(null), "others")] : []));
}

const distance = ([, x, y]) => Math.hypot(x - state.point[0], y - state.point[1]);

function drawList() {
  const near = state.point ? [...state.items].sort((a, b) => distance(a) - distance(b)) : state.items;
  list.replaceChildren(...near.slice(0, 20).map(([id, , , label]) => h("li", {},
    h("button", { type: "button", class: "id", onclick: () => showItem(id), "aria-label": `Show item ${id}` }, id), has(label) ? ` ${label}` : "")));
}

export function paint() {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  if (!width) return;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  const pen = canvas.getContext("2d");
  const colour = getComputedStyle(canvas);
  const ink = colour.getPropertyValue("--ink");
  pen.scale(ratio, ratio);
  const size = state.items.length > 1500 ? 2 : 3;
  pen.globalAlpha = 0.75;
  for (const [, x, y, label] of state.items) {
    pen.fillStyle = colour.getPropertyValue(variable(label));
    dot(pen, view.place([x, y]), size);
    pen.fill();
  }
  pen.globalAlpha = 1;
  pen.strokeStyle = ink;
  pen.lineWidth = 1.5;
  for (const hit of state.hits) {
    if (!hit.point) continue;
    dot(pen, view.place(hit.point), 5.5);
    pen.stroke();
  }
  if (state.point) mark(pen, view.place(state.point), ink, colour.getPropertyValue("--card"));
}

function dot(pen, [x, y], radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
}

// The query: a cross with a halo, and a word.
function mark(pen, [x, y], ink, halo) {
  for (const [style, width] of [[halo, 7], [ink, 3]]) {
    Object.assign(pen, { strokeStyle: style, lineWidth: width, lineCap: "round" });
    pen.beginPath();
    for (const [dx, dy] of [[9, 0], [0, 9]]) { pen.moveTo(x - dx, y - dy); pen.lineTo(x + dx, y + dy); }
    pen.stroke();
  }
  const right = x < canvas.clientWidth - 115;
  Object.assign(pen, { font: "600 13px system-ui, sans-serif", textAlign: right ? "left" : "right", lineJoin: "round", strokeStyle: halo, lineWidth: 4, fillStyle: ink });
  pen.strokeText("your query", x + (right ? 13 : -13), y - 8);
  pen.fillText("your query", x + (right ? 13 : -13), y - 8);
}

function nearest(u, v) {
  let best = null;
  let least = 12;
  for (const item of state.items) {
    const [x, y] = view.place([item[1], item[2]]);
    const far = Math.hypot(x - u, y - v);
    if (far < least) [best, least] = [item, far];
  }
  return best;
}

function hover(event) {
  const item = event.buttons ? null : nearest(event.offsetX, event.offsetY);
  tip.hidden = !item;
  canvas.classList.toggle("over", Boolean(item));
  if (!item || tip.dataset.id === item[0]) return;
  tip.dataset.id = item[0];
  const image = Object.entries(about.modalities).find(([, kind]) => kind === "image")?.[0];
  tip.replaceChildren(image ? thumbnail(`${itemAddress(item[0])}/media?modality=${encodeURIComponent(image)}`, "", 96) : "",
    h("span", {}, item[0]), has(item[3]) ? h("b", {}, String(item[3])) : "");
  const [x, y] = view.place([item[1], item[2]]);
  Object.assign(tip.style, { left: `${Math.min(x + 12, canvas.clientWidth - 150)}px`, top: `${Math.min(y + 12, canvas.clientHeight - 60)}px` });
}
