// What is searched for, how the inputs are mixed, and which items may be found.
import { $, h, later } from "./dom.js";
import { covering, discs, known, parts, words } from "./subsets.js";
import { given, query, target, targets, weights } from "./query.js";

let about;
let changed;
const soon = later(150, () => changed(true));

export function build(known_, onchange) {
  about = known_;
  changed = onchange;
  drawFilters();
}

// A slider that is being dragged must stay the same element, so its own changes draw nothing anew.
export function draw(sliding) {
  drawTargets();
  if (!sliding) drawMix();
}

function drawTargets() {
  const chosen = target(about);
  const focused = $("targets").contains(document.activeElement);
  $("targets").replaceChildren(...targets(about).map(({ subset, open }) => h("label", { class: open ? "pill" : "pill closed" },
    h("input", { type: "radio", name: "target", value: subset, disabled: !open, checked: subset === chosen,
      onchange: () => { query.target = subset; changed(); } }),
    discs(subset), words(subset))));
  if (focused) $("targets").querySelector(":checked")?.focus();
}

const percent = (share) => `${Math.round(100 * share)} %`;

function drawMix() {
  const names = given(about);
  const place = $("mix");
  place.hidden = names.length < 2;
  if (place.hidden) return;
  const focused = document.activeElement?.id;
  const whole = covering(names, about.subsets);
  const shown = h("output", { for: "share" });
  const describe = () => { shown.textContent = query.weights ? "your own weights" : query.share === 1 ? "fused" : query.share === 0 ? "each alone" : `${percent(query.share)} fused`; };
  const slider = h("input", { id: "share", type: "range", min: 0, max: 1, step: 0.05, value: query.share, "aria-describedby": "share-ends" });
  slider.addEventListener("input", () => {
    Object.assign(query, { share: Number(slider.value), weights: null });
    describe();
    soon();
  });
  describe();
  place.replaceChildren(
    h("h3", { id: "mix-title" }, h("label", { for: "share" }, "Together or alone"), shown),
    slider,
    h("div", { class: "ends", id: "share-ends" }, h("span", {}, "mean of each alone"), h("span", {}, "fused")),
    known(names, about.subsets) ? "" : h("p", { class: "hint" },
      `The model was not trained to fuse ${words(names.join("+"))}; the mean of ${whole.map(words).join(", ")} stands for it.`),
    drawWeights(names, whole),
  );
  if (focused && place.querySelector(`#${CSS.escape(focused)}`)) $(focused).focus();
}

function drawWeights(names, whole) {
  const all = about.subsets.filter((one) => parts(one).every((name) => names.includes(name)));
  const now = weights(about) ?? { [whole[0]]: 1 };
  const wasOpen = $("mix").querySelector("details")?.open ?? Boolean(query.weights);
  const rows = all.map((subset, i) => {
    const input = h("input", { id: `weight-${i}`, type: "range", min: 0, max: 1, step: 0.05, value: now[subset] ?? 0 });
    input.addEventListener("input", () => {
      query.weights = { ...(query.weights ?? now), [subset]: Number(input.value) };
      soon();
    });
    return [h("label", { for: `weight-${i}` }, discs(subset), words(subset)), input];
  });
  return h("details", { open: wasOpen }, h("summary", {}, "Weigh each one"), h("div", { class: "weights" }, rows));
}

const OPERATORS = { "==": "is", "!=": "is not", ">=": "at least", "<=": "at most", ">": "more than", "<": "less than", in: "one of", contains: "contains" };

// In quotes, where the grammar of filters would take a part of it for something else.
const quoted = (text, odd) => (odd.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function drawFilters() {
  const columns = Object.keys(about.columns ?? {});
  const rows = query.where.map((condition, i) => h("li", {}, h("code", {}, condition),
    h("button", { type: "button", class: "quiet", "aria-label": `Remove the filter ${condition}`,
      onclick: () => { query.where.splice(i, 1); drawFilters(); changed(); $("where-value")?.focus(); } }, "Remove")));
  const column = h("select", { id: "where-column", "aria-label": "Column" }, columns.map((one) => h("option", { value: one }, one)));
  const operator = h("select", { id: "where-operator", "aria-label": "Comparison" },
    Object.entries(OPERATORS).map(([value, word]) => h("option", { value }, word)));
  const value = h("input", { id: "where-value", "aria-label": "Value", placeholder: "value", autocomplete: "off" });
  const add = () => {
    if (!value.value.trim()) { value.focus(); return; }
    const name = quoted(column.value, /[=<>!'"`]|^\(|(^|\s)(not|in|is|contains)(\s|$)/i);
    const odd = operator.value === "in" ? /^[=<>]/ : /^[=<>]|^[^'"`].*\s(and|or)(\s|\(|$)/i;
    const text = quoted(value.value.trim(), odd);
    query.where.push(`${name} ${operator.value} ${text}`);
    drawFilters();
    changed();
    $("where-value").focus();
  };
  value.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); add(); } });
  const count = h("input", { id: "k", type: "number", min: 1, max: about.limits?.max_k ?? 100, value: query.k });
  count.addEventListener("change", () => { query.k = Math.min(about.limits?.max_k ?? 100, Math.max(1, parseInt(count.value, 10) || 10)); count.value = query.k; changed(); });
  $("filters").replaceChildren(
    h("ul", { class: "conditions" }, rows),
    columns.length ? h("div", { class: "row condition" }, column, operator, value, h("button", { type: "button", onclick: add }, "Add filter"))
      : h("p", { class: "hint" }, "The items have no columns to filter by."),
    h("p", { class: "wrong", id: "wrong-where" }),
    h("p", { class: "row" }, h("label", { for: "k" }, "Results"), count),
  );
  if (query.where.length) $("more").open = true;
}

export { drawFilters };

export function wrongFilter(message) {
  $("wrong-where").textContent = message;
  if (message) $("more").open = true;
}
