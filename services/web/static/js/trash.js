// The page of a trash: restores images, and removes them for good.

import { runJob } from "./answers.js";
import { gettext } from "./texts.js";

const confirm = document.getElementById("confirm");
const problem = document.getElementById("trash-problem");
const status = document.getElementById("trash-status");
let asked = null; // the button that was pressed

/** Do something to images while their buttons are off, and take them off the page. */
async function act(works, doing, done, run) {
  const buttons = [...document.querySelectorAll("button[data-restore], button[data-purge]")];
  buttons.forEach((button) => { button.disabled = true; });
  problem.textContent = "";
  status.textContent = doing;
  const error = await run();
  buttons.forEach((button) => { button.disabled = false; });
  status.textContent = error ? "" : done;
  problem.textContent = error;
  if (error) return;
  works.forEach((work) => work.remove());
  if (!document.querySelector("#trash .work")) location.reload();
  else document.getElementById("main").focus();
}

document.addEventListener("click", (event) => {
  const restore = event.target.closest("[data-restore]");
  if (restore) {
    act([restore.closest(".work")], gettext("Restoring…"), gettext("Restored."), () => runJob(restore.dataset.restore));
    return;
  }
  const purge = event.target.closest("[data-purge]");
  if (!purge) return;
  asked = purge;
  document.getElementById("confirm-name").textContent = purge.dataset.name;
  confirm.returnValue = "keep";
  confirm.showModal();
});

confirm.addEventListener("close", () => {
  if (confirm.returnValue !== "purge" || !asked) return;
  const ids = asked.dataset.purge.split(",").map(Number);
  const works = ids.map((id) => document.querySelector(`#trash .work[data-id="${id}"]`)).filter(Boolean);
  const url = document.getElementById("trash").dataset.delete;
  act(works, gettext("Removing…"), gettext("Removed."), () => runJob(url, { ids, from_trash: true }));
});
