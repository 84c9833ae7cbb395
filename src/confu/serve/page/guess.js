// Zero-shot labels: which of these words is nearest, to all inputs together and to each alone.
import { $, h, later } from "./dom.js";
import { json } from "./api.js";
import { discs, words } from "./subsets.js";
import { given, inputs, weights } from "./query.js";

let about;
let controller;
const chosen = { labels: [], template: "{}" };
const area = h("textarea", { id: "guess-labels", rows: 2 });
const template = h("input", { id: "guess-template", value: "{}", autocomplete: "off" });
const table = h("div", { id: "guess-table" });
const note = h("p", { class: "wrong", id: "guess-wrong", role: "status" });
const soon = later(500, () => run());

export function build(known) {
  about = known;
  if (!Object.values(about.modalities).includes("text")) return; // nothing can be said in words
  chosen.labels = (about.labels ?? []).slice(0, 200).map(String);
  area.value = chosen.labels.join(", ");
  const read = () => {
    chosen.labels = [...new Set(area.value.split(/[,\n]/).map((one) => one.trim()).filter(Boolean))];
    chosen.template = template.value.includes("{}") ? template.value : "{}";
    soon();
  };
  area.addEventListener("input", read);
  template.addEventListener("input", read);
  $("guess").replaceChildren(
    h("h2", { id: "guess-title" }, "Which of these is it?"),
    h("p", { class: "hint" }, "The word nearest to your inputs; the model needs no training for it."),
    table, note,
    h("details", { open: !chosen.labels.length }, h("summary", {}, "Words to choose from"),
      h("label", { for: "guess-labels" }, "Words, with commas between them"), area,
      h("label", { for: "guess-template" }, "Sentence around each word"), template,
      h("p", { class: "hint" }, "{} stands for the word, as in: a photo of a {}")));
}

async function one(names, sent, signal) {
  const form = await inputs(about, names);
  form.append("labels", JSON.stringify(chosen.labels));
  if (chosen.template !== "{}") form.append("template", chosen.template);
  if (sent) form.append("weights", JSON.stringify(sent));
  return json("v1/classify", { body: form, signal });
}

export async function run() {
  const names = given(about);
  const possible = names.length && Object.entries(about.modalities).some(([name, kind]) => kind === "text" && !names.includes(name));
  $("guess").hidden = !possible || !$("guess").children.length;
  controller?.abort();
  controller = new AbortController();
  if ($("guess").hidden) return;
  if (chosen.labels.length < 2) { table.replaceChildren(h("p", { class: "hint" }, "Write two words or more.")); return; }
  const { signal } = controller;
  try {
    const [all, ...alone] = await Promise.all([one(names, weights(about), signal),
      ...(names.length > 1 ? names.map((name) => one([name], null, signal)) : [])]);
    note.textContent = "";
    draw(names, all, alone);
  } catch (error) {
    if (error.name === "AbortError") return;
    table.replaceChildren();
    note.textContent = error.message;
  }
}

function draw(names, all, alone) {
  const heads = [[all.query, names.length > 1 ? "together" : names[0]], ...alone.map((_, i) => [names[i], `${names[i]} alone`])];
  const answers = [all, ...alone];
  const best = answers.map((answer) => answer.labels[0]?.label);
  const shown = all.labels.filter((one, i) => i < 8 || best.includes(one.label));
  table.replaceChildren(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Labels and their shares" },
    h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "label"), heads.map(([subset, title]) => h("th", { scope: "col" }, discs(subset), title)))),
      h("tbody", {}, shown.map(({ label }) => h("tr", {}, h("th", { scope: "row" }, label),
        answers.map((answer, i) => cell(answer.labels.find((one) => one.label === label), best[i] === label))))))),
    h("p", { class: "hint" }, `Nearest: ${heads.map(([, title], i) => `${title} says ${best[i]}`).join("; ")}.`));
}

function cell(said, first) {
  if (!said) return h("td", {}, "–");
  const share = said.probability ?? Math.max(0, said.score);
  const text = said.probability === null || said.probability === undefined ? said.score.toFixed(2) : `${Math.round(100 * share)} %`;
  return h("td", { class: first ? "share first" : "share", vars: { "--share": `${Math.round(100 * share)}%` } }, h("span", {}, text));
}
