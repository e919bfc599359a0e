// Keys of pages that show images, for who has the hands on the keyboard. A sheet shows them, and turns them off.

import { withStorage } from "./storage.js";

const sheet = document.getElementById("shortcuts");
const enabled = sheet.querySelector("input");
const OFF = "artseek-shortcuts-off";

const hits = () => [...document.querySelectorAll("main .work .mount")];
const current = () => document.activeElement?.closest("main .work");

/** Move the focus to another hit; from outside the hits, to the first. */
function step(by) {
  const all = hits();
  const place = all.indexOf(current()?.querySelector(".mount"));
  const next = place < 0 ? all[0] : all[place + by];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

/** Press a button or link of the hit that has the focus. */
function press(selector) {
  current()?.querySelector(selector)?.click();
}

const actions = {
  "?": () => sheet.showModal(),
  u: () => document.getElementById("image")?.click(),
  "/": () => document.getElementById("text")?.focus(),
  j: () => step(1),
  k: () => step(-1),
  m: () => press("[data-more-like-this]"),
  d: () => press("[data-detail]"),
  "+": () => press("[data-mark=like]"),
  "=": () => press("[data-mark=like]"),
  "-": () => press("[data-mark=unlike]"),
  x: () => press("[data-tick]"),
  X: () => current()?.querySelector("[data-tick]")?.dispatchEvent(new MouseEvent("click", { shiftKey: true, bubbles: true })),
  t: () => {
    const open = document.getElementById("tray-open");
    if (open?.checkVisibility()) open.click();
  },
  s: () => {
    const again = document.getElementById("search-marked");
    if (again && !again.parentElement.hidden) again.click();
  },
};

const isTyping = (element) =>
  element?.isContentEditable || element?.matches?.("textarea, select, input:not([type=checkbox], [type=radio], [type=file], [type=range])");

enabled.checked = withStorage((storage) => storage.getItem(OFF)) === null;
enabled.addEventListener("change", () => {
  withStorage((storage) => (enabled.checked ? storage.removeItem(OFF) : storage.setItem(OFF, "1")));
});
document.getElementById("show-shortcuts").addEventListener("click", () => sheet.showModal());
document.addEventListener("keydown", (event) => {
  if (!enabled.checked || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  const act = actions[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
