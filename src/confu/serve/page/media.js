// What belongs to an item, small: a thumbnail, a button that plays, a text.
import { h, svg } from "./dom.js";
import { relative, source, withSize } from "./api.js";
import { pictureOf } from "./numbers.js";

const player = new Audio();
let playing = null;

player.addEventListener("ended", () => mark(null));

function mark(button) {
  playing?.setAttribute("aria-pressed", "false");
  playing = button;
  playing?.setAttribute("aria-pressed", "true");
}

export function playButton(address, label) {
  const shape = svg("svg", { viewBox: "0 0 20 20", width: 16, height: 16, "aria-hidden": "true" },
    svg("path", { class: "start", d: "M6 3.5v13l11-6.5z" }), svg("path", { class: "stop", d: "M4 4h12v12H4z" }));
  const button = h("button", { type: "button", class: "play", "aria-label": label, "aria-pressed": "false" }, shape);
  button.addEventListener("click", async () => {
    if (playing === button) { player.pause(); mark(null); return; }
    mark(button);
    try {
      player.src = await source(address);
      await player.play();
    } catch (error) {
      if (error.name === "AbortError") return; // another sound was started
      mark(null);
      button.title = "This sound cannot be played.";
      button.classList.add("broken");
    }
  });
  return button;
}

// Small pictures are shown as they are, not blurred.
export const sharpened = ({ target }) => target.classList.toggle("pixels", target.naturalWidth < 64);

export function thumbnail(address, label, size = 256) {
  const image = h("img", { class: "thumb", alt: label, loading: "lazy", decoding: "async" });
  image.addEventListener("load", sharpened);
  image.addEventListener("error", () => image.replaceWith(h("span", { class: "thumb gone" }, "no picture")));
  source(withSize(address, size)).then((url) => { image.src = url; }, () => image.dispatchEvent(new Event("error")));
  return image;
}

// All that an item has, by name: [{name, kind, address | text}].
export function mediaOf(item, about) {
  return Object.entries(about.modalities).filter(([name]) => item.media?.[name] !== undefined && item.media[name] !== null)
    .map(([name, kind]) => ({ name, kind, address: relative(item.media[name]), text: item.media[name] }));
}

export function large({ name, kind, address, text }, id) {
  if (kind === "text") return h("p", { class: "said" }, text);
  if (kind === "image") return thumbnail(address, `${name} of ${id}`, 512);
  if (kind !== "audio" && kind !== "video") return pictureOf(address, `${name} of ${id}`);
  const element = h(kind, { controls: true, preload: "metadata", "aria-label": `${name} of ${id}` });
  source(address).then((url) => { element.src = url; }, () => element.replaceWith("This file is not there."));
  return element;
}
