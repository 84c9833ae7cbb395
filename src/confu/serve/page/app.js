// The page: holds a question, asks it when it changes, and shows what came back.
import { $, say } from "./dom.js";
import { json, ServerError } from "./api.js";
import { setModalities, words } from "./subsets.js";
import { fromHash, given, inputs, query, target, toHash, weights } from "./query.js";
import * as slots from "./slots.js";
import * as controls from "./controls.js";
import * as results from "./results.js";
import * as guess from "./guess.js";
import * as map from "./map.js";
import * as item from "./item.js";
import * as start from "./start.js";
import { seed } from "./colours.js";
import { askForKey, theme } from "./settings.js";

let about;
let controller;

function alarm(message) {
  $("alert").hidden = !message;
  $("alert").textContent = message;
}

// Says an error where it belongs: beside its input, at the filters, or above the results.
async function fail(error, again) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    $("key-button").hidden = false;
    if (await askForKey(error.message)) { again(); return; }
  }
  if (error.field === "where") controls.wrongFilter(error.message);
  else if (!error.field || !slots.wrong(error.field, error.message, "server")) alarm(error.message);
  if (error.field && $("found").querySelector(".columns") && $("alert").hidden) alarm("Not answered: see what is marked. Below is the answer to the question before.");
  if (error.field) say(error.message);
  if (!(error instanceof ServerError)) console.error(error);
}

async function search(sliding = false) {
  controller?.abort();
  controller = new AbortController();
  const { signal } = controller;
  alarm("");
  slots.clearWrong();
  controls.wrongFilter("");
  controls.draw(sliding === true);
  remember(sliding === true);
  if (!given(about).length) { await welcome(signal); return; }
  const wanted = target(about);
  if (!wanted) { alarm(`Nothing is left to find: the index stores ${about.stored.map(words).join(", ")}. Remove one of the inputs.`); return; }
  $("results").setAttribute("aria-busy", "true");
  try {
    const sent = weights(about);
    const form = await inputs(about, given(about));
    form.append("target", wanted);
    form.append("k", query.k);
    form.append("singles", "true");
    query.where.forEach((condition) => form.append("where", condition));
    if (sent) form.append("weights", JSON.stringify(sent));
    const answer = await json("v1/search", { body: form, signal, busy: (seconds) => alarm(`The server is busy; asking again in ${seconds} s.`) });
    if (signal.aborted) return;
    alarm("");
    results.draw(answer, sent);
    say(`${$("results-title").textContent}. ${$("found").querySelector(".summary").textContent}`);
    guess.run();
    map.draw(answer.target, answer).catch((error) => alarm(error.message));
  } catch (error) {
    await fail(error, search);
  } finally {
    if (!signal.aborted) $("results").removeAttribute("aria-busy");
  }
}

async function welcome(signal) {
  $("guess").hidden = true;
  try {
    const shown = target(about) ?? about.stored[0];
    const items = shown && about.items ? await map.load(shown) : [];
    if (signal.aborted) return; // a question came meanwhile
    if (items.length) map.draw(shown, null);
    await start.draw(about, shown, items, use, signal);
  } catch (error) { await fail(error, search); }
}

// Asks with modalities of an item: instead of all inputs, or beside them.
function use(one, names, replace) {
  if (replace) query.slots = {};
  for (const name of names) query.slots[name] = item.slotOf(one, name);
  query.weights = null;
  slots.draw();
  search();
  $("results").focus({ preventScroll: true });
  $("results").scrollIntoView({ block: "nearest" });
}

let lastInputs = "";
function remember(quietly) {
  const hash = `#${toHash()}`;
  const now = JSON.stringify(Object.entries(query.slots).filter(([, slot]) => slot).map(([name, { kind, id, text }]) => [name, kind, id, text]));
  if (hash === (location.hash || "#")) return;
  if (now === lastInputs || quietly) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  lastInputs = now;
}

async function follow() {
  const items = fromHash(location.hash.slice(1), about);
  const failed = [];
  await Promise.all(items.map(async ({ name, id }) => {
    try {
      query.slots[name] = item.slotOf(await item.get(id), name);
      if (!query.slots[name]) failed.push(`${id} has no ${name}`);
    } catch (error) { failed.push(error.message); }
  }));
  slots.draw();
  controls.drawFilters();
  await search();
  if (failed.length) alarm(`Part of this link could not be followed: ${failed.join("; ")}.`);
}

async function copyLink() {
  const files = given(about).filter((name) => query.slots[name].kind === "file");
  const left = files.length ? ` Your ${files.join(" and ")} is not in it: a link holds words, numbers and items of the collection, no files.` : "";
  let said = "The address of this page is the link.";
  try { await navigator.clipboard.writeText(location.href); said = "Link copied."; } catch { /* not from localhost, or not allowed */ }
  $("link-note").textContent = said + left;
}

function listen() {
  $("ask").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  $("clear").addEventListener("click", () => {
    Object.assign(query, { slots: {}, where: [], target: null, share: 1, weights: null });
    $("link-note").textContent = "";
    slots.draw();
    controls.drawFilters();
    search();
  });
  $("link").addEventListener("click", copyLink);
  $("key-button").addEventListener("click", async () => { if (await askForKey("It is kept until this tab is closed.")) boot(); });
  window.addEventListener("popstate", follow);
  document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });
  document.addEventListener("drop", (event) => { event.preventDefault(); document.body.classList.remove("dragging"); receive(event.dataTransfer, event.target); });
  document.addEventListener("paste", (event) => { if (event.clipboardData?.files.length) receive(event.clipboardData, event.target); });
}

function receive(transfer, element) {
  for (const file of transfer?.files ?? []) {
    const name = slots.nameFor(file, element);
    if (name) slots.take(name, file);
    else alarm(`Nothing here takes ${file.name}. This collection takes ${Object.keys(about.modalities).join(", ")}.`);
  }
}

async function boot() {
  try { about = await json("v1/about"); } catch (error) {
    $("results-title").textContent = "The collection could not be opened";
    await fail(error, boot);
    return;
  }
  document.title = `Search ${about.name}`;
  const name = about.name === "index" ? "" : `${about.name}: `; // what many call the folder says nothing
  $("size").textContent = `${name}${about.items.toLocaleString("en")} items with ${Object.keys(about.modalities).join(", ")}`;
  seed((about.labels ?? []).slice(0, 10));
  setModalities(Object.keys(about.modalities));
  item.build(about, use);
  results.build(about);
  slots.build(about, search);
  controls.build(about, search);
  guess.build(about);
  map.build(about);
  await follow();
}

theme(() => map.paint());
listen();
boot();
