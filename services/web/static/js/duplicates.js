// The page of duplicates: judging pairs, the share that a threshold leaves, comparing, merging.

import { ask, askJob, isFinal, pause } from "./answers.js";
import { fixed, gettext, ngettext } from "./texts.js";

const main = document.getElementById("duplicates");
const { groups, api, proof, verdicts, merging: mergeUrl, large, job } = main.dataset;
const by = (id) => document.getElementById(id);
const send = (url, value) =>
  ask(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
const POLL_MS = 1000;
const SETTLED_MS = 150;

/** Follow a search that is under way, and show what it has found when it ends. */
async function follow() {
  for (;;) {
    await pause(POLL_MS);
    const found = await askJob(job);
    if (isFinal(found)) return;
    const bar = main.querySelector(".under-way progress");
    if (bar && found.ok) {
      bar.max = found.value.total || 1;
      bar.value = found.value.finished;
    }
    if (found.value && !["open", "running"].includes(found.value.state)) {
      location.reload();
      return;
    }
  }
}
if (job) follow();

// How sure it is

const slider = by("threshold");
const line = by("share");
let share = line ? JSON.parse(line.dataset.share) : null;
let settling = null;

const percent = (value) => (value > 0.995 && value < 1 ? fixed(100 * value, 1) : fixed(100 * value, 0));

function tellShare() {
  const pairs = ngettext("%(count)s pair is shown.", "%(count)s pairs are shown.", share.pairs);
  const sure = share.share === null
    ? gettext("Judge some, and this says what share of them are duplicates.")
    : ngettext(
      "%(share)s %% of them are duplicates: %(low)s to %(high)s %%, with %(confidence)s %% certainty, by a pair that was judged.",
      "%(share)s %% of them are duplicates: %(low)s to %(high)s %%, with %(confidence)s %% certainty, by %(count)s pairs that were judged.",
      share.judged,
      { share: percent(share.share), low: percent(share.low), high: percent(share.high), confidence: Math.round(100 * share.confidence) },
    );
  line.textContent = `${pairs} ${sure}`;
  if (by("judge-open")) by("judge-open").disabled = !share.next;
}

/** Ask for the share at the threshold of the slider; returns what went wrong, "" for nothing. */
async function readShare() {
  const threshold = slider.value;
  const found = await ask(`${groups}?threshold=${threshold}&limit=1`);
  if (threshold !== slider.value) return "";
  if (!found.ok) return found.error;
  share = found.value.share;
  tellShare();
  return "";
}

if (slider) {
  tellShare();
  slider.addEventListener("input", () => {
    by("threshold-shown").textContent = fixed(Number(slider.value), 2);
    clearTimeout(settling);
    settling = setTimeout(async () => { by("problem").textContent = await readShare(); }, SETTLED_MS);
  });
}

// Judging

const judging = by("judge");
let judged = 0;

async function showPair() {
  const { a, b } = share.next;
  by("judge-left").textContent = share.share === null ? "" : line.textContent;
  for (const [side, id] of [["judge-a", a], ["judge-b", b]]) {
    const image = by(side);
    image.src = `${api}/${id}/${large}`;
    const entry = await ask(`${api}/${id}`);
    image.alt = entry.value?.name ?? "";
    image.closest("figure").querySelector("figcaption").textContent = entry.ok
      ? `${entry.value.name}, ${entry.value.width} × ${entry.value.height}`
      : entry.error;
  }
}

async function judge(verdict) {
  if (judging.ariaBusy === "true") return;
  judging.ariaBusy = "true"; // its buttons stay as they are, or the keyboard would lose its place
  const { a, b } = share.next;
  const sent = await send(verdicts, { a, b, verdict });
  const error = sent.ok ? await readShare() : sent.error;
  by("judge-problem").textContent = error;
  judged += sent.ok;
  if (!error && share.next) await showPair();
  judging.ariaBusy = "false";
  if (!error && !share.next) judging.close();
}

if (judging) {
  by("judge-open").addEventListener("click", () => {
    if (!share.next) return;
    by("judge-problem").textContent = "";
    judged = 0;
    judging.ariaBusy = "true";
    showPair().finally(() => { judging.ariaBusy = "false"; });
    judging.showModal();
  });
  judging.addEventListener("click", (event) => {
    const verdict = event.target.closest("[data-verdict]")?.dataset.verdict;
    if (verdict) judge(verdict);
  });
  judging.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const verdict = { s: "same", n: "different" }[event.key.toLowerCase()];
    if (!verdict) return;
    event.preventDefault();
    judge(verdict);
  });
  judging.addEventListener("close", () => {
    if (judged) by("status").textContent = ngettext("%(count)s judged. Load the page again to see the groups without what is not the same.", "%(count)s judged. Load the page again to see the groups without what is not the same.", judged);
  });
}

