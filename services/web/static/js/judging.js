// Judging a collection from its page of quality: begins, shows how far it is, cancels. The address keeps the job.

const form = document.getElementById("judge");
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

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

  const fit = () => {
    const kept = form.elements.source.value !== "";
    for (const name of ["sample", "seed"]) {
      form.elements[name].disabled = kept;
      form.elements[name].closest(".field").hidden = kept;
    }
  };
  form.elements.source.addEventListener("change", fit);
  fit(); // something may have been chosen before this ran, or by the browser when it goes back

  document.getElementById("grid-try").addEventListener("click", () => {
    grid.value = document.getElementById("grid-example").textContent;
    complain("");
    grid.focus();
  });
  grid.addEventListener("input", () => complain(""));

  /** Say beside the grid what is wrong with it; nothing if the words are empty. */
  function complain(words) {
    problem.textContent = words;
    grid.toggleAttribute("aria-invalid", Boolean(words));
    if (!words) return;
    document.getElementById("grid-details").open = true;
    grid.focus();
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    complain("");
    const { source, sample, seed, k } = form.elements;
    const asked = { collection: form.dataset.collection, k: Number(k.value) };
    if (source.value) asked.queries = source.value;
    else Object.assign(asked, { sample: Number(sample.value), seed: Number(seed.value) });
    if (grid.value.trim()) {
      try {
        asked.grid = JSON.parse(grid.value);
      } catch (error) {
        complain(`The grid is not JSON: ${error.message}`);
        return;
      }
    }
    begin("Sent…");
    try {
      const answer = await fetch(form.dataset.url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked) });
      const told = await answer.json();
      if (!answer.ok) {
        const wrong = told.errors?.find((one) => one.field === "body.grid");
        end(wrong ? "Not begun: there is something wrong with the grid." : told.detail);
        if (wrong) complain(wrong.message);
        return;
      }
      remember(told.job);
      await follow(told.job);
    } catch {
      end("Artseek does not answer. Is it still running?");
    }
  });

  /** Keep the job in the address, so that the page goes on with it when it is loaded again. */
  function remember(job) {
    const url = new URL(location.href);
    if (job) url.searchParams.set("job", job);
    else url.searchParams.delete("job");
    history.replaceState(history.state, "", url);
  }

  function begin(words) {
    document.getElementById("progress").hidden = false;
    button.disabled = true;
    cancel.hidden = true;
    cancel.disabled = false;
    finished.hidden = true;
    bar.removeAttribute("value");
    text.textContent = words;
  }

  function end(words) {
    button.disabled = false;
    cancel.hidden = true;
    bar.value = 0;
    text.textContent = words;
  }

  async function follow(job) {
    const url = address(form.dataset.jobs, job);
    cancel.hidden = false;
    cancel.onclick = async () => {
      cancel.disabled = true;
      text.textContent = "Cancelling…";
      await fetch(url, { method: "DELETE" }).catch(() => { cancel.disabled = false; });
    };
    for (let delay = 150; ; delay = Math.min(1000, delay * 1.2)) {
      let told = null;
      try {
        told = await (await fetch(url)).json();
      } catch {
        // the service restarts: the job goes on
      }
      if (told?.code === "not-found") {
        remember(null);
        end(told.detail);
        return;
      }
      if (told?.state === "cancelled" || told?.state === "done") {
        remember(null);
        close(told, job);
        return;
      }
      if (told?.state) show(told);
      await pause(delay);
    }
  }

  function show(told) {
    if (cancel.disabled) return;
    if (told.total) {
      bar.max = told.total;
      bar.value = told.finished;
    }
    const words = told.total ? `${told.finished.toLocaleString("en")} of ${told.total.toLocaleString("en")} searches` : "Getting the queries ready…";
    if (text.textContent !== words) text.textContent = words;
  }

  function close(told, job) {
    if (told.state === "cancelled") {
      end("Cancelled: nothing of it is left.");
    } else if (told.rejected.length) {
      end(`It failed: ${told.rejected[0].reason}`);
    } else {
      end("Done.");
      bar.max = 1;
      bar.value = 1;
      finished.href = address(form.dataset.page, job);
      finished.hidden = false;
      finished.focus();
    }
  }

  const job = new URL(location.href).searchParams.get("job");
  if (job) {
    begin("…");
    follow(job);
  }
}
