// What was found: together, and beside it what each input alone would have found.
import { $, h, unseen } from "./dom.js";
import { discs, parts, words } from "./subsets.js";
import { mediaOf, playButton, thumbnail } from "./media.js";
import { pictureOf } from "./numbers.js";
import { query } from "./query.js";
import { show as showItem } from "./item.js";
import { overview } from "./overview.js";
import { dot, has } from "./colours.js";

let about;
export function build(known) { about = known; }

// The lists that an answer holds, the first of them the answer itself.
export function columns(answer, weights) {
  const names = parts(answer.query);
  const list = [{ name: "main", subset: answer.query, title: names.length < 2 ? names[0] : weights ? "Your mix" : "Together",
    note: names.length < 2 ? "" : weights ? "by the weights that you chose" : `${words(answer.query)}, fused`, hits: answer.hits }];
  if (names.length < 2) return list;
  for (const [name, hits] of Object.entries(answer.singles ?? {})) {
    list.push({ name, subset: name, title: `${name} alone`, note: "", hits });
  }
  if (answer.mean?.length) list.push({ name: "mean", subset: null, title: "Mean of them", note: "without fusion", hits: answer.mean });
  return list;
}

export function draw(answer, weights) {
  const all = columns(answer, weights);
  const [main, ...others] = all;
  $("results-title").replaceChildren(title(answer));
  $("found").replaceChildren(
    h("p", { class: "summary" }, summary(main, others)),
    overview(all, own()) ?? "",
    h("div", { class: others.length ? "columns" : "columns one", vars: { "--others": others.length } }, all.map((column) => drawColumn(column, main, others, answer))),
  );
}

function title(answer) {
  const count = answer.hits.length;
  if (!count) return "Nothing fits";
  return `${count} ${words(answer.target)} ${count === 1 ? "item" : "items"} nearest to your ${words(answer.query)}`;
}

export function summary(main, others) {
  if (!main.hits.length) return "No item has what is asked for and fits the filters. Take a filter away.";
  const singles = others.filter((column) => column.name !== "mean");
  if (!singles.length) return "Add a second input to see what both find together.";
  const alone = new Set(singles.flatMap((column) => column.hits.map((hit) => hit.id)));
  const fresh = main.hits.filter((hit) => !alone.has(hit.id)).length;
  const names = singles.map((column) => column.name).join(" nor ");
  const twin = singles.find((column) => main.hits.every((hit) => rankIn(column, hit.id)));
  if (twin) return `The same ${main.hits.length} are found by ${twin.title}.`;
  if (!fresh) return `Each of these is also among the first ${main.hits.length} of ${singles.map((one) => one.name).join(" or ")} alone.`;
  return `${fresh} of ${main.hits.length} are found by neither ${names} alone.`;
}

function drawColumn(column, main, others, answer) {
  const isMain = column === main;
  const id = `column-${column.name}`;
  return h("section", { class: isMain ? "column main" : "column", "aria-labelledby": id, "data-column": column.name },
    h("div", { class: "column-head" }, column.subset && discs(column.subset), h("h3", { id }, column.title), column.note && h("span", { class: "hint" }, column.note)),
    h("ol", { class: "hits" }, column.hits.map((hit, i) => (isMain ? card(hit, i, others, answer) : line(hit, i, main, answer)))),
    column.hits.length ? null : h("p", { class: "hint" }, "Nothing fits."));
}

const rankIn = (column, id) => column.hits.findIndex((hit) => hit.id === id) + 1;
// The label of the item that the query was taken from, if it is all of one item.
function own() {
  const slots = Object.values(query.slots).filter(Boolean);
  return slots.length && slots.every((slot) => slot.kind === "item" && slot.id === slots[0].id) ? slots[0].label : undefined;
}

const asked = (id) => Object.values(query.slots).some((slot) => slot?.kind === "item" && slot.id === id);

function same(id) {
  const mark = (on) => document.querySelectorAll(".hit").forEach((one) => one.classList.toggle("same", on && one.dataset.id === id));
  return { "data-id": id, onmouseenter: () => mark(true), onmouseleave: () => mark(false), onfocusin: () => mark(true), onfocusout: () => mark(false) };
}

const opener = (hit) => h("button", { type: "button", class: "id", onclick: () => showItem(hit.id), "aria-label": `Show item ${hit.id}` }, hit.id);

function score(hit) {
  const shown = hit.score.toFixed(2);
  return h("span", { class: "score", title: "cosine with the query" }, unseen("score "), shown);
}

function card(hit, i, others, answer) {
  const media = mediaOf(hit, about);
  const targets = parts(answer.target);
  const first = (kind) => media.filter((one) => one.kind === kind).sort((a, b) => targets.includes(b.name) - targets.includes(a.name));
  const [image] = first("image");
  const drawn = media.find((one) => targets.includes(one.name) && !["image", "audio", "video", "text"].includes(one.kind));
  return h("li", { class: "hit", ...same(hit.id) },
    h("span", { class: "rank", "aria-hidden": "true" }, i + 1),
    h("div", { class: "body" },
      h("div", { class: "row media" },
        h("div", { class: image ? "medium pictured" : "medium" }, image && thumbnail(image.address, `${image.name} of ${hit.id}`),
          first("audio").map((one) => playButton(one.address, `Play the ${one.name} of ${hit.id}`))),
        h("div", { class: "texts" }, first("text").map((one) => h("p", { class: targets.includes(one.name) ? "said" : "said aside" }, one.text)),
          drawn && pictureOf(drawn.address, `${drawn.name} of ${hit.id}`),
          h("p", { class: "row facts" }, label(hit), opener(hit), asked(hit.id) && h("span", { class: "chip own" }, "the query's own"))))),
    h("div", { class: "side" }, score(hit), others.length ? ranks(hit, others) : null));
}

const label = (hit) => (has(hit.metadata?.label) ? h("span", { class: "chip" }, dot(hit.metadata.label), String(hit.metadata.label)) : null);

// Where each of the other lists has this item: "7th", or a dash where it is not among them.
function ranks(hit, others) {
  return h("ul", { class: "ranks", "aria-label": "Found by others" }, others.filter((column) => column.subset).map((column) => {
    const rank = rankIn(column, hit.id);
    const said = rank ? `${column.title}: place ${rank}` : `${column.title}: not found`;
    return h("li", { title: said, class: rank ? "" : "absent" }, discs(column.subset), h("span", { "aria-hidden": "true" }, rank || "–"), unseen(said));
  }));
}

function line(hit, i, main, answer) {
  const media = mediaOf(hit, about);
  const wanted = parts(answer.target);
  const text = media.find((one) => one.kind === "text" && wanted.includes(one.name));
  const image = media.find((one) => one.kind === "image");
  const audio = media.find((one) => one.kind === "audio");
  const rank = rankIn(main, hit.id);
  const also = `also in the first list, place ${rank}`;
  return h("li", { class: "hit small", ...same(hit.id) },
    h("span", { class: "rank", "aria-hidden": "true" }, i + 1),
    image ? thumbnail(image.address, `${image.name} of ${hit.id}`, 96) : audio ? playButton(audio.address, `Play the ${audio.name} of ${hit.id}`) : h("span"),
    h("div", { class: "body" },
      h("button", { type: "button", class: "id open", title: hit.id, "aria-label": `Show item ${hit.id}`, onclick: () => showItem(hit.id) }, text?.text ?? hit.id),
      h("p", { class: "row facts" }, score(hit), text ? null : label(hit),
        rank ? h("span", { class: "also", title: also }, discs(main.subset), h("span", { "aria-hidden": "true" }, rank), unseen(also)) : null)));
}
