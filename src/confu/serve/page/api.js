// Questions to the server, and what it says when it cannot answer.

const KEY = "confu-key";
let key = read();

function read() {
  try { return sessionStorage.getItem(KEY) ?? ""; } catch { return ""; } // a browser may refuse storage
}

export const hasKey = () => key !== "";
export function setKey(value) {
  key = value.trim();
  try { sessionStorage.setItem(KEY, key); } catch { /* kept for as long as the page is open */ }
}

export class ServerError extends Error {
  constructor(status, { code = "unknown", message, field = null } = {}) {
    super(message ?? `the server answered ${status}`);
    Object.assign(this, { status, code, field });
  }
}

const wait = (seconds, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, 1000 * seconds);
  signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); });
});

// A busy server names the time after which to ask again; twice we do, and say so.
export async function ask(path, { signal, body, busy } = {}) {
  for (let tries = 0; ; tries += 1) {
    const response = await send(path, { signal, body });
    if (response.ok) return response;
    const error = await refusal(response);
    if (![429, 503].includes(response.status) || tries === 2) throw error;
    const seconds = Math.min(10, Number(response.headers.get("Retry-After")) || 1);
    busy?.(seconds);
    await wait(seconds, signal);
  }
}

async function send(path, { signal, body }) {
  const headers = key ? { "X-API-Key": key } : {};
  try {
    return await fetch(path, { method: body ? "POST" : "GET", body, headers, signal, cache: "no-cache" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, { code: "no_answer", message: "The server does not answer. Is it still running?" });
  }
}

async function refusal(response) {
  let said = {};
  try { said = (await response.json()).error ?? {}; } catch { /* not from our server: its status is all we know */ }
  return new ServerError(response.status, said);
}

export const json = async (path, options) => (await ask(path, options)).json();
export const blob = async (path, options) => (await ask(path, options)).blob();

// Addresses in answers begin with "/", or with the path of a proxy; the page may be served below some other path.
export const relative = (address) => address.replace(/^.*?\/(?=v1\/)/, "");
export const itemAddress = (id) => `v1/items/${encodeURIComponent(id)}`;
export const withSize = (address, size) => `${address}${address.includes("?") ? "&" : "?"}size=${size}`;

// An <img> or <audio> cannot send a key, so with one its file is fetched first.
const held = new Map();
export async function source(address) {
  if (!key) return address;
  if (!held.has(address)) {
    held.set(address, blob(address).then((file) => URL.createObjectURL(file)));
    if (held.size > 300) {
      const [oldest, url] = held.entries().next().value;
      held.delete(oldest);
      url.then(URL.revokeObjectURL, () => {});
    }
  }
  return held.get(address);
}
