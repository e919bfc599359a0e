// Images that are ticked, by collection. They stay from page to page, in this browser alone: their ids, and no more.

import { withStorage } from "./storage.js";

const KEY = "artseek-ticked:";
const FORMAT = 1;
const held = new Map(); // by collection: what is ticked
const watchers = [];
let isKept = withStorage(() => true) ?? false; // by the browser; else a page forgets them when it is left

/** Return the ids that the browser keeps; what is no such thing, or of a later version, counts as nothing. */
function kept(collection) {
  try {
    const { format, ids } = JSON.parse(withStorage((storage) => storage.getItem(KEY + collection)) ?? "{}");
    return format === FORMAT && Array.isArray(ids) ? ids.filter((id) => Number.isSafeInteger(id) && id > 0) : [];
  } catch {
    return [];
  }
}

function keep(collection, ids) {
  const done = withStorage((storage) => {
    if (ids.size) storage.setItem(KEY + collection, JSON.stringify({ format: FORMAT, ids: [...ids] }));
    else storage.removeItem(KEY + collection);
    return true;
  });
  isKept &&= done ?? false;
}

/** Return the ids of the images of a collection that are ticked, in the order in which they were. */
export function ticked(collection) {
  if (!held.has(collection)) held.set(collection, new Set(isKept ? kept(collection) : []));
  return held.get(collection);
}

/** Tick images of a collection, at most so many in all, or untick them; returns how many were too many. */
export function tick(collection, ids, isOn, most = Infinity) {
  if (isKept) held.delete(collection); // another tab may have changed them
  const all = ticked(collection);
  let refused = 0;
  for (const id of ids) {
    if (!isOn) all.delete(id);
    else if (all.size < most) all.add(id);
    else refused += !all.has(id);
  }
  keep(collection, all);
  watchers.forEach((watcher) => watcher());
  return refused;
}

/** Call `watcher` whenever images were ticked or unticked, on this page or another. */
export function watchTicks(watcher) {
  watchers.push(watcher);
}

addEventListener("storage", (event) => {
  if (event.key !== null && !event.key.startsWith(KEY)) return;
  held.clear();
  watchers.forEach((watcher) => watcher());
});
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  if (isKept) held.clear();
  watchers.forEach((watcher) => watcher());
});
