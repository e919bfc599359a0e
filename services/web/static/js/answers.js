// What comes back of a request: Artseek's answer, or what a proxy in front of it said in its place.

import { saidOf } from "./problems.js";
import { gettext } from "./texts.js";

const SILENCE = gettext("Artseek does not answer. Is it still running?");
const PHRASES = { 413: "Request Entity Too Large", 429: "Too Many Requests", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout" };
const ADVICE = {
  413: gettext("It takes no request as large as this; the limit is a setting of the proxy."),
  502: gettext("It does not reach Artseek. Is it still running?"),
  504: gettext("Artseek behind it took too long."),
};

/** Return what a proxy said with a page of its own, in a sentence. */
export function proxyNotice(status, html) {
  const title = new DOMParser().parseFromString(html, "text/html").title.trim().slice(0, 120);
  const said = title.includes(status) ? title : [status, PHRASES[status] ?? title].join(" ").trim();
  return [gettext("The proxy in front of Artseek said: %(said)s.", { said }), ADVICE[status]].filter(Boolean).join(" ");
}

/** Return what an answer of the API holds: `value` is null and `error` says why if it is none; status 0: nothing came. */
export function readAnswer(status, text) {
  if (!status) return { ok: false, status, value: null, error: SILENCE };
  const ok = status >= 200 && status < 300;
  if (ok && !text) return { ok, status, value: null, error: "" };
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return { ok: false, status, value: null, error: proxyNotice(status, text) };
  }
  return { ok, status, value, error: ok ? "" : saidOf(value) ?? PHRASES[status] ?? gettext("Artseek answered %(status)s.", { status }) };
}

/** Send a request to the API and read its answer; only an abort throws. */
export async function ask(url, options) {
  try {
    const response = await fetch(url, options);
    return readAnswer(response.status, await response.text());
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return readAnswer(0, "");
  }
}

/** Wait for some milliseconds. */
export const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Tell of an answer about a job whether asking again makes no sense. */
export const isFinal = ({ status }) => status >= 400 && status < 500 && status !== 408 && status !== 429;

/** Ask how a job stands that `url` is of; what it left out is in the answer once it has ended. */
export async function askJob(url) {
  const found = await ask(`${url}/summary`);
  return ["done", "cancelled"].includes(found.value?.state) ? ask(url) : found;
}

/** Send a request that answers with a job, and wait for its end; returns what went wrong, "" for nothing. */
export async function runJob(url, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  const sent = await ask(url, { method: "POST", headers, body: body && JSON.stringify(body) });
  if (!sent.ok) return sent.error;
  for (;;) {
    const found = await askJob(sent.value.url);
    if (!found.status || isFinal(found)) return found.error;
    if (found.value?.state === "done") return found.value.rejected.map(saidOf).join("; ");
    await pause(200);
  }
}

export { SILENCE };
