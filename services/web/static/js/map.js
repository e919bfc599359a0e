// The map of a collection: its images as points, thumbnails where there is room, a lasso that ticks, and a list beside.

import { ask, askJob, isFinal, pause } from "./answers.js";
import { saidOf } from "./problems.js";
import { scatter } from "./scatter.js";
import { gettext, ngettext, number } from "./texts.js";
import { tick, ticked, watchTicks } from "./ticks.js";

const main = document.getElementById("map");
const { collection, map, values, images, pages, lookUp, job } = main.dataset;
const by = (id) => document.getElementById(id);
const FINEST = 65535;
const POLL_MS = 1000;
const AWAITED_MS = 5000;
const SETTLED_MS = 200;
const CELL = 84; // pixels of a thumbnail and the room around it
const MOST_POINTS = 1200; // in view, below which thumbnails are shown
const LISTED = 24;
const NEAR = 14; // pixels from a point that a click hits
const STEP = 60; // pixels of an arrow key
const FACTOR = 1.4;
const COLOURS = ["8a8175", "97341c", "3f5873", "5d7f78", "c08a2e", "7a4d7c", "4f7a3a", "b3567a", "2f8fa8", "8c5a35", "b9b0a2"];
const rgb = (text) => [0, 2, 4].map((at) => parseInt(text.slice(at, at + 2), 16));
const OTHER = 10; // the colour of images with another value, or none

/** Follow the making of the map, and show it when it ends. */
async function follow() {
  for (;;) {
    await pause(POLL_MS);
    const found = await askJob(job);
    if (isFinal(found)) return;
    if (found.value && !["open", "running"].includes(found.value.state)) {
      const [refusal] = found.value.rejected;
      if (!refusal || found.value.state === "cancelled") location.reload();
      else by("map-making").textContent = gettext("The map could not be made: %(reason)s", { reason: saidOf(refusal) });
      return;
    }
  }
}

/** Show the map as soon as it is there to whoever may not ask how far it is: the page itself says whether it is. */
async function wait() {
  for (;;) {
    await pause(AWAITED_MS);
    if (document.hidden) continue;
    const response = await fetch(location.href).catch(() => null);
    if (!response || (!response.ok && !isFinal(response))) continue;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (page.getElementById("map")?.dataset.awaited !== undefined) continue;
    location.reload();
    return;
  }
}

if (job) follow();
if (main.dataset.awaited !== undefined) wait();
if (map) start();

