// The collection page: uploads with their progress, and deletion.

import { watchDrops } from "./files.js";
import "./lightbox.js";

const MOST_FILES = 64; // of one request
const form = document.getElementById("upload");
const bar = document.getElementById("bar");
const text = document.getElementById("progress-text");
const refusals = document.getElementById("refusals");
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// Uploads

const upload = { queue: [], running: false };

function enqueue(files) {
  const label = document.getElementById("label").value.trim();
  upload.queue.push(...[...files].map((file) => ({ file, label })));
  if (!upload.running) run();
}

async function run() {
  upload.running = true;
  const tally = { sending: 0, sent: 0, added: 0, duplicates: 0, rejected: 0, jobs: [], trouble: "" };
  refusals.hidden = true;
  refusals.querySelector("ul").replaceChildren();
  document.getElementById("progress").hidden = false;
  while (upload.queue.length) {
    const batch = nextBatch(tally);
    if (batch.length) await send(batch, tally);
    if (tally.trouble) break;
  }
  await follow(tally);
  upload.queue = [];
  upload.running = false;
  const parts = [`${tally.added} added`];
  if (tally.duplicates) parts.push(`${tally.duplicates} already there`);
  if (tally.rejected) parts.push(`${tally.rejected} not taken`);
  bar.value = bar.max;
  text.textContent = tally.trouble ? `${tally.trouble} (${parts.join(", ")})` : parts.join(", ");
  if (tally.added) await refresh();
}

/** Take files off the queue that fit into one request; refuse those that never will. */
function nextBatch(tally) {
  const largest = Number(form.dataset.maxFile);
  let room = Number(form.dataset.maxUpload) - 65536;
  const batch = [];
  while (upload.queue.length && batch.length < MOST_FILES) {
    const { file, label } = upload.queue[0];
    if (file.size > largest) {
      refuse(tally, { name: file.name, reason: `the file has ${file.size.toLocaleString("en")} bytes, at most ${largest.toLocaleString("en")} are taken` });
    } else {
      room -= file.size + 1024;
      if (batch.length && (room < 0 || label !== batch[0].label)) break;
      batch.push({ file, label });
    }
    upload.queue.shift();
  }
  return batch;
}

function refuse(tally, { name, reason }) {
  tally.rejected += 1;
  const line = document.createElement("li");
  line.append(Object.assign(document.createElement("strong"), { textContent: name }), ` ${reason}`);
  refusals.querySelector("ul").append(line);
  refusals.hidden = false;
}

/** Send one batch; fetch tells nothing of the progress of a request, so it is the older way. */
function send(batch, tally) {
  tally.sending = batch.length;
  const body = new FormData();
  for (const { file } of batch) body.append("images", file, file.name || "unnamed");
  if (batch[0].label) body.append("label", batch[0].label);
  const request = new XMLHttpRequest();
  request.open("POST", form.dataset.url);
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => {
    const share = event.lengthComputable ? event.loaded / event.total : 0;
    show(tally, "Sending", tally.sent + share * batch.length);
  });
  return new Promise((resolve) => {
    request.addEventListener("loadend", () => {
      const answer = request.response;
      tally.sent += batch.length;
      tally.sending = 0;
      if (request.status === 202) tally.jobs.push({ url: answer.url, finished: 0 });
      else if (answer?.rejected) answer.rejected.forEach((item) => refuse(tally, item));
      else tally.trouble = answer?.detail ?? "Artseek does not answer. Is it still running?";
      resolve();
    });
    request.send(body);
  });
}

/** Follow the jobs until each file is accounted for. */
async function follow(tally) {
  let delay = 150;
  while (tally.jobs.some((job) => !job.done)) {
    for (const job of tally.jobs.filter((open) => !open.done)) {
      let answer;
      try {
        answer = await (await fetch(job.url)).json();
      } catch {
        continue; // the service restarts: the job goes on
      }
      if (answer.code === "not-found") {
        tally.trouble = answer.detail;
        job.done = true;
      }
      if (answer.state === undefined) continue;
      job.finished = answer.finished;
      if (answer.state !== "done") continue;
      job.done = true;
      tally.added += answer.added;
      tally.duplicates += answer.duplicates;
      answer.rejected.forEach((item) => refuse(tally, item));
    }
    const finished = tally.jobs.reduce((sum, job) => sum + job.finished, 0);
    show(tally, "Adding", finished);
    await pause(delay);
    delay = Math.min(1000, delay * 1.2);
  }
}

/** Show how many files were sent or added: sending is the first half of the bar, adding the second. */
function show(tally, doing, done) {
  const all = Math.max(1, tally.sent + tally.sending + upload.queue.length);
  bar.max = 2 * all;
  bar.value = doing === "Adding" ? all + done : done;
  const words = `${doing} ${Math.floor(done)} of ${all}`;
  if (text.textContent !== words) text.textContent = words;
}

/** Put in what the page shows by now; searches know of an image within a second after its job is done. */
async function refresh() {
  const before = document.getElementById("count")?.textContent;
  for (let attempt = 0; attempt < 12; attempt += 1) {
    const answer = await fetch(location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
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

document.getElementById("files").addEventListener("change", (event) => {
  enqueue(event.target.files);
  event.target.value = "";
});
form.addEventListener("submit", (event) => event.preventDefault());
watchDrops(document.getElementById("drop"), enqueue);

// Deletion

const confirm = document.getElementById("confirm");
const problem = document.getElementById("confirm-problem");
let doomed = null;

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-delete]");
  if (!button) return;
  doomed = button;
  problem.textContent = "";
  document.getElementById("confirm-name").textContent = button.dataset.name;
  confirm.returnValue = "keep";
  confirm.showModal();
});
confirm.addEventListener("close", async () => {
  const button = doomed;
  if (confirm.returnValue !== "delete" || !button) return;
  button.disabled = true;
  button.textContent = "Deleting…";
  let trouble = "";
  try {
    const answer = await fetch(button.dataset.delete, { method: "DELETE" });
    if (!answer.ok && answer.status !== 404) trouble = (await answer.json()).detail;
  } catch {
    trouble = "Artseek does not answer. Is it still running?";
  }
  if (trouble) {
    button.disabled = false;
    button.textContent = "Delete";
    problem.textContent = trouble;
    confirm.showModal();
    return;
  }
  const gallery = document.getElementById("gallery");
  button.closest(".work").remove();
  await refresh();
  (gallery.querySelector("[data-delete]") ?? document.getElementById("main")).focus();
});
