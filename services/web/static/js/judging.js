// A round of judging: what was searched for and marked, kept as queries that evaluations search for.

import { ask } from "./answers.js";
import { ngettext } from "./texts.js";

/** Return what a form holds as the API takes it. */
function judgement(form) {
  const values = new FormData(form);
  const ids = (name) => values.getAll(name).map(Number);
  return {
    label: values.get("label").trim(),
    queries: values.get("queries"),
    id: ids("id"),
    like: ids("like"),
    unlike: ids("unlike"),
    upload: values.getAll("upload"),
  };
}

/** Return what came of it, in sentences. */
function told({ name, queries, of_class: ofClass, rejected }) {
  const said = [ngettext("The query set %(name)s has %(count)s query.", "The query set %(name)s has %(count)s queries.", queries, { name })];
  said.push(ngettext("%(count)s image of the collection has this label.", "%(count)s images of the collection have this label.", ofClass));
  if (rejected.length) said.push(ngettext("%(count)s picture was left out.", "%(count)s pictures were left out.", rejected.length));
  return said.join(" ");
}

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-judged]");
  if (!form || event.submitter?.value !== "queries") return;
  event.preventDefault();
  const [status, problem] = [form.querySelector("[role=status]"), form.querySelector("[role=alert]")];
  [status.textContent, problem.textContent] = ["", ""];
  event.submitter.disabled = true;
  const headers = { "Content-Type": "application/json" };
  const found = await ask(form.dataset.judged, { method: "POST", headers, body: JSON.stringify(judgement(form)) });
  event.submitter.disabled = false;
  event.submitter.focus();
  if (found.ok) status.textContent = told(found.value);
  else problem.textContent = found.error;
});