// Groups

/** Tell what came of something done to a group; one that has no two images left leaves the page. */
function settle(group, error, done) {
  by("problem").textContent = error;
  by("status").textContent = error ? "" : done;
  group.querySelectorAll("button, input").forEach((element) => { element.disabled = false; });
  if (error || group.querySelectorAll(".work").length > 1) return;
  const next = group.nextElementSibling?.querySelector("h2") ?? by("main");
  group.remove();
  next.focus();
}

const busy = (group) => group.querySelectorAll("button, input").forEach((element) => { element.disabled = true; });

async function notTheSame(work) {
  const group = work.closest(".duplicates-group");
  const others = [...group.querySelectorAll(".work")].filter((other) => other !== work);
  busy(group);
  let error = "";
  for (const other of others) {
    const sent = await send(verdicts, { a: Number(work.dataset.id), b: Number(other.dataset.id), verdict: "different" });
    error ||= sent.error;
  }
  if (!error) work.remove();
  settle(group, error, gettext("%(name)s is not shown with the others again.", { name: work.dataset.name }));
  if (!error && slider) readShare();
}

async function compare(work) {
  const { showComparison } = await import("./compare.js");
  const kept = work.closest(".duplicates-group").querySelector(".work");
  const found = await send(proof, { a: Number(kept.dataset.id), b: Number(work.dataset.id) });
  const error = found.ok && !found.value.same ? gettext("These are told to be the same by their pixels: %(reason)s.", { reason: found.value.reason }) : found.error;
  by("problem").textContent = error;
  if (error) return;
  const picture = ({ dataset }) => ({
    source: `${api}/${dataset.id}/${large}`,
    name: dataset.name,
    width: Number(dataset.width),
    height: Number(dataset.height),
  });
  showComparison({ query: picture(kept), hit: picture(work), proof: found.value });
}

const merging = by("merge");
let merged = null; // the group that is to be merged

function chosen(group) {
  const keep = Number(group.querySelector("input[type=radio]:checked")?.value ?? group.querySelector(".work").dataset.id);
  const works = [...group.querySelectorAll(".work")];
  return { keep, kept: works.find((work) => Number(work.dataset.id) === keep), others: works.filter((work) => Number(work.dataset.id) !== keep) };
}

async function merge(group, trash) {
  const { keep, kept, others } = chosen(group);
  busy(group);
  const sent = await send(mergeUrl, { keep, others: others.map((work) => Number(work.dataset.id)), trash });
  if (sent.ok && trash) others.forEach((work) => work.remove());
  const { name } = kept.dataset;
  settle(group, sent.error, trash
    ? gettext("%(name)s has all that was known of the others, which are on their way to the trash.", { name })
    : gettext("%(name)s has all that was known of the others.", { name }));
}

merging?.addEventListener("close", () => {
  if (merging.returnValue === "merge" && merged) merge(merged, by("merge-trash").checked);
});

main.addEventListener("click", (event) => {
  const work = event.target.closest(".work");
  const group = event.target.closest(".duplicates-group");
  if (event.target.closest("[data-different]")) notTheSame(work);
  else if (event.target.closest("[data-compare]")) compare(work);
  else if (event.target.closest("[data-merge]")) {
    merged = group;
    by("merge-name").textContent = chosen(group).kept.dataset.name;
    merging.returnValue = "";
    merging.showModal();
  }
});
