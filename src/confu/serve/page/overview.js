// At a glance: what each list found, one bar a list.
import { h, unseen } from "./dom.js";
import { discs } from "./subsets.js";
import { dot, has, seed, variable } from "./colours.js";

// The labels of a list's hits, the most frequent first: [["three", 7], ["eight", 3]].
export function tally(hits) {
  const counts = new Map();
  for (const hit of hits) if (has(hit.metadata?.label)) counts.set(String(hit.metadata.label), (counts.get(String(hit.metadata.label)) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

export function overview(columns, own) {
  const [main, ...others] = columns;
  if (!others.length || !main.hits.length) return null;
  const counts = columns.map((column) => tally(column.hits));
  const labelled = counts.every((one) => one.length);
  seed(counts.flat().map(([label]) => label));
  const found = new Set(main.hits.map((hit) => hit.id));
  return h("div", { class: "glance" },
    h("h3", {}, labelled ? "The labels that each finds" : "How much each finds of the same",
      labelled && has(own) && [", for an item of label ", h("span", { class: "one" }, dot(own), String(own))]),
    h("ul", {}, columns.map((column, i) => h("li", { class: i ? "" : "first" },
      h("span", { class: "who" }, column.subset && discs(column.subset), column.title), unseen(": "),
      labelled ? labels(counts[i], own) : shared(column, found, i)))));
}

function labels(counts, own) {
  return [
    h("span", { class: "bar", "aria-hidden": "true" }, counts.map(([label, count]) => h("span", { vars: { "flex-grow": count, background: `var(${variable(label)})` } }))),
    h("span", { class: "what" }, counts.slice(0, 3).map(([label, count], i) => [i ? ", " : "", h("span", { class: "one" }, dot(label), `${label} ${count}`)]),
      counts.length > 3 ? `, ${counts.length - 3} more` : "",
      has(own) && counts[0][0] === String(own) ? h("span", { class: "right", title: "as the item's own label" }, " ✓", unseen("as the item's own label")) : ""),
  ];
}

function shared(column, found, i) {
  const count = column.hits.filter((hit) => found.has(hit.id)).length;
  return [
    h("span", { class: "bar", "aria-hidden": "true" }, h("span", { vars: { "flex-grow": count, background: "var(--accent)" } }),
      h("span", { vars: { "flex-grow": column.hits.length - count, background: "var(--rule)" } })),
    h("span", { class: "what" }, i ? `${count} of ${column.hits.length} the same` : `${count} items`),
  ];
}
