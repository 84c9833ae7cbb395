// Numbers that a person pastes or drops, and small pictures of them.
import { h, svg } from "./dom.js";
import { blob, json } from "./api.js";

// "1, 2 3" or JSON; throws an error that says what is wrong.
export function parseNumbers(text) {
  const values = /^\s*\[/.test(text) ? fromJson(text) : text.split(/[\s,;]+/).filter(Boolean).map(Number);
  const wrong = values.flat(Infinity).findIndex((value) => typeof value !== "number" || !Number.isFinite(value));
  if (wrong >= 0) throw new Error(`Number ${wrong + 1} is none. Write numbers with commas or spaces between them.`);
  return values;
}

function fromJson(text) {
  try { return JSON.parse(text); } catch { throw new Error("This is not yet a list of numbers: check its brackets."); }
}

// How many there are beside how many the model takes: "12 of 64 numbers".
export function counted(values, expected) {
  const rows = Array.isArray(values[0]);
  if (rows) return `${values.length} rows of ${values[0].length} numbers`;
  return `${values.length}${expected ? ` of ${expected}` : ""} numbers`;
}

// Bars of one row of numbers, or a heat map of several rows (time runs to the right).
export function picture(values, label) {
  const rows = Array.isArray(values[0]) ? values : null;
  const flat = values.flat(Infinity).filter(Number.isFinite);
  const low = Math.min(0, ...flat);
  const span = Math.max(0, ...flat) - low || 1;
  const cells = [];
  if (rows) {
    const every = Math.ceil(rows.length / 120);
    rows.filter((_, t) => t % every === 0).forEach((row, t) => row.slice(0, 64).forEach((value, i) => {
      cells.push(svg("rect", { x: t, y: i, width: 1.05, height: 1.05, "fill-opacity": (value - low) / span }));
    }));
  } else {
    values.slice(0, 256).forEach((value, i) => {
      const top = (Math.max(0, value) - low) / span;
      cells.push(svg("rect", { x: i, y: 20 * (1 - top), width: 0.8, height: Math.max(0.3, 20 * Math.abs(value) / span) }));
    });
  }
  const width = rows ? Math.min(120, rows.length) : Math.min(256, values.length);
  const height = rows ? Math.min(64, rows[0].length) : 20;
  return svg("svg", { class: "numbers", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": label }, cells);
}

// The numbers of an item, drawn when they come.
export function pictureOf(address, label) {
  const place = h("div", { class: "numbers-place" });
  json(address).then((said) => {
    if (said && !Array.isArray(said) && !said.values && !said.numbers && typeof said === "object") {
      const filled = Object.entries(said).filter(([, value]) => value !== null);
      place.append(h("span", { class: "said" }, filled.map(([name, value]) => `${name} ${value}`).join(", ")));
      return;
    }
    const values = Array.isArray(said) ? said : said.values ?? said.numbers;
    place.append(picture(values, label), h("span", { class: "hint" }, counted(values)));
  }).catch((error) => place.append(h("span", { class: "hint" }, error.message)));
  return place;
}

export const numbersFile = async (address) => new File([await blob(address)], "numbers.json", { type: "application/json" });
