// Before the first question: what the collection holds, and items to begin with.
import { $, h } from "./dom.js";
import { get } from "./item.js";
import { mediaOf, playButton, thumbnail } from "./media.js";
import { words } from "./subsets.js";

// Which modalities of an item make a question whose answer is something else: all but the text, or all but the last.
export function askable(item, about) {
  const has = mediaOf(item, about).map((one) => one.name);
  const left = has.filter((name) => about.modalities[name] !== "text");
  const names = left.length && left.length < has.length ? left : has.slice(0, Math.max(1, has.length - 1));
  return names.filter((name) => about.subsets.includes(name));
}

export async function draw(about, ids, use, signal) {
  const fused = about.subsets.find((one) => one.includes("+"));
  $("results-title").textContent = "Any combination of inputs, one answer";
  const intro = h("p", { class: "summary" }, fused
    ? `Give ${words(fused).replace(" + ", " and ")} together, and see what they find that neither finds alone.`
    : "Give an input, and see what is nearest to it.");
  if (!about.items) {
    $("found").replaceChildren(intro, h("p", {}, "The collection is empty: add items to the index first."));
    return;
  }
  const list = h("ul", { class: "starts" });
  $("found").replaceChildren(intro, h("h3", {}, "Begin with one of the collection"), list);
  const step = Math.max(1, Math.floor(ids.length / 6));
  const items = await Promise.allSettled(ids.filter((_, i) => i % step === 0).slice(0, 6).map(get));
  list.replaceChildren(...items.filter((one) => one.status === "fulfilled").map(({ value }) => start(value, about, use)));
  if (!list.children.length) list.previousElementSibling.remove();
}

function start(item, about, use) {
  const names = askable(item, about);
  const media = mediaOf(item, about).filter((one) => names.includes(one.name));
  const image = media.find((one) => one.kind === "image");
  const text = media.find((one) => one.kind === "text");
  return h("li", { class: "start" },
    h("div", { class: "row media" }, image && thumbnail(image.address, `${image.name} of ${item.id}`),
      media.filter((one) => one.kind === "audio").map((one) => playButton(one.address, `Play the ${one.name} of ${item.id}`))),
    text && h("p", { class: "said" }, text.text),
    h("button", { type: "button", onclick: () => use(item, names, true), "aria-label": `Ask with ${words(names.join("+"))} of ${item.id}` },
      `Ask with ${names.length > 1 ? (names.length === 2 ? "both" : "all") : "this"}`));
}
