// Items whose own label their inputs find together, and none of them alone.
import { json } from "./api.js";
import { has } from "./colours.js";
import { disjoint, parts } from "./subsets.js";

const TRIED = 48;
const WANTED = 3;
const AT_ONCE = 6;

// Up to `count` of a list, from all of it.
export const spread = (list, count) => {
  const step = Math.max(1, Math.floor(list.length / count));
  return list.filter((_, i) => i % step === 0).slice(0, count);
};

// Asks by the vectors that the index has of an item, so that nothing is embedded for it.
async function verdict([id, , , label], subset, target, signal) {
  const form = new FormData();
  Object.entries({ id, subset, target, k: 1, singles: true }).forEach(([name, value]) => form.append(name, value));
  const answer = await json("v1/search", { body: form, signal });
  const first = (hits) => String(hits[0]?.metadata?.label);
  const said = [...Object.entries(answer.singles).map(([name, hits]) => ({ subset: name, label: first(hits) })), { subset, label: first(answer.hits) }]
    .map((one) => ({ ...one, right: one.label === String(label) }));
  return said.length > 2 && said.filter((one) => one.right).length === 1 && said.at(-1).right ? { id, said } : null;
}

// Gives {found: [{id, said: [{subset, label, right}]}], tried}.
export async function telling(about, target, items, signal) {
  const subset = about.stored.find((one) => parts(one).length > 1 && target && disjoint(one, parts(target)));
  const candidates = spread(items.filter(([, , , label]) => has(label)), TRIED);
  const found = [];
  let tried = 0;
  while (subset && found.length < WANTED && tried < candidates.length && !signal.aborted) {
    const some = candidates.slice(tried, tried + AT_ONCE);
    const verdicts = await Promise.allSettled(some.map((one) => verdict(one, subset, target, signal)));
    tried += some.length;
    found.push(...verdicts.flatMap((one) => one.value ?? []));
  }
  return { found: found.slice(0, WANTED), tried };
}
