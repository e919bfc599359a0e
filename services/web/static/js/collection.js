// The collection page: uploads files and shows their progress; deletes images.

import { ask, askJob, isFinal, pause, readAnswer } from "./answers.js";
import { kindPassedOver, watchChoice, watchDrops } from "./files.js";
import "./lightbox.js";
import { saidOf } from "./problems.js";
import { gettext, number } from "./texts.js";

const MAX_FILES = 64; // of a request
const form = document.getElementById("upload");
const rules = form ? JSON.parse(form.dataset.passedOver) : null; // for what lies in folders
const bar = document.getElementById("bar");
const text = document.getElementById("progress-text");
const refusals = document.getElementById("refusals");

// Uploads

const upload = { queue: [], running: false, passedOver: new Map() };

/** Return the name that an image and the XMP file beside it share. */
const stem = (file) => (file.path ?? file.name).replace(/\.xmp$/i, "").replace(/\.[^.]*$/, "");

function enqueue(files) {
  const label = document.getElementById("label").value.trim();
  const keepLabels = document.getElementById("keep-labels").checked;
  const images = [...files].filter((file) => {
    const kind = file.path?.includes("/") ? kindPassedOver(file.path, rules) : ""; // a file that was chosen is taken whatever its name
    if (kind) upload.passedOver.set(kind, (upload.passedOver.get(kind) ?? 0) + 1);
    return !kind;
  });
  const sorted = images.sort((a, b) => (stem(a) < stem(b) ? -1 : stem(a) > stem(b) ? 1 : 0)); // XMP files lie beside their images
  upload.queue.push(...sorted.map((file) => ({ file, label, keepLabels })));
  if (!upload.running) uploadQueue();
}

async function uploadQueue() {
  upload.running = true;
  const tally = { sending: 0, sent: 0, added: 0, duplicates: 0, rejected: 0, jobs: [], error: "" };
  refusals.hidden = true;
  refusals.querySelector("ul").replaceChildren();
  document.getElementById("progress").hidden = false;
  while (upload.queue.length) {
    const batch = nextBatch(tally);
    if (batch.length) await sendBatch(batch, tally);
    if (tally.error) break;
  }
  await followJobs(tally);
  const passedOver = [...upload.passedOver].sort();
  Object.assign(upload, { queue: [], running: false, passedOver: new Map() });
  const counts = [gettext("%(count)s added", { count: number(tally.added) })];
  if (tally.duplicates) counts.push(gettext("%(count)s already there", { count: number(tally.duplicates) }));
  if (tally.rejected) counts.push(gettext("%(count)s not taken", { count: number(tally.rejected) }));
  if (passedOver.length) counts.push(gettext("passed over: %(files)s", { files: passedOver.map(([kind, count]) => `${number(count)} ${kind}`).join(", ") }));
  bar.value = bar.max;
  text.textContent = tally.error ? `${tally.error} (${counts.join(", ")})` : counts.join(", ");
  if (tally.added) await refreshPage();
}

/** Take the files of the next request off the queue; files that are too large for any request are refused. */
function nextBatch(tally) {
  const largest = Number(form.dataset.maxFile);
  let room = Number(form.dataset.maxUpload) - 65536;
  const batch = [];
  while (upload.queue.length && batch.length < MAX_FILES) {
    const { file, label, keepLabels } = upload.queue[0];
    if (file.size > largest) {
      addRefusal(tally, { name: file.name, reason: gettext("the file has %(size)s bytes, at most %(most)s are taken", { size: number(file.size), most: number(largest) }) });
    } else {
      room -= file.size + 1024;
      const isAlike = label === batch[0]?.label && keepLabels === batch[0]?.keepLabels;
      if (batch.length && (room < 0 || !isAlike)) break;
      batch.push({ file, label, keepLabels });
    }
    upload.queue.shift();
  }
  while (batch.length && upload.queue.length && stem(upload.queue[0].file) === stem(batch.at(-1).file)) batch.push(upload.queue.shift());
  return batch;
}

function addRefusal(tally, { name, ...refusal }) {
  tally.rejected += 1;
  const line = document.createElement("li");
  line.append(Object.assign(document.createElement("strong"), { textContent: name }), ` ${saidOf(refusal)}`);
  refusals.querySelector("ul").append(line);
  refusals.hidden = false;
}

