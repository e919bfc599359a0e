// The tray of ticked images: boxes on the images of all pages, a bar that tells how many, and what can be done with them.

import { ask, runJob } from "./answers.js";
import "./shortcuts.js";
import { tick, ticked, watchTicks } from "./ticks.js";
import { fixed, gettext, ngettext, number } from "./texts.js";

const AT_ONCE = 500; // images of a look-up
const by = (id) => document.getElementById(id);
const tray = by("tray");
const dialog = by("ticked");
const limits = JSON.parse(tray.dataset.limits);
const { collection } = tray.dataset;
const boxes = () => [...document.querySelectorAll("input[data-tick]")];
const send = (method, url, value) =>
  ask(url, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
let last = null; // the box that was ticked or unticked last: from it a range goes

document.documentElement.classList.add("scripted");

// Ticking

/** Put the boxes of the page, and the bar, as the images are ticked. */
function show() {
  const elsewhere = new Set();
  for (const box of boxes()) {
    box.checked = ticked(box.dataset.tick).has(Number(box.value));
    if (box.dataset.tick !== collection && ticked(box.dataset.tick).size) elsewhere.add(box.dataset.tick);
  }
  const count = ticked(collection).size;
  tray.hidden = !count && !elsewhere.size;
  by("tray-count").textContent = count ? ngettext("%(count)s image ticked", "%(count)s images ticked", count) : "";
  for (const button of tray.querySelectorAll("button")) button.hidden = !count;
  by("tray-others").replaceChildren(...[...elsewhere].sort().map((name) => Object.assign(document.createElement("a"), {
    href: `${tray.dataset.collections}/${name}`,
    textContent: gettext("%(count)s in %(name)s", { count: number(ticked(name).size), name }),
  })));
}

function tell(text) {
  by("tray-said").textContent = text;
}

/** Tick or untick an image, or all from the last one on. */
function change(box, isRange) {
  const all = boxes().filter((one) => one.dataset.tick === box.dataset.tick);
  const [from, to] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b);
  const range = isRange && from >= 0 ? all.slice(from, to + 1) : [box];
  last = box;
  tickAll(box.dataset.tick, range, box.checked);
}

function tickAll(name, some, isOn) {
  const refused = tick(name, some.map((box) => Number(box.value)), isOn, limits.ticked);
  const count = ticked(name).size;
  const told = ngettext("%(count)s image of %(name)s ticked.", "%(count)s images of %(name)s ticked.", count, { name });
  tell(refused ? `${told} ${gettext("No more than %(most)s can be.", { most: number(limits.ticked) })}` : told);
}

document.addEventListener("click", (event) => {
  const box = event.target.closest("input[data-tick]");
  if (box) change(box, event.shiftKey);
  else if (event.target.closest("[data-tick-all]")) tickAll(collection, boxes(), true);
  else if (event.target.closest("[data-untick-all]")) {
    tick(collection, [...ticked(collection)], false);
    tell(gettext("No image is ticked."));
    if (dialog.open) dialog.close();
    else by("main").focus();
  }
});
document.addEventListener("submit", (event) => {
  const { withTicked, atMost } = event.target.dataset;
  if (!withTicked) return;
  event.target.querySelectorAll("[data-ticked]").forEach((input) => input.remove());
  const own = new Set(boxes().filter((box) => box.form === event.target).map((box) => Number(box.value)));
  const ids = [...ticked(collection)];
  if (atMost && ids.length > Number(atMost)) {
    event.preventDefault();
    fail(ngettext("A link shows at most %(count)s image: untick some.", "A link shows at most %(count)s images: untick some.", Number(atMost)));
    return;
  }
  event.target.append(...ids.filter((id) => !own.has(id)).map((id) => {
    const input = Object.assign(document.createElement("input"), { type: "hidden", name: withTicked, value: id });
    input.dataset.ticked = "";
    return input;
  }));
});
watchTicks(show);
new MutationObserver((changes) => {
  const isWork = (node) => node.nodeType === Node.ELEMENT_NODE && node.querySelector("input[data-tick]");
  if (changes.some(({ addedNodes }) => [...addedNodes].some(isWork))) show();
}).observe(by("main"), { childList: true, subtree: true });
show();

// The list

function fail(text) {
  by("ticked-problem").textContent = text;
}

function say(text) {
  by("ticked-said").textContent = text;
  tell(text);
}

function listed(id) {
  const item = document.createElement("li");
  item.dataset.id = id;
  const link = Object.assign(document.createElement("a"), { href: `${tray.dataset.collections}/${collection}/images/${id}` });
  const picture = { src: `${tray.dataset.images}/${id}/thumbnail`, alt: gettext("Image %(id)s", { id }), width: 256, height: 256, loading: "lazy", decoding: "async" };
  link.append(Object.assign(document.createElement("img"), picture));
  const name = Object.assign(document.createElement("span"), { className: "name" });
  const remove = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: gettext("Untick") });
  remove.ariaLabel = gettext("Untick image %(id)s", { id });
  item.append(link, name, remove);
  return item;
}

function count() {
  const { size } = ticked(collection);
  by("ticked-count").textContent = number(size);
  const isFew = size <= limits.address;
  by("ticked-address-row").hidden = !isFew;
  by("ticked-too-many").hidden = isFew;
  const address = new URL(`${tray.dataset.selection}?ids=${[...ticked(collection)].join(",")}`, location.href).href;
  by("ticked-address").value = by("ticked-page").href = isFew ? address : tray.dataset.selection;
}

