// Images that are marked as examples, for and against: what is marked, and what the search on the page was made with.

import { ngettext } from "./texts.js";

const bar = document.getElementById("marked");

/** Watch the marks of the images shown; `search` is called when a search with them is wanted. */
export function watchExamples(form, search) {
  const held = form.querySelector("#examples");
  let searched = marks(); // with which the images on the page were found

  function marks() {
    return [...held.querySelectorAll("input")].map((input) => [input.name, input.value]);
  }

  function hold(entries) {
    held.replaceChildren(...entries.map(([name, value]) => Object.assign(document.createElement("input"), { type: "hidden", name, value })));
  }

  /** Show which images are marked, and offer to search again if others were when these were found. */
  function show() {
    const now = marks();
    for (const button of document.querySelectorAll("#results [data-mark]")) {
      const id = button.closest(".work").dataset.id;
      button.setAttribute("aria-pressed", String(now.some(([name, value]) => name === button.dataset.mark && value === id)));
    }
    const changed = JSON.stringify([...now].sort()) !== JSON.stringify([...searched].sort());
    const count = new Set(now.map(([, value]) => value)).size;
    bar.hidden = !changed;
    const text = ngettext("%(count)s image is an example.", "%(count)s images are examples.", count);
    if (changed && bar.firstElementChild.textContent !== text) bar.firstElementChild.textContent = text;
  }

  function toggle(mark, id) {
    const others = marks().filter(([, value]) => value !== id);
    const was = marks().some(([name, value]) => name === mark && value === id);
    hold(was ? others : [...others, [mark, id]]);
    show();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("#results [data-mark]");
    if (button) toggle(button.dataset.mark, button.closest(".work").dataset.id);
    const link = event.target.closest("#results a[data-examples]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const wanted = new URL(link.href).searchParams;
    hold([...wanted].filter(([name]) => name === "like" || name === "unlike"));
    form.elements.weight.value = wanted.get("weight") ?? "1";
    search();
  });
  document.addEventListener("artseek:examples", ({ detail: { mark, ids } }) => {
    hold([...marks().filter(([, value]) => !ids.includes(value)), ...ids.map((id) => [mark, id])]);
    search();
  });
  document.getElementById("search-marked").addEventListener("click", search);
  document.getElementById("forget-marks").addEventListener("click", () => {
    hold(searched);
    show();
    document.getElementById("found-title")?.focus();
  });

  return {
    /** Whether there are examples to search by. */
    any: () => marks().length > 0,
    /** Hold these fields of a form, among others; what is on the page was found with them. */
    restore(entries) {
      hold(entries.filter(([name]) => name === "like" || name === "unlike"));
      this.found();
    },
    /** Show on images that came which are marked; they were found as those before them. */
    show,
    /** Take note that what is on the page was found with the marks that are held now. */
    found() {
      searched = marks();
      show();
    },
    clear() {
      form.elements.weight.value = "1";
      hold([]);
    },
  };
}
