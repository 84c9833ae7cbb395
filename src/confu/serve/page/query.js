// The question that the page holds, the form in which it is sent, and the link that repeats it.
import { blob, ServerError } from "./api.js";
import { covering, disjoint, known, parts } from "./subsets.js";

// A slot is {kind: "file", file} | {kind: "item", id, media} | {kind: "text", text} | {kind: "numbers", text}.
export const query = { slots: {}, target: null, k: 10, where: [], share: 1, weights: null };

export const given = (about) => Object.keys(about.modalities).filter((name) => query.slots[name]);

export function targets(about) {
  const names = given(about);
  const size = (one) => parts(one).length;
  return [...about.stored].sort((a, b) => size(a) - size(b)).map((subset) => ({ subset, open: disjoint(subset, names) }));
}

// The target that was chosen, or while it overlaps with what is given, the one that a person most likely means.
export function target(about) {
  const open = targets(about).filter((one) => one.open).map((one) => one.subset);
  if (open.includes(query.target)) return query.target;
  return open.find((one) => about.modalities[one] === "text") ?? open[0] ?? null;
}

// What is sent as weights: nothing for the fused embedding itself.
export function weights(about) {
  const names = given(about);
  const inside = (subset) => parts(subset).every((name) => names.includes(name));
  if (query.weights) {
    const kept = Object.entries(query.weights).filter(([subset, weight]) => weight > 0 && inside(subset));
    if (kept.length) return Object.fromEntries(kept);
  }
  const whole = covering(names, about.subsets);
  if (names.length < 2 || (query.share === 1 && whole.length === 1)) return null;
  return mixed(whole, names.map((name) => known([name], about.subsets)).filter(Boolean), query.share);
}

function mixed(whole, alone, share) {
  const all = {};
  whole.forEach((one) => { all[one] = (all[one] ?? 0) + share / whole.length; });
  alone.forEach((one) => { all[one] = (all[one] ?? 0) + (1 - share) / alone.length; });
  return Object.fromEntries(Object.entries(all).filter(([, weight]) => weight > 0).map(([one, w]) => [one, +w.toFixed(4)]));
}

// One part a modality; an item's own file is fetched and sent as if it had been dropped.
export async function inputs(about, names) {
  const form = new FormData();
  for (const name of names) {
    const slot = query.slots[name];
    if (slot.kind === "text") form.append(name, slot.text);
    else if (slot.kind === "numbers") form.append(name, slot.text);
    else if (slot.kind === "file") form.append(name, slot.file, slot.file.name);
    else if (about.modalities[name] === "text") form.append(name, slot.media);
    else {
      slot.file ??= await fetched(slot.media, name);
      form.append(name, slot.file, slot.file.type === "application/json" ? "numbers.json" : "item");
    }
  }
  return form;
}

async function fetched(address, name) {
  try { return await blob(address); } catch (error) {
    if (error instanceof ServerError) error.field = name; // so that it is said beside this input
    throw error;
  }
}

export function toHash() {
  const hash = new URLSearchParams();
  for (const [name, slot] of Object.entries(query.slots)) {
    if (slot?.kind === "item") hash.set(`in.${name}`, `item:${slot.id}`);
    else if (slot && slot.kind !== "file") hash.set(`in.${name}`, `${slot.kind}:${slot.text}`);
  }
  if (query.target) hash.set("target", query.target);
  if (query.k !== 10) hash.set("k", query.k);
  if (query.share !== 1) hash.set("share", query.share);
  if (query.weights) hash.set("weights", JSON.stringify(query.weights));
  query.where.forEach((condition) => hash.append("where", condition));
  return hash.toString();
}

// Gives the items that the link names; their media must still be asked of the server.
export function fromHash(text, about) {
  const hash = new URLSearchParams(text);
  Object.assign(query, { slots: {}, target: hash.get("target"), where: hash.getAll("where"), weights: null });
  query.k = Math.min(about.limits?.max_k ?? 100, Math.max(1, parseInt(hash.get("k"), 10) || 10));
  query.share = Math.min(1, Math.max(0, parseFloat(hash.get("share") ?? "1") || 0));
  try {
    const said = JSON.parse(hash.get("weights") ?? "null");
    if (said && Object.values(said).every(Number.isFinite)) query.weights = said;
  } catch { /* a link that was cut off: the weights are as if not named */ }
  const items = [];
  for (const name of Object.keys(about.modalities)) {
    const [, kind, value] = /^(item|text|numbers):([\s\S]*)$/.exec(hash.get(`in.${name}`) ?? "") ?? [];
    if (kind === "item") items.push({ name, id: value });
    else if (kind) query.slots[name] = { kind, text: value };
  }
  return items;
}
