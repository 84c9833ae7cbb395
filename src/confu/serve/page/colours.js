// One colour a label, the same in the lists and on the map; labels beyond the tenth share a quiet one.
import { h } from "./dom.js";

const MOST = 10;
const order = new Map();

export function seed(labels) {
  for (const label of labels) if (order.size < MOST && !order.has(String(label))) order.set(String(label), order.size);
}

export const known = () => [...order.keys()];
export const has = (label) => label !== null && label !== undefined;

// The name of its variable in the style sheet.
export const variable = (label) => (order.has(String(label)) ? `--l${order.get(String(label))}` : "--soft");
export const dot = (label) => h("span", { class: "dot", vars: { background: `var(${variable(label)})` } });
