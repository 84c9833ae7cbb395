// Light or dark, and the key of a server that wants one.
import { $, h, svg } from "./dom.js";
import { hasKey, setKey } from "./api.js";

const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };

export function theme(onchange) {
  const button = $("theme");
  let now = "auto";
  try { now = localStorage.getItem("confu-theme") ?? "auto"; } catch { /* a browser may refuse storage */ }
  const apply = () => {
    if (!(now in THEMES)) now = "auto";
    if (now === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = now;
    button.replaceChildren(svg("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" },
      svg("circle", { cx: 8, cy: 8, r: 7, fill: "none", stroke: "currentColor", "stroke-width": 1.6 }), svg("path", { d: "M8 1a7 7 0 0 1 0 14z", fill: "currentColor" })), THEMES[now]);
    button.setAttribute("aria-label", `Theme: ${THEMES[now]}`);
    try { localStorage.setItem("confu-theme", now); } catch { /* then it lasts as long as the page is open */ }
    onchange();
  };
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    now = names[(names.indexOf(now) + 1) % names.length];
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onchange);
  apply();
}

// Asks for the key; gives whether one was entered.
export function askForKey(message) {
  const dialog = $("key");
  const input = h("input", { id: "key-input", type: "password", autocomplete: "off", "aria-describedby": "key-note" });
  const form = h("form", { method: "dialog" },
    h("h2", { id: "key-title" }, "This server wants an API key"),
    h("p", { id: "key-note" }, message),
    h("label", { for: "key-input" }, "API key"), input,
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Use it"),
      h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
  return new Promise((resolve) => {
    let entered = false;
    form.addEventListener("submit", (event) => { // the page's policy lets no form be sent, not even to a dialog
      event.preventDefault();
      setKey(input.value);
      entered = hasKey();
      dialog.close();
    });
    dialog.addEventListener("close", () => { dialog.replaceChildren(); resolve(entered); }, { once: true });
    dialog.replaceChildren(form);
    dialog.showModal();
  });
}
