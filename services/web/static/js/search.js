// The search page: shows results without loading the page anew, and keeps them for the back button.

import { watchDrops, watchPastes } from "./files.js";
import "./lightbox.js";

const results = document.getElementById("results");
const status = document.getElementById("status");
const form = document.getElementById("search");

if (form) start();

function start() {
  const frame = document.getElementById("frame");
  const picture = document.getElementById("query");
  const input = document.getElementById("image");
  const defaults = { ...JSON.parse(form.dataset.defaults), label: "" }; // which an address leaves out
  const steps = new Map(); // what the page showed at each step of the history
  let step = 0;
  let file = null; // the query file; null if the query is an image of the collection
  let pending = null; // aborts the search in progress

  const currentId = () => new URL(location.href).searchParams.get("id");

  /** Return the address of the search page with the options of the form, and the image searched for. */
  function address(imageId) {
    const values = new FormData(form);
    values.delete("image");
    const parameters = new URLSearchParams([...values].filter(([name, value]) => value !== defaults[name]));
    if (imageId) parameters.set("id", imageId);
    return `/?${parameters}`;
  }

  function showQuery(source, name) {
    picture.src = source;
    picture.alt = name;
    picture.hidden = false;
    frame.classList.add("filled");
  }

  function clearQuery() {
    picture.hidden = true;
    picture.removeAttribute("src");
    frame.classList.remove("filled");
    input.value = "";
  }

  function saveStep() {
    steps.set(step, {
      html: results.innerHTML,
      file,
      source: picture.hidden ? null : picture.src,
      name: picture.alt,
      options: [...new FormData(form)].filter(([name]) => name !== "image"),
    });
  }

  function pushStep(url) {
    step = (history.state?.step ?? 0) + 1;
    history.pushState({ step }, "", url);
  }

  function showResults(html) {
    const fragment = new DOMParser().parseFromString(html, "text/html");
    results.replaceChildren(...fragment.body.childNodes);
  }

  function showNotice(text) {
    const notice = document.createElement("section");
    notice.className = "notice";
    notice.append(Object.assign(document.createElement("p"), { textContent: text }));
    results.replaceChildren(notice);
    status.textContent = text;
  }

  /** Search for the image with this id, or else for the query file; `url` becomes the address of the page. */
  async function search(imageId, url) {
    pending?.abort();
    pending = new AbortController();
    const { signal } = pending;
    results.setAttribute("aria-busy", "true");
    status.textContent = "Searching…";
    let response;
    let html;
    try {
      const body = new FormData(form);
      body.delete("image");
      if (imageId) {
        response = await fetch(url.replace(/^\/?[^?]*/, "/results"), { signal });
      } else {
        body.set("image", file, file.name || "picture");
        response = await fetch("/results", { method: "POST", body, signal });
      }
      html = await response.text();
    } catch (error) {
      if (error.name === "AbortError") return;
      html = null;
    }
    results.setAttribute("aria-busy", "false");
    pushStep(url);
    if (html === null) {
      showNotice("Artseek does not answer. Is it still running?");
      return;
    }
    showResults(html);
    const section = results.firstElementChild;
    if (imageId) {
      file = null;
      input.value = "";
      if (section.dataset.query) showQuery(section.dataset.query, section.dataset.queryName);
    }
    status.textContent = section.dataset.summary ?? "";
    document.title = imageId && response.ok ? `More like ${section.dataset.queryName} · Artseek` : "Artseek";
    saveStep();
    const title = document.getElementById("found-title");
    title?.focus({ preventScroll: true });
    if (imageId) scrollTo({ top: 0, behavior: scrollBehavior() });
    else if (results.getBoundingClientRect().top > innerHeight * 0.6) results.scrollIntoView({ behavior: scrollBehavior() });
  }

  const scrollBehavior = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

  function searchByFile(files) {
    [file] = files;
    if (picture.src.startsWith("blob:") && ![...steps.values()].some((saved) => saved.source === picture.src)) {
      URL.revokeObjectURL(picture.src);
    }
    showQuery(URL.createObjectURL(file), file.name);
    search(null, address());
  }

  function searchAgain() {
    if (file) search(null, address());
    else if (currentId()) search(currentId(), address(currentId()));
  }

  input.addEventListener("change", () => input.files.length && searchByFile(input.files));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    searchAgain();
  });
  form.addEventListener("change", (event) => {
    if (event.target.name === "collection") form.elements.label?.replaceChildren(...[form.elements.label.options[0]].filter(Boolean));
    if (event.target.name === "collection" && !file) location.assign(address());
    else if (event.target !== input) searchAgain();
  });
  watchDrops(document.getElementById("drop"), (files) => files.length && searchByFile(files));
  watchPastes(searchByFile, () => showNotice("The clipboard holds no picture. Copy an image, not its address."));
  picture.addEventListener("error", () => frame.classList.add("unshown"));
  picture.addEventListener("load", () => frame.classList.remove("unshown"));

  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-more-like-this], .lightbox .more");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const imageId = new URL(link.href).searchParams.get("id");
    search(imageId, address(imageId));
  });

  history.replaceState({ step: 0 }, "");
  saveStep();
  addEventListener("popstate", (event) => {
    pending?.abort();
    const saved = steps.get(event.state?.step);
    if (!saved) {
      location.reload();
      return;
    }
    step = event.state.step;
    results.setAttribute("aria-busy", "false");
    showResults(saved.html);
    file = saved.file;
    for (const [name, value] of saved.options) {
      const field = form.elements[name];
      if (field) field.value = value;
    }
    if (saved.source) showQuery(saved.source, saved.name);
    else clearQuery();
    status.textContent = results.firstElementChild?.dataset.summary ?? "";
  });
}
