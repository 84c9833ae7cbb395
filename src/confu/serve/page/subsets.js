// Sets of modalities by their names, "image+audio", and the overlapping discs that stand for them.
import { svg } from "./dom.js";

export const parts = (subset) => subset.split("+");
export const words = (subset) => parts(subset).join(" + ");
export const same = (a, b) => parts(a).length === parts(b).length && parts(a).every((one) => parts(b).includes(one));
export const disjoint = (subset, names) => !parts(subset).some((one) => names.includes(one));

// The server's own spelling of a set of names, or undefined if it does not know the set.
export const known = (names, subsets) => (names.length ? subsets.find((one) => same(one, names.join("+"))) : undefined);

// What stands for a query: its fused subset, or where the model has none of it, the largest subsets within it.
export function covering(names, subsets) {
  const whole = known(names, subsets);
  if (whole) return [whole];
  const inside = subsets.filter((one) => parts(one).every((name) => names.includes(name)));
  const size = Math.max(0, ...inside.map((one) => parts(one).length));
  return inside.filter((one) => parts(one).length === size);
}

let order = [];
export function setModalities(names) { order = names; }
export const hue = (name) => `m${Math.max(0, order.indexOf(name)) % 8}`;

export function discs(subset) {
  const names = parts(subset);
  const width = 14 + 8 * (names.length - 1);
  const circles = names.map((name, i) => svg("circle", { cx: 7 + 8 * i, cy: 7, r: 6.5, class: hue(name) }));
  return svg("svg", { class: "discs", viewBox: `0 0 ${width} 14`, width, height: 14, "aria-hidden": "true" }, circles);
}