/** Say what the listed images are, and let go of those that are gone; returns what went wrong, "" for nothing. */
async function lookUp() {
  const ids = [...ticked(collection)];
  let [bytes, gone] = [0, 0];
  for (let start = 0; start < ids.length && dialog.open; start += AT_ONCE) {
    const found = await send("POST", tray.dataset.lookUp, { ids: ids.slice(start, start + AT_ONCE) });
    if (!found.ok) return found.error;
    for (const image of found.value.images) {
      bytes += image.size;
      describe(image);
    }
    gone += found.value.gone.length;
    if (found.value.gone.length) untick(found.value.gone);
  }
  if (gone) say(ngettext("%(count)s image is not in the collection any more.", "%(count)s images are not in the collection any more.", gone));
  if (by("ticked-bytes")) by("ticked-bytes").textContent = `, ${fixed(bytes / 1e6, 1)} MB`;
  return "";
}

function describe({ id, name, labels }) {
  const item = by("ticked-images").querySelector(`[data-id="${id}"]`);
  if (!item) return;
  item.querySelector("img").alt = name;
  item.querySelector(".name").textContent = [name, ...labels].join(" · ");
  item.querySelector("button").ariaLabel = gettext("Untick %(name)s", { name });
}

function untick(ids) {
  tick(collection, ids, false);
  for (const id of ids) by("ticked-images").querySelector(`[data-id="${id}"]`)?.remove();
  count();
}

by("tray-open").addEventListener("click", async () => {
  fail("");
  by("ticked-said").textContent = "";
  by("ticked-images").replaceChildren(...[...ticked(collection)].map(listed));
  count();
  dialog.showModal();
  fail(await lookUp());
});
by("ticked-images").addEventListener("click", (event) => {
  const item = event.target.closest("button")?.closest("li");
  if (!item) return;
  const next = item.nextElementSibling ?? item.previousElementSibling;
  untick([Number(item.dataset.id)]);
  if (next) next.querySelector("button").focus();
  else dialog.close();
});
dialog.addEventListener("click", (event) => {
  if (event.target.closest("[data-close]")) dialog.close();
});
dialog.addEventListener("close", () => {
  if (tray.hidden) by("main").focus();
});

// What is done with them

/** Do something while the buttons of the dialog are off. */
async function act(doing, run) {
  const buttons = [...dialog.querySelectorAll("button")].filter((button) => !button.disabled);
  const before = document.activeElement;
  buttons.forEach((button) => { button.disabled = true; });
  fail("");
  say(doing);
  const { error, done } = await run();
  buttons.forEach((button) => { button.disabled = false; });
  if (before?.isConnected) before.focus();
  say(error ? "" : done);
  fail(error);
}

by("ticked-copy").addEventListener("click", async () => {
  const address = by("ticked-address");
  address.select();
  const isCopied = await navigator.clipboard?.writeText(address.value).then(() => true, () => false); // none without TLS
  say(isCopied ? gettext("The address is copied.") : gettext("The address is marked: copy it with the keys of your system."));
});

dialog.addEventListener("click", (event) => {
  const mark = event.target.closest("[data-examples]")?.dataset.examples;
  if (!mark) return;
  const ids = [...ticked(collection)];
  if (ids.length > limits.examples) {
    fail(gettext("At most %(count)s images are examples of a search: untick some.", { count: number(limits.examples) }));
    return;
  }
  dialog.close();
  const form = by("search");
  if (form?.elements.collection.value === collection) {
    document.dispatchEvent(new CustomEvent("artseek:examples", { detail: { mark, ids: ids.map(String) } }));
    return;
  }
  const wanted = new URLSearchParams([["collection", collection], ...ids.map((id) => [mark, id])]);
  location.assign(`${tray.dataset.search}?${wanted}`);
});

by("ticked-label")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const label = event.target.elements.label.value.trim();
  if (!label) return;
  act(gettext("Setting the label…"), async () => {
    const ids = [...ticked(collection)];
    const { error } = await send("PATCH", event.target.dataset.url, { ids, labels: [label] });
    if (error) return { error };
    for (const box of boxes().filter((one) => one.checked && one.dataset.tick === collection)) {
      const shown = box.closest(".work").querySelector(".label");
      if (!shown) continue;
      shown.textContent = shown.title = label;
      shown.classList.remove("none");
    }
    return { error: await lookUp(), done: ngettext("%(count)s image has the label %(label)s.", "%(count)s images have the label %(label)s.", ids.length, { label }) };
  });
});

const confirm = by("ticked-confirm");
by("ticked-delete")?.addEventListener("click", () => {
  by("ticked-confirm-title").textContent = ngettext("Delete %(count)s image?", "Delete %(count)s images?", ticked(collection).size);
  confirm.returnValue = "";
  confirm.showModal();
});
confirm?.addEventListener("close", () => {
  if (confirm.returnValue !== "delete") return;
  act(gettext("Deleting…"), async () => {
    const ids = [...ticked(collection)];
    const error = await runJob(tray.dataset.deletion, { ids });
    if (error) return { error };
    const works = boxes().filter((box) => box.checked && box.dataset.tick === collection).map((box) => box.closest(".work"));
    works.forEach((work) => work.remove());
    dialog.close();
    untick(ids);
    by("main").focus();
    document.dispatchEvent(new CustomEvent("artseek:deleted"));
    return { error: "", done: ngettext("%(count)s image was moved to the trash.", "%(count)s images were moved to the trash.", ids.length) };
  });
});
