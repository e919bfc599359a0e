// The form of the quality page: starts an evaluation, shows its progress and cancels it. The address keeps the job.

import { ask, askJob, isFinal, pause } from "./answers.js";
import { saidOf } from "./problems.js";
import { gettext, number } from "./texts.js";

const form = document.getElementById("judge");

if (form) start();

function start() {
  const button = document.getElementById("judge-button");
  const grid = form.elements.grid;
  const problem = document.getElementById("grid-problem");
  const bar = document.getElementById("bar");
  const text = document.getElementById("progress-text");
  const cancel = document.getElementById("cancel");
  const finished = document.getElementById("finished");
  const address = (template, job) => template.replace("JOB", encodeURIComponent(job));

  const updateFields = () => {
    const hasQuerySet = form.elements.source.value !== "";
    for (const name of ["sample", "seed"]) {
      form.elements[name].disabled = hasQuerySet;
      form.elements[name].closest(".field").hidden = hasQuerySet;
    }
  };
  form.elements.source.addEventListener("change", updateFields);
  updateFields(); // the browser may have restored a choice, or the user made one before this script ran

  document.getElementById("grid-try").addEventListener("click", () => {
    grid.value = document.getElementById("grid-example").textContent;
    showGridProblem("");
    grid.focus();
  });
  grid.addEventListener("input", () => showGridProblem(""));

  /** Show what is wrong with the grid; an empty message clears it. */
  function showGridProblem(message) {
    problem.textContent = message;
    grid.toggleAttribute("aria-invalid", Boolean(message));
    if (!message) return;
    document.getElementById("grid-details").open = true;
    grid.focus();
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    showGridProblem("");
    const { source, sample, seed, k } = form.elements;
    const body = { collection: form.dataset.collection, k: Number(k.value) };
    if (source.value) body.queries = source.value;
    else Object.assign(body, { sample: Number(sample.value), seed: Number(seed.value) });
    if (form.elements.field) body.field = form.elements.field.value;
    if (grid.value.trim()) {
      try {
        body.grid = JSON.parse(grid.value);
      } catch (error) {
        showGridProblem(gettext("The grid is not JSON: %(message)s", { message: error.message }));
        return;
      }
    }
    showStart(gettext("Sent…"));
    const { ok, value, error } = await ask(form.dataset.url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (!ok) {
      const gridError = value?.errors?.find((found) => found.field === "body.grid");
      showEnd(gridError ? gettext("Not begun: there is something wrong with the grid.") : error);
      if (gridError) showGridProblem(gridError.message);
      return;
    }
    keepJob(value.job);
    await followJob(value.job);
  });

  /** Keep the job id in the address, so that a reloaded page follows the job again; null removes it. */
  function keepJob(job) {
    const url = new URL(location.href);
    if (job) url.searchParams.set("job", job);
    else url.searchParams.delete("job");
    history.replaceState(history.state, "", url);
  }

  function showStart(message) {
    document.getElementById("progress").hidden = false;
    button.disabled = true;
    cancel.hidden = true;
    cancel.disabled = false;
    finished.hidden = true;
    bar.removeAttribute("value");
    text.textContent = message;
  }

  function showEnd(message) {
    button.disabled = false;
    cancel.hidden = true;
    bar.value = 0;
    text.textContent = message;
  }

  async function followJob(job) {
    const url = address(form.dataset.jobs, job);
    cancel.hidden = false;
    cancel.onclick = async () => {
      cancel.disabled = true;
      text.textContent = gettext("Cancelling…");
      await fetch(url, { method: "DELETE" }).catch(() => { cancel.disabled = false; });
    };
    for (let delay = 150; ; delay = Math.min(1000, delay * 1.2)) {
      const found = await askJob(url); // without an answer, the web service restarts; the job continues
      const answer = found.value;
      if (isFinal(found)) {
        keepJob(null);
        showEnd(found.error);
        return;
      }
      if (answer?.state === "cancelled" || answer?.state === "done") {
        keepJob(null);
        showResult(answer, job);
        return;
      }
      if (answer?.state) showProgress(answer);
      await pause(delay);
    }
  }

  function showProgress(answer) {
    if (cancel.disabled) return;
    if (answer.total) {
      bar.max = answer.total;
      bar.value = answer.finished;
    }
    const message = answer.total
      ? gettext("%(finished)s of %(total)s searches", { finished: number(answer.finished), total: number(answer.total) })
      : gettext("Getting the queries ready…");
    if (text.textContent !== message) text.textContent = message;
  }

  function showResult(answer, job) {
    if (answer.state === "cancelled") {
      showEnd(gettext("Cancelled: nothing of it is left."));
    } else if (answer.rejected.length) {
      showEnd(gettext("It failed: %(reason)s", { reason: saidOf(answer.rejected[0]) }));
    } else {
      showEnd(gettext("Done."));
      bar.max = 1;
      bar.value = 1;
      finished.href = address(form.dataset.page, job);
      finished.hidden = false;
      finished.focus();
    }
  }

  const job = new URL(location.href).searchParams.get("job");
  if (job) {
    showStart("…");
    followJob(job);
  }
}
