// The search page: shows results without loading the page anew, and keeps them for the back button.

import { SILENCE, pause, proxyNotice } from "./answers.js";
import { showComparison } from "./compare.js";
import { askForDetail } from "./detail.js";
import { watchExamples } from "./examples.js";
import { fileOfAddress, watchChoice, watchDrops, watchPastes } from "./files.js";
import "./judging.js";
import "./lightbox.js";
import { watchMore } from "./more.js";
import "./shortcuts.js";
import { gettext, ngettext } from "./texts.js";

const results = document.getElementById("results");
const status = document.getElementById("status");
const form = document.getElementById("search");

if (form) start();

function start() {
  document.documentElement.classList.add("scripted");
  const frame = document.getElementById("frame");
  const picture = document.getElementById("query");
  const input = document.getElementById("image");
  const defaults = { ...JSON.parse(form.dataset.defaults), weight: "1", label: "", text: "", filter: "", box: "", sort: "", group: "" }; // which an address leaves out
  const steps = new Map(); // what the page showed at each step of the history
  let step = 0;
  let file = null; // the query file; null if the query is an image of the collection, or has an address
  let others = []; // files that are one query together with it
  let original = null; // the query picture as it is to be drawn on, with its own size in pixels
  let pending = null; // aborts the search in progress

  const examples = watchExamples(form, () => searchAgain());
  const current = (name) => new URL(location.href).searchParams.get(name);
  const uploads = () => new URL(location.href).searchParams.getAll("upload");
  const currentId = () => current("id");

  /** Return the address of the search page with the options of the form, and the image, picture or kept files searched for. */
  function address(imageId, pictureUrl, kept = []) {
    const values = new FormData(form);
    values.delete("image");
    const parameters = new URLSearchParams([...values].filter(([name, value]) => value !== defaults[name]));
    if (imageId) parameters.set("id", imageId);
    if (pictureUrl) parameters.set("url", pictureUrl);
    for (const digest of kept) parameters.append("upload", digest);
    if (!imageId && !pictureUrl && !kept.length) parameters.delete("box");
    return `${form.dataset.page}?${parameters}`;
  }

  function showQuery(source, name, isOneOfMany = uploads().length > 1) {
    picture.src = source;
    picture.alt = name;
    picture.hidden = false;
    frame.classList.add("filled");
    document.getElementById("to-detail").hidden = isOneOfMany; // a part is one of a single picture
  }

  /** Show the query picture that the results name, and remember its original. */
  function showFound(section) {
    const { query, queryName, picture: data, large, width, height } = section.dataset;
    if (!query && !data) return clearQuery();
    const source = query ?? URL.createObjectURL(fileOfAddress(`data:image/jpeg;base64,${data}`));
    section.removeAttribute("data-picture");
    original = { source: large ?? source, width, height };
    showQuery(source, queryName);
  }

  function clearQuery() {
    picture.hidden = true;
    picture.removeAttribute("src");
    original = null;
    document.getElementById("to-detail").hidden = true;
    frame.classList.remove("filled");
    input.value = "";
  }

  function saveStep() {
    steps.set(step, {
      html: results.innerHTML,
      file,
      others,
      original,
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

  /** Return the answer to a request, which is sent again while Artseek says that it cannot answer now; within a minute. */
  async function askUntilFree(request, signal) {
    const end = performance.now() + 60_000;
    for (;;) {
      const response = await request();
      const seconds = Number(response.headers.get("Retry-After"));
      if (![429, 503].includes(response.status) || !seconds || performance.now() + 1000 * seconds > end) return response;
      status.textContent = gettext("Artseek has much to do; the search is made again…");
      await pause(1000 * seconds);
      signal.throwIfAborted();
    }
  }

  /** Ask for the results of a search for what `url` names, or else for the query file; `k`: for so many of them. */
  function request(isNamed, url, k, signal) {
    if (isNamed) {
      const { searchParams } = new URL(url, location.href);
      if (k) searchParams.set("k", k);
      return askUntilFree(() => fetch(`${form.dataset.results}?${searchParams}`, { signal }), signal);
    }
    const body = new FormData(form);
    body.delete("image");
    for (const one of [file, ...others]) body.append("image", one, one.name || "picture");
    if (k) body.set("k", k);
    return askUntilFree(() => fetch(form.dataset.results, { method: "POST", body, signal }), signal);
  }

  /** Search for what `url` names, or else for the query file; the page gets the address of the answer, or else `url`. */
  async function search(isNamed, url) {
    pending?.abort();
    pending = new AbortController();
    const { signal } = pending;
    results.setAttribute("aria-busy", "true");
    status.textContent = gettext("Searching…");
    let response;
    let html;
    try {
      response = await request(isNamed, url, 0, signal);
      html = await response.text();
    } catch (error) {
      if (error.name === "AbortError") return;
      html = null;
    }
    results.setAttribute("aria-busy", "false");
    if (html === null) {
      pushStep(url);
      showNotice(SILENCE);
      return;
    }
    showResults(html);
    const section = results.firstElementChild;
    pushStep(section?.dataset.address || url);
    if (section?.dataset.summary === undefined) {
      showNotice(proxyNotice(response.status, html));
      return;
    }
    if (isNamed) {
      if (!uploads().length) [file, others] = [null, []];
      input.value = "";
      showFound(section);
    }
    examples.found();
    status.textContent = section.dataset.summary ?? "";
    document.title = isNamed && section.dataset.queryName && response.ok ? `${gettext("More like %(name)s", { name: section.dataset.queryName })} · Artseek` : "Artseek";
    saveStep();
    const title = document.getElementById("found-title");
    title?.focus({ preventScroll: true });
    if (isNamed) scrollTo({ top: 0, behavior: scrollBehavior() });
    else if (results.getBoundingClientRect().top > innerHeight * 0.6) results.scrollIntoView({ behavior: scrollBehavior() });
  }

  /** Tell whether the address of the page says all that was searched for; else the form does, with its file. */
  const isAddressed = () => !file || uploads().length > 0;

  /** Return the section with more of the results on the page; null if they do not come. */
  async function askForMore(k) {
    pending?.abort();
    pending = new AbortController();
    const { signal } = pending;
    try {
      const response = await request(isAddressed(), location.href, k, signal);
      const fragment = new DOMParser().parseFromString(await response.text(), "text/html");
      const section = fragment.body.firstElementChild;
      return response.ok && section?.dataset.summary !== undefined ? section : null;
    } catch {
      return null;
    }
  }

  watchMore(results, askForMore, (section) => {
    status.textContent = section.dataset.summary;
    if (section.dataset.address) history.replaceState(history.state, "", section.dataset.address);
    if (isAddressed()) examples.show(); // images may have been marked since
    else examples.found();
    saveStep();
  });

  const scrollBehavior = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

  function setBox(box) {
    form.elements.box.value = box;
  }

  /** Begin a search for another picture: a part of the one before, and its examples, are no part of it. */
  function beginAnew(box = "") {
    setBox(box);
    examples.clear();
  }

  function searchByFile(files) {
    [file, ...others] = files;
    original = null;
    beginAnew();
    if (picture.src.startsWith("blob:") && ![...steps.values()].some((saved) => saved.source === picture.src)) {
      URL.revokeObjectURL(picture.src);
    }
    showQuery(URL.createObjectURL(file), others.length ? ngettext("%(name)s and %(count)s more", "%(name)s and %(count)s more", others.length, { name: file.name }) : file.name, others.length > 0);
    search(false, address());
  }

  function searchById(imageId, box = "") {
    beginAnew(box);
    search(true, address(imageId));
  }

  /** Search for the picture at an address, which the server fetches; one of our own is an image of the collection. */
  function searchByAddress(text) {
    const held = fileOfAddress(text);
    if (held) return searchByFile([held]);
    const found = URL.canParse(text) ? new URL(text) : null;
    const own = found?.origin === location.origin && (found.pathname.match(/\/images\/(\d+)\//)?.[1] ?? found.searchParams.get("id"));
    if (own) return searchById(own);
    if (!found || !["http:", "https:"].includes(found.protocol)) return showNotice(gettext("This picture has no address that can be fetched: save it, and drop the file."));
    beginAnew();
    return search(true, address(null, text));
  }

  /** Return the query picture as it is to be drawn on, with its own size in pixels; null if the browser cannot show it. */
  async function shownQuery() {
    if (original) return original;
    const bitmap = await createImageBitmap(file).catch(() => null); // upright, as the server counts
    return bitmap && { source: picture.src, width: bitmap.width, height: bitmap.height };
  }

  /** Let a part of the query picture be chosen, and search for it. */
  async function searchDetail() {
    const shown = await shownQuery();
    if (!shown) return showNotice(gettext("The browser cannot show this format: search by it, and draw on one of the images found."));
    return askForDetail({ ...shown, name: picture.alt, shown: form.elements.box.value }, (box) => {
      setBox(box);
      searchAgain();
    });
  }

  function searchAgain() {
    if (uploads().length) search(true, address(null, null, uploads()));
    else if (file) search(false, address());
    else if (currentId() || current("url") || examples.any()) search(true, address(currentId(), current("url")));
    else location.assign(address());
  }

  /** Restore the options that the form had. */
  function restore(options) {
    examples.restore(options);
    for (const box of form.querySelectorAll("input[type=checkbox]")) box.checked = false;
    for (const [name, value] of options) {
      const box = form.querySelector(`input[type=checkbox][name="${CSS.escape(name)}"][value="${CSS.escape(value)}"]`);
      if (box) box.checked = true;
      else if (form.elements[name] && name !== "like" && name !== "unlike") form.elements[name].value = value;
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    searchAgain();
  });
  form.addEventListener("change", (event) => {
    if (event.target.name === "collection") form.elements.label?.replaceChildren(...[form.elements.label.options[0]].filter(Boolean));
    if (event.target.name === "collection" && file) search(false, address());
    else if (event.target.name === "collection") location.assign(address());
    else if (event.target !== input) searchAgain();
  });
  watchDrops(document.getElementById("drop"), (files, hasFolder) => {
    if (hasFolder && files.length !== 1) showNotice(gettext("A search takes some pictures, and no folder. Drop folders on the page of a collection to add them to it."));
    else if (files.length) searchByFile(files);
  }, searchByAddress);
  watchPastes(searchByFile, (text) => {
    if (/^https?:\/\/\S+$/.test(text.trim())) searchByAddress(text.trim());
    else showNotice(gettext("The clipboard holds no picture, and no address of one. Copy an image or its address."));
  });
  document.getElementById("by-address").addEventListener("submit", (event) => {
    event.preventDefault();
    searchByAddress(event.target.elements.url.value.trim());
  });
  document.getElementById("to-detail").addEventListener("click", searchDetail);
  document.addEventListener("click", (event) => {
    const { detail: imageId, large, width, height } = event.target.closest("[data-detail]")?.dataset ?? {};
    if (!imageId) return;
    const name = event.target.closest(".work").querySelector("img").alt;
    askForDetail({ source: large, name, width, height }, (box) => searchById(imageId, box));
  });
  document.addEventListener("click", async (event) => {
    const { compare, proof, name, large, width, height, region } = event.target.closest("[data-compare]")?.dataset ?? {};
    if (!compare) return;
    const query = { ...(await shownQuery()), name: picture.alt };
    showComparison({ query, hit: { source: large, name, width, height, region }, proof: JSON.parse(proof) });
  });
  picture.addEventListener("error", () => frame.classList.add("unshown"));
  picture.addEventListener("load", () => frame.classList.remove("unshown"));

  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-more-like-this], .lightbox .more");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    if (new URL(link.href).searchParams.get("collection") !== form.elements.collection.value) return; // the page of another
    event.preventDefault();
    searchById(new URL(link.href).searchParams.get("id"));
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest("#results [data-filter]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button || !(file || currentId() || current("url") || uploads().length)) return;
    event.preventDefault();
    form.elements.filter.value = new URL(link.href).searchParams.get("filter") ?? "";
    searchAgain();
  });

  if (results.firstElementChild?.dataset.queryName) showFound(results.firstElementChild);
  const cited = !current("model") && results.firstElementChild?.dataset.address;
  history.replaceState({ step: 0 }, "", cited ? cited + location.hash : location.href);
  saveStep();
  watchChoice(input, searchByFile);
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
    ({ file, others, original } = saved);
    restore(saved.options);
    if (saved.source) showQuery(saved.source, saved.name);
    else clearQuery();
    status.textContent = results.firstElementChild?.dataset.summary ?? "";
  });
}