async function start() {
  const answer = await ask(map);
  if (!answer.ok) {
    by("map-said").textContent = answer.error;
    return;
  }
  const { ids, x, y } = answer.value;
  const places = new Map(ids.map((id, place) => [id, place]));
  const canvas = by("map-canvas");
  const view = by("map-view");
  const position = new Float32Array(2 * ids.length);
  for (let i = 0; i < ids.length; i += 1) {
    position[2 * i] = (2 * x[i]) / FINEST - 1;
    position[2 * i + 1] = (2 * y[i]) / FINEST - 1;
  }
  const points = scatter(canvas, COLOURS.map(rgb));
  points.set("position", position);
  points.set("kind", new Uint8Array(ids.length));
  points.set("ticked", new Uint8Array(ids.length));

  // What is in view

  const inkNow = () => rgb(getComputedStyle(main).getPropertyValue("--ink").trim().slice(1));
  let [centre, unit, drawn, settling, ink] = [[0, 0], 1, null, 0, inkNow()];
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    ink = inkNow();
    change();
  });
  const names = new Map();
  const ratio = () => Math.min(devicePixelRatio || 1, 2);
  const whole = () => 0.46 * Math.min(view.clientWidth, view.clientHeight);
  const toScreen = (i) => [
    view.clientWidth / 2 + (position[2 * i] - centre[0]) * unit,
    view.clientHeight / 2 - (position[2 * i + 1] - centre[1]) * unit,
  ];
  const toMap = (left, top) => [centre[0] + (left - view.clientWidth / 2) / unit, centre[1] - (top - view.clientHeight / 2) / unit];

  function draw() {
    drawn = null;
    const size = ratio() * Math.min(9, Math.max(2.5, 2.5 + Math.log2(unit / whole())));
    points.draw({ centre, unit: unit * ratio(), size, mark: ink });
    main.dataset.frames = Number(main.dataset.frames ?? 0) + 1;
    layThumbnails();
  }

  function redraw() {
    drawn ??= requestAnimationFrame(draw);
  }

  function change() {
    redraw();
    clearTimeout(settling);
    settling = setTimeout(settle, SETTLED_MS);
  }

  function visible() {
    const [left, top] = toMap(0, 0);
    const [right, bottom] = toMap(view.clientWidth, view.clientHeight);
    const found = [];
    for (let i = 0; i < ids.length; i += 1) {
      const [across, up] = [position[2 * i], position[2 * i + 1]];
      if (across >= left && across <= right && up <= top && up >= bottom) found.push(i);
    }
    return found;
  }

  const shown = new Map(); // thumbnails by the place of their image

  function layThumbnails() {
    for (const [i, image] of shown) {
      const [left, top] = toScreen(i);
      image.style.translate = [left, top].map((length) => `${length}px`).join(" "); // which lays nothing out anew
    }
  }

  /** Show a thumbnail for each cell of the view that has an image, and list those nearest to its middle. */
  function settle() {
    const inView = visible();
    const wanted = new Set();
    if (inView.length <= MOST_POINTS) {
      const cells = new Set([...shown.keys()].filter((i) => inView.includes(i)).map((i) => (wanted.add(i), cellOf(i))));
      for (const i of inView) {
        if (cells.has(cellOf(i))) continue;
        cells.add(cellOf(i));
        wanted.add(i);
      }
    }
    for (const [i, image] of shown) {
      if (wanted.has(i)) continue;
      image.remove();
      shown.delete(i);
    }
    for (const i of wanted) {
      if (shown.has(i)) continue;
      const image = Object.assign(document.createElement("img"), { src: `${images}/${ids[i]}/thumbnail`, alt: "", decoding: "async", draggable: false });
      shown.set(i, image);
      by("map-thumbnails").append(image);
    }
    layThumbnails();
    list(nearest(inView));
    const some = inView.length > LISTED ? gettext("Listed are the %(count)s nearest to the middle.", { count: LISTED }) : "";
    by("map-count").textContent = `${ngettext("%(count)s image in view.", "%(count)s images in view.", inView.length)} ${some}`.trim();
  }

  /** Return those of some images that are nearest to the middle of the view, the nearest first. */
  function nearest(some) {
    const found = []; // pairs of distance and image, in their order: few, however many there are to choose from
    for (const i of some) {
      const far = (position[2 * i] - centre[0]) ** 2 + (position[2 * i + 1] - centre[1]) ** 2;
      if (found.length === LISTED && far >= found[LISTED - 1][0]) continue;
      let place = found.length;
      while (place && found[place - 1][0] > far) place -= 1;
      found.splice(place, 0, [far, i]);
      if (found.length > LISTED) found.pop();
    }
    return found.map(([, i]) => i);
  }

  function cellOf(i) {
    const cell = CELL / unit; // cells stay where they are on the map while it is moved
    return `${Math.floor(position[2 * i] / cell)} ${Math.floor(position[2 * i + 1] / cell)}`;
  }

  // The list

  async function list(some) {
    const wanted = some.map((i) => ids[i]);
    const before = [...by("map-list").children].map((item) => Number(item.dataset.id));
    if (before.join() === wanted.join()) return; // whoever is in the list stays there
    by("map-list").replaceChildren(...wanted.map(listed));
    const unknown = wanted.filter((id) => !names.has(id));
    if (!unknown.length) return;
    const headers = { "Content-Type": "application/json" };
    const found = await ask(lookUp, { method: "POST", headers, body: JSON.stringify({ ids: unknown }) });
    for (const image of found.value?.images ?? []) names.set(image.id, [image.name, ...image.labels].join(" · "));
    for (const item of by("map-list").children) name(item);
  }

  function listed(id) {
    const item = by("map-item").content.firstElementChild.cloneNode(true);
    item.dataset.id = id;
    item.querySelector("a").href = `${pages}/${id}`;
    item.querySelector("img").src = `${images}/${id}/thumbnail`;
    item.querySelector("input").value = id;
    item.querySelector("input").checked = ticked(collection).has(id);
    name(item);
    return item;
  }

  function name(item) {
    const text = names.get(Number(item.dataset.id)) ?? gettext("Image %(id)s", { id: item.dataset.id });
    item.querySelector("img").alt = text;
    item.querySelector(".name").textContent = text;
    item.querySelector("input").setAttribute("aria-label", gettext("Tick %(name)s", { name: text }));
  }

  by("map-list").addEventListener("focusin", (event) => mark(event.target.closest("li")));
  by("map-list").addEventListener("pointerover", (event) => mark(event.target.closest("li")));
  function mark(item) {
    const i = places.get(Number(item?.dataset.id));
    by("map-mark").hidden = i === undefined;
    if (i === undefined) return;
    const [left, top] = toScreen(i);
    by("map-mark").style.left = `${left}px`;
    by("map-mark").style.top = `${top}px`;
  }

  // Moving

  function move(right, up) {
    centre = [centre[0] + right / unit, centre[1] + up / unit].map((value) => Math.max(-1, Math.min(1, value)));
    by("map-mark").hidden = true;
    change();
  }

  function zoom(factor, left = view.clientWidth / 2, top = view.clientHeight / 2) {
    const [across, up] = toMap(left, top);
    unit = Math.max(0.8 * whole(), Math.min(400 * whole(), unit * factor));
    centre = [across - (left - view.clientWidth / 2) / unit, up + (top - view.clientHeight / 2) / unit];
    move(0, 0);
  }

  function all() {
    [centre, unit] = [[0, 0], whole()];
    move(0, 0);
  }

  const lasso = by("map-lasso");
  const outline = by("map-outline");
  const down = new Map();
  let path = null;
  let far = 0;
  const at = (event) => {
    const box = view.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  view.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button")) return;
    view.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    far = 0;
    if (down.size === 1 && (lasso.ariaPressed === "true" || event.shiftKey)) path = [at(event)];
    else path = null;
  });
  view.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    const now = at(event);
    far += Math.hypot(now[0] - before[0], now[1] - before[1]);
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    down.set(event.pointerId, now);
    if (path) {
      path.push(now);
      outline.setAttribute("points", path.map((corner) => corner.join(",")).join(" "));
    } else if (other) {
      const spread = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
      zoom(spread(now) / spread(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else move(before[0] - now[0], now[1] - before[1]);
  });
  const up = (event) => {
    if (!down.delete(event.pointerId)) return;
    if (path?.length > 2) take(path);
    else if (event.type === "pointerup" && far < 4) hit(at(event));
    path = null;
    outline.setAttribute("points", "");
  };
  view.addEventListener("pointerup", up);
  view.addEventListener("pointercancel", up);
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), ...at(event));
  }, { passive: false });
  view.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowLeft: () => move(-STEP, 0), ArrowRight: () => move(STEP, 0), ArrowUp: () => move(0, STEP), ArrowDown: () => move(0, -STEP),
      "+": () => zoom(FACTOR), "=": () => zoom(FACTOR), "-": () => zoom(1 / FACTOR), 0: all,
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    event.stopPropagation(); // of the page's shortcuts
    keys[event.key]();
  });
  main.addEventListener("click", (event) => {
    const what = event.target.closest("[data-act]")?.dataset.act;
    if (what === "in") zoom(FACTOR);
    if (what === "out") zoom(1 / FACTOR);
    if (what === "whole") all();
    if (what === "lasso") lasso.ariaPressed = lasso.ariaPressed === "true" ? "false" : "true";
    if (what === "tick") tickSome(visible());
  });

  // Ticking

  /** Show the image that was clicked first in the list, with the focus on it. */
  function hit([left, top]) {
    let [best, least] = [-1, NEAR ** 2];
    for (const i of visible()) {
      const [across, down_] = toScreen(i);
      const away = (across - left) ** 2 + (down_ - top) ** 2;
      if (away < least) [best, least] = [i, away];
    }
    if (best < 0) return;
    list([best, ...[...by("map-list").children].map((item) => places.get(Number(item.dataset.id))).filter((i) => i !== best)].slice(0, LISTED));
    by("map-list").querySelector("a").focus();
  }

  /** Tick the images within a path on the screen. */
  function take(corners) {
    tickSome(visible().filter((i) => {
      const [left, top] = toScreen(i);
      let inside = false;
      for (let a = 0, b = corners.length - 1; a < corners.length; b = a, a += 1) {
        const [[ax, ay], [bx, by_]] = [corners[a], corners[b]];
        if (ay > top !== by_ > top && left < ((bx - ax) * (top - ay)) / (by_ - ay) + ax) inside = !inside;
      }
      return inside;
    }));
  }

  function tickSome(some) {
    const most = JSON.parse(by("tray").dataset.limits).ticked;
    const refused = tick(collection, some.map((i) => ids[i]), true, most);
    const told = [ngettext("%(count)s image ticked.", "%(count)s images ticked.", some.length - refused)];
    if (refused) told.push(gettext("No more than %(most)s can be.", { most: number(most) }));
    by("map-said").textContent = told.join(" ");
  }

  function showTicks() {
    const flags = new Uint8Array(ids.length);
    for (const id of ticked(collection)) if (places.has(id)) flags[places.get(id)] = 1;
    points.set("ticked", flags);
    for (const box of by("map-list").querySelectorAll("input")) box.checked = ticked(collection).has(Number(box.value));
    redraw();
  }
  watchTicks(showTicks);

  // Colours

  const field = by("map-field");
  async function colour() {
    const chosen = field.value;
    by("map-legend").replaceChildren();
    if (!chosen) {
      points.set("kind", new Uint8Array(ids.length));
      redraw();
      return;
    }
    by("map-said").textContent = gettext("Colouring…");
    const found = await ask(`${values}?field=${encodeURIComponent(chosen)}`);
    if (field.value !== chosen) return;
    by("map-said").textContent = found.error;
    if (!found.ok) return;
    const of = found.value.of;
    points.set("kind", Uint8Array.from(ids, (_, i) => (of[i] >= 0 ? of[i] + 1 : OTHER)));
    by("map-legend").replaceChildren(...found.value.values.map((value, place) => {
      const item = document.createElement("li");
      const dot = Object.assign(document.createElement("span"), { className: "dot" });
      dot.style.background = `#${COLOURS[place + 1]}`;
      item.append(dot, value, ` ${number(found.value.counts[place])}`);
      return item;
    }));
    redraw();
  }
  field.addEventListener("change", colour);

  // Begin

  new ResizeObserver(() => {
    [canvas.width, canvas.height] = [view.clientWidth * ratio(), view.clientHeight * ratio()];
    change();
  }).observe(view);
  [canvas.width, canvas.height] = [view.clientWidth * ratio(), view.clientHeight * ratio()];
  all();
  showTicks();
  settle();
  if (field.value) colour();
  main.dataset.drawn = ids.length;
}