/** Send a batch. XMLHttpRequest reports the progress of an upload, which fetch does not. */
function sendBatch(batch, tally) {
  tally.sending = batch.length;
  const body = new FormData();
  for (const { file } of batch) body.append("images", file, file.name || "unnamed");
  if (batch.some(({ file }) => file.path)) for (const { file } of batch) body.append("names", file.path ?? (file.name || "unnamed"));
  if (batch[0].label) body.append("label", batch[0].label);
  if (batch[0].keepLabels) body.append("keep_labels", "true");
  const request = new XMLHttpRequest();
  request.open("POST", form.dataset.url);
  request.upload.addEventListener("progress", (event) => {
    const share = event.lengthComputable ? event.loaded / event.total : 0;
    showProgress(tally, "sending", tally.sent + share * batch.length);
  });
  return new Promise((resolve) => {
    request.addEventListener("loadend", () => {
      const { ok, value, error } = readAnswer(request.status, request.responseText);
      tally.sending = 0;
      if (request.status === 429) {
        wait(Number(request.getResponseHeader("Retry-After")) || 5).then(() => sendBatch(batch, tally)).then(resolve);
        return;
      }
      tally.sent += batch.length;
      if (ok) tally.jobs.push({ url: value.url, finished: 0 });
      else if (value?.rejected) value.rejected.forEach((item) => addRefusal(tally, item));
      else tally.error = error;
      resolve();
    });
    request.send(body);
  });
}

/** Wait for some seconds, because the service takes no more from us just now. */
async function wait(seconds) {
  for (let left = seconds; left > 0; left -= 1) {
    text.textContent = gettext("Artseek takes no more just now; on in %(seconds)s s", { seconds: left });
    await pause(1000);
  }
}

/** Poll the jobs until all are done. */
async function followJobs(tally) {
  let delay = 150;
  while (tally.jobs.some((job) => !job.done)) {
    for (const job of tally.jobs.filter((followed) => !followed.done)) {
      const found = await askJob(job.url);
      const answer = found.value;
      if (isFinal(found)) {
        tally.error = found.error;
        job.done = true;
      }
      if (answer?.state === undefined) continue; // the web service restarts; the job continues
      job.finished = answer.finished;
      if (["open", "running"].includes(answer.state)) continue; // else it is done, or somebody cancelled it
      job.done = true;
      tally.added += answer.added;
      tally.duplicates += answer.duplicates;
      answer.rejected.forEach((item) => addRefusal(tally, item));
    }
    const finished = tally.jobs.reduce((sum, job) => sum + job.finished, 0);
    showProgress(tally, "adding", finished);
    await pause(delay);
    delay = Math.min(1000, delay * 1.2);
  }
}

/** Show how many files are sent or added: sending fills the first half of the bar, adding the second. */
function showProgress(tally, action, done) {
  const total = Math.max(1, tally.sent + tally.sending + upload.queue.length);
  bar.max = 2 * total;
  bar.value = action === "adding" ? total + done : done;
  const values = { done: number(Math.floor(done)), total: number(total) };
  const message = action === "adding" ? gettext("Adding %(done)s of %(total)s", values) : gettext("Sending %(done)s of %(total)s", values);
  if (text.textContent !== message) text.textContent = message;
}

/** Load the page anew and show its parts; searches include an image within a second after its job is done. */
async function refreshPage() {
  const before = document.getElementById("count")?.textContent;
  for (let attempt = 0; attempt < 12; attempt += 1) {
    const response = await fetch(location.href);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const after = page.getElementById("count")?.textContent;
    if (after !== undefined && after !== before) {
      for (const id of ["title", "overview", "gallery"]) {
        document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
      }
      return;
    }
    await pause(300);
  }
}

if (form) { // which is there for those who may add images
  const input = document.getElementById("files");
  watchChoice(input, (files) => {
    enqueue(files);
    input.value = "";
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  watchDrops(document.getElementById("drop"), enqueue, null, { all: true });
}

// Deletion

document.addEventListener("artseek:deleted", refreshPage); // by the tray

const confirm = document.getElementById("confirm");
const problem = document.getElementById("confirm-problem");
let deleteButton = null;

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-delete]");
  if (!button) return;
  deleteButton = button;
  problem.textContent = "";
  document.getElementById("confirm-name").textContent = button.dataset.name;
  confirm.returnValue = "keep";
  confirm.showModal();
});
confirm.addEventListener("close", async () => {
  const button = deleteButton;
  if (confirm.returnValue !== "delete" || !button) return;
  button.disabled = true;
  button.textContent = gettext("Deleting…");
  const { status, error } = await ask(button.dataset.delete, { method: "DELETE" });
  if (error && status !== 404) {
    button.disabled = false;
    button.textContent = gettext("Delete");
    problem.textContent = error;
    confirm.showModal();
    return;
  }
  const gallery = document.getElementById("gallery");
  button.closest(".work").remove();
  await refreshPage();
  (gallery.querySelector("[data-delete]") ?? document.getElementById("main")).focus();
});
