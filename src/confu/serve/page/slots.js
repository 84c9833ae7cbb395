// A card for each modality: drop, choose, record, write or take it from the collection.
import { $, h, later, say } from "./dom.js";
import { discs } from "./subsets.js";
import { record, photograph } from "./devices.js";
import { counted, parseNumbers } from "./numbers.js";
import { readable } from "./wav.js";
import { query } from "./query.js";
import { large, sharpened } from "./media.js";

const WORDS = { image: "a picture", audio: "a sound", video: "a video" };
const ACCEPT = { image: "image/*", audio: "audio/*", video: "video/*" };
const cards = {};
let about;
let changed;

export function build(known, onchange) {
  about = known;
  changed = onchange;
  $("slots").replaceChildren(...Object.keys(about.modalities).map((name) => {
    cards[name] = h("div", { class: "slot", role: "group", "aria-labelledby": `slot-${name}`, "data-name": name });
    return cards[name];
  }));
  draw();
}

export function draw() { Object.keys(cards).forEach(drawOne); }

export function set(name, slot) {
  query.slots[name] = slot;
  query.weights = null;
  drawOne(name);
  changed();
}

// An empty card is one line, its buttons beside its name; a filled one shows what it holds.
function drawOne(name) {
  const slot = query.slots[name];
  const kind = about.modalities[name];
  const filled = slot && ["file", "item"].includes(slot.kind);
  const tools = filled ? h("button", { type: "button", class: "quiet", "aria-label": `Remove the ${name}`, onclick: () => remove(name) }, "Remove")
    : kind === "text" ? null : WORDS[kind] ? taking(name, kind) : picker(name, "numbers", "Choose .npy or .json");
  const body = filled ? preview(name, kind, slot) : kind === "text" ? writing(name) : WORDS[kind] ? null : numbers(name);
  cards[name].classList.toggle("filled", Boolean(slot));
  cards[name].replaceChildren(...[h("div", { class: "slot-head" }, discs(name), h("h3", { id: `slot-${name}` }, name), h("div", { class: "row tools-row" }, tools)),
    body, h("p", { class: "wrong", id: `wrong-${name}` })].filter(Boolean));
}

function remove(name) {
  set(name, null);
  cards[name].querySelector("textarea, button")?.focus();
  say(`${name} removed`);
}

// An error of the server that concerns one input stands beside it; gives whether there is such an input.
export function wrong(name, message, by = "page") {
  const place = cards[name]?.querySelector(".wrong");
  if (!place) return false;
  place.dataset.by = by;
  place.textContent = message;
  cards[name].classList.toggle("is-wrong", Boolean(message));
  const control = cards[name].querySelector("textarea") ?? cards[name];
  if (message && control.matches("textarea")) control.setAttribute("aria-invalid", "true");
  else control.removeAttribute("aria-invalid");
  if (message) control.setAttribute("aria-describedby", `wrong-${name}`);
  else control.removeAttribute("aria-describedby");
  return true;
}

// What the server said is over with the next question; what the page said, with the next use of that input.
export function clearWrong() {
  for (const [name, card] of Object.entries(cards)) if (card.querySelector(".wrong").dataset.by === "server") wrong(name, "");
}

function preview(name, kind, slot) {
  const from = slot.kind === "item" ? `from ${slot.id}` : slot.file.name;
  let shown = h("p", { class: "said" }, from);
  if (slot.kind === "item") shown = large({ name, kind, address: slot.media, text: slot.media }, slot.id);
  else if (kind === "image") shown = h("img", { class: "thumb", alt: `Your ${name}`, onload: sharpened, onerror: ({ target }) => target.remove(), src: slot.url ??= URL.createObjectURL(slot.file) });
  else if (WORDS[kind]) shown = h(kind, { controls: true, "aria-label": `Your ${name}`, src: slot.url ??= URL.createObjectURL(slot.file) });
  return h("div", { class: "preview" }, shown, h("span", { class: "hint" }, from));
}

function picker(name, kind, label, meaning = `${label}: ${name}`) {
  const input = h("input", { type: "file", accept: ACCEPT[kind] ?? ".npy,.json,application/json", class: "unseen",
    tabindex: "-1", "aria-label": `File for ${name}` });
  input.addEventListener("change", () => input.files[0] && take(name, input.files[0]));
  return [h("button", { type: "button", onclick: () => input.click(), "aria-label": meaning }, label), input];
}

