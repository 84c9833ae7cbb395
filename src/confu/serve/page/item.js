// One item of the collection, whole, and ways to ask with it.
import { $, h } from "./dom.js";
import { itemAddress, json } from "./api.js";
import { discs, words } from "./subsets.js";
import { large, mediaOf } from "./media.js";

let about;
let use; // (item, names) => asks with these of its modalities
export function build(known, onuse) {
  about = known;
  use = onuse;
  $("item").addEventListener("click", (event) => { if (event.target === $("item")) $("item").close(); });
  $("item").addEventListener("close", () => $("item").replaceChildren());
}

export const get = (id) => json(itemAddress(id));

export const slotOf = (item, name) => {
  const medium = mediaOf(item, about).find((one) => one.name === name);
  return medium && { kind: "item", id: item.id, label: item.metadata?.label, media: medium.kind === "text" ? medium.text : medium.address };
};

// Which modalities of an item make a question whose answer is something else: all but the text, or all but the last.
export function askable(item) {
  const has = mediaOf(item, about).map((one) => one.name);
  const left = has.filter((name) => about.modalities[name] !== "text");
  const names = left.length && left.length < has.length ? left : has.slice(0, Math.max(1, has.length - 1));
  return names.filter((name) => about.subsets.includes(name));
}

export async function show(id) {
  const dialog = $("item");
  const close = h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
  const head = h("div", { class: "dialog-head" }, h("h2", { id: "item-title" }, id), close);
  dialog.replaceChildren(head, h("p", { class: "hint" }, "Loading"));
  if (!dialog.open) dialog.showModal();
  try {
    dialog.replaceChildren(head, ...drawn(await get(id)));
  } catch (error) { dialog.replaceChildren(head, h("p", { class: "alert" }, error.message)); }
}

function drawn(item) {
  const media = mediaOf(item, about);
  const ask = (names, replace) => { $("item").close(); use(item, names, replace); };
  const names = askable(item);
  const facts = Object.entries(item.metadata ?? {}).filter(([, value]) => value !== null);
  return [
    h("div", { class: "item-media" }, media.map((one) => h("section", { "aria-label": one.name },
      h("div", { class: "slot-head" }, discs(one.name), h("h3", {}, one.name),
        h("button", { type: "button", class: "quiet", "aria-label": `Ask with this ${one.name}`, onclick: () => ask([one.name], false) }, "Ask with this")),
      large(one, item.id)))),
    facts.length ? h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))])) : null,
    names.length > 1 ? h("div", { class: "actions" }, h("button", { type: "button", class: "primary", onclick: () => ask(names, true) }, `Ask with its ${words(names.join("+"))} together`)) : null,
  ].filter(Boolean);
}
