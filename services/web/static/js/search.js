// The search page: asks for results without leaving the page, and keeps the way back.

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
  const seen = new Map(); // what each step of the history showed
  let step = 0;
  let file = null; // the picture held up, if it is no image of the collection
  let waiting = null;

  const id = () => new URL(location.href).searchParams.get("id");
  const collection = () => new FormData(form).get("collection");

  function address(image) {
    const values = new FormData(form);
    values.delete("image");
    const parameters = new URLSearchParams([...values].filter(([name, value]) => value !== standard[name]));
    if (image) parameters.set("id", image);
    return `/?${parameters}`;
  }

  const standard = { k: "12", mode: "auto", metric: "cosine", label: "" };

  function hold(source, name) {
    picture.src = source;
    picture.alt = name;
    picture.hidden = false;
    frame.classList.add("filled");
  }

  function let_go() {
    picture.hidden = true;
    picture.removeAttribute("src");
    frame.classList.remove("filled");
    input.value = "";
  }

  function remember() {
    seen.set(step, {
      html: results.innerHTML,
      file,
      source: picture.hidden ? null : picture.src,
      name: picture.alt,
      options: [...new FormData(form)].filter(([name]) => name !== "image"),
    });
  }

  function advance(url) {
    step = (history.state?.step ?? 0) + 1;
    history.pushState({ step }, "", url);
  }

  function put(html) {
    const found = new DOMParser().parseFromString(html, "text/html");
    results.replaceChildren(...found.body.childNodes);
  }

  function complain(text) {
    const notice = document.createElement("section");
    notice.className = "notice";
    notice.append(Object.assign(document.createElement("p"), { textContent: text }));
    results.replaceChildren(notice);
    status.textContent = text;
  }

  /** Ask for the results of the picture held up, or of an image of the collection; `url` is what the answer is called. */
  async function ask(image, url) {
    waiting?.abort();
    waiting = new AbortController();
    const { signal } = waiting;
    results.setAttribute("aria-busy", "true");
    status.textContent = "Searching…";
    let answer;
    let html;
    try {
      const body = new FormData(form);
      body.delete("image");
      if (image) {
        answer = await fetch(url.replace(/^\/?[^?]*/, "/results"), { signal });
      } else {
        body.set("image", file, file.name || "picture");
        answer = await fetch("/results", { method: "POST", body, signal });
      }
      html = await answer.text();
    } catch (error) {
      if (error.name === "AbortError") return;
      html = null;
    }
    results.setAttribute("aria-busy", "false");
    advance(url);
    if (html === null) {
      complain("Artseek does not answer. Is it still running?");
      return;
    }
    put(html);
    const found = results.firstElementChild;
    if (image) {
      file = null;
      input.value = "";
      if (found.dataset.query) hold(found.dataset.query, found.dataset.queryName);
    }
    status.textContent = found.dataset.summary ?? "";
    document.title = image && answer.ok ? `More like ${found.dataset.queryName} · Artseek` : "Artseek";
    remember();
    const title = document.getElementById("found-title");
    title?.focus({ preventScroll: true });
    if (image) scrollTo({ top: 0, behavior: motion() });
    else if (results.getBoundingClientRect().top > innerHeight * 0.6) results.scrollIntoView({ behavior: motion() });
  }

  const motion = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

  function searchBy(files) {
    [file] = files;
    if (picture.src.startsWith("blob:") && ![...seen.values()].some((shown) => shown.source === picture.src)) {
      URL.revokeObjectURL(picture.src);
    }
    hold(URL.createObjectURL(file), file.name);
    ask(null, address());
  }

  function again() {
    if (file) ask(null, address());
    else if (id()) ask(id(), address(id()));
  }

  input.addEventListener("change", () => input.files.length && searchBy(input.files));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    again();
  });
  form.addEventListener("change", (event) => {
    if (event.target.name === "collection") form.elements.label?.replaceChildren(...[form.elements.label.options[0]].filter(Boolean));
    if (event.target.name === "collection" && !file) location.assign(address());
    else if (event.target !== input) again();
  });
  watchDrops(document.getElementById("drop"), (files) => files.length && searchBy(files));
  watchPastes(searchBy, () => complain("The clipboard holds no picture. Copy an image, not its address."));
  picture.addEventListener("error", () => frame.classList.add("unshown"));
  picture.addEventListener("load", () => frame.classList.remove("unshown"));

  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-more-like-this], .lightbox .more");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const image = new URL(link.href).searchParams.get("id");
    ask(image, address(image));
  });

  history.replaceState({ step: 0 }, "");
  remember();
  addEventListener("popstate", (event) => {
    waiting?.abort();
    const shown = seen.get(event.state?.step);
    if (!shown) {
      location.reload();
      return;
    }
    step = event.state.step;
    results.setAttribute("aria-busy", "false");
    put(shown.html);
    file = shown.file;
    for (const [name, value] of shown.options) {
      const field = form.elements[name];
      if (field) field.value = value;
    }
    if (shown.source) hold(shown.source, shown.name);
    else let_go();
    status.textContent = results.firstElementChild?.dataset.summary ?? "";
  });
}