function taking(name, kind) {
  return [picker(name, kind, "Choose", `Choose ${WORDS[kind]}: ${name}`),
    kind === "image" && h("button", { type: "button", "aria-label": `Camera: ${name}`, onclick: () => shoot(name) }, "Camera"),
    kind === "audio" && recording(name)];
}

async function shoot(name) {
  try {
    const file = await photograph();
    if (file) await take(name, file);
  } catch (error) { wrong(name, error.message); }
}

function recording(name) {
  const button = h("button", { type: "button", "aria-label": `Record: ${name}` }, "Record");
  let finish = null;
  button.addEventListener("click", async () => {
    wrong(name, "");
    try {
      if (finish) {
        const end = finish;
        finish = null;
        await take(name, await end());
        return;
      }
      button.disabled = true;
      finish = await record((seconds, level) => {
        button.firstChild.data = `Stop ${seconds.toFixed(1)} s`;
        button.style.setProperty("--level", Math.min(1, 3 * level));
      });
      button.classList.add("recording");
      button.setAttribute("aria-label", `Stop recording: ${name}`);
      say("Recording");
    } catch (error) { drawOne(name); wrong(name, error.message); }
    finally { button.disabled = false; }
  });
  return button;
}

const soon = later(450, () => changed());

function writing(name) {
  const slot = query.slots[name];
  const area = h("textarea", { rows: 2, "aria-labelledby": `slot-${name}`, placeholder: "Write some words", value: slot?.text ?? "" });
  area.addEventListener("input", () => written(name, area.value, "text"));
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    $("ask").requestSubmit();
  });
  return area;
}

function numbers(name) {
  const record = about.modalities[name] === "table";
  const { shape, dim } = about.inputs?.[name] ?? {};
  const expected = dim ?? (shape ? shape.join(" × ") : null);
  const area = h("textarea", { rows: 2, "aria-labelledby": `slot-${name}`, class: "code", value: query.slots[name]?.text ?? "",
    placeholder: record ? '{"column": 1.5, "other column": "a text"}' : expected ? `${expected} numbers` : "Numbers, or rows of numbers" });
  const count = h("span", { class: "hint" });
  area.addEventListener("input", () => {
    wrong(name, "");
    count.textContent = "";
    try {
      if (record) {
        written(name, area.value.trim() ? JSON.stringify(JSON.parse(area.value)) : "", "numbers");
        return;
      }
      const values = parseNumbers(area.value);
      count.textContent = values.length ? counted(values, dim) : "";
      written(name, values.length ? JSON.stringify(values) : "", "numbers");
    } catch (error) { wrong(name, error.message); }
  });
  return h("div", {}, area, count);
}

function written(name, text, kind) {
  const had = Boolean(query.slots[name]);
  query.slots[name] = text.trim() ? { kind, text } : null;
  query.weights = null;
  cards[name].classList.toggle("filled", Boolean(query.slots[name]));
  wrong(name, "");
  if (had || query.slots[name]) soon();
}

export async function take(name, file) {
  const most = about.limits?.max_upload_mb;
  if (most && file.size > most * 2 ** 20) {
    wrong(name, `This file has ${(file.size / 2 ** 20).toFixed(0)} MiB; the server takes up to ${most} MiB. Choose a smaller one.`);
    return;
  }
  set(name, { kind: "file", file: about.modalities[name] === "audio" ? await readable(file) : file });
}

// Where a dropped or pasted file belongs: the card under it, or the first one of its kind.
export function nameFor(file, element) {
  const under = element?.closest?.(".slot")?.dataset.name;
  if (under && about.modalities[under] !== "text") return under;
  const kind = file.type.split("/")[0];
  const names = Object.keys(about.modalities);
  const fits = names.filter((name) => (WORDS[kind] ? about.modalities[name] === kind
    : /\.(npy|json)$/i.test(file.name) && !WORDS[about.modalities[name]] && about.modalities[name] !== "text"));
  return fits.find((name) => !query.slots[name]) ?? fits[0];
}
