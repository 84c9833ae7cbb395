// Before the first question: what the collection holds, and items to begin with.
import { $, h } from "./dom.js";
import { askable, get } from "./item.js";
import { mediaOf, playButton, thumbnail } from "./media.js";
import { discs, words } from "./subsets.js";
import { dot } from "./colours.js";
import { spread, telling } from "./telling.js";

// `items` are those of the map: [id, x, y, label].
export async function draw(about, target, items, use, signal) {
  const fused = about.subsets.find((one) => one.includes("+"));
  $("results-title").textContent = "Any combination of inputs, one answer";
  const intro = h("p", { class: "summary" }, fused
    ? `Give ${words(fused).replace(" + ", " and ")} together, and see what they find that neither finds alone.`
    : "Give an input, and see what is nearest to it.");
  if (!about.items) {
    $("found").replaceChildren(intro, h("p", {}, "The collection is empty: add items to the index first."));
    return;
  }
  const told = h("div", { class: "begin", hidden: true });
  const others = h("div", { class: "begin" });
  $("found").replaceChildren(intro, told, others);
  await Promise.all([
    section(others, "Begin with any of the collection", spread(items, 4).map(([id]) => ({ id })), about, use),
    telling(about, target, items, signal).then(({ found, tried }) =>
      section(told, `Begin with what only both together tell (${found.length} of ${tried} that were tried)`, found, about, use)),
  ]);
}

async function section(place, title, starts, about, use) {
  const items = await Promise.allSettled(starts.map(({ id }) => get(id)));
  const cards = items.flatMap((one, i) => (one.status === "fulfilled" ? [start(one.value, starts[i], about, use)] : []));
  place.hidden = !cards.length;
  place.replaceChildren(h("h3", {}, title), h("ul", { class: "starts" }, cards));
}

function start(item, { said }, about, use) {
  const names = said ? said.at(-1).subset.split("+") : askable(item);
  const media = mediaOf(item, about).filter((one) => names.includes(one.name));
  const image = media.find((one) => one.kind === "image");
  const text = media.find((one) => one.kind === "text");
  return h("li", { class: "start" },
    h("div", { class: "row media" }, image && thumbnail(image.address, `${image.name} of ${item.id}`),
      media.filter((one) => one.kind === "audio").map((one) => playButton(one.address, `Play the ${one.name} of ${item.id}`))),
    text && h("p", { class: "said" }, text.text),
    said && h("ul", { class: "verdicts" }, said.map(({ subset, label, right }) => h("li", { class: right ? "right" : "" },
      discs(subset), h("span", {}, subset.includes("+") ? "together" : `${subset} alone`), h("b", {}, dot(label), label, right ? " ✓" : "")))),
    h("button", { type: "button", onclick: () => use(item, names, true), "aria-label": `Ask with ${words(names.join("+"))} of ${item.id}` },
      `Ask with ${names.length > 1 ? (names.length === 2 ? "both" : "all") : "this"}`));
}
