// The dialog that lays a hit over the query: side by side, by a slider, or in turn; keys work too.

import { number } from "./texts.js";

const dialog = document.getElementById("comparison");
const slider = document.getElementById("comparison-share");
const blink = document.getElementById("comparison-blink");
const [first, second, laid] = ["first", "second", "laid"].map((name) => document.getElementById(`comparison-${name}`));
const SVG = "http://www.w3.org/2000/svg";
const BLINK_MS = 700;
const stillness = matchMedia("(prefers-reduced-motion: reduce)");
let timer = null;

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const shown = ({ source, width, height }, more = {}) => element("image", { href: source, width, height, preserveAspectRatio: "none", ...more });

/** Draw a picture and the region on it that the other shows too; and the region of it by which it was found, if any. */
function draw(svg, picture, polygon, found = "") {
  svg.setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
  const points = polygon.map((corner) => corner.join(",")).join(" ");
  svg.replaceChildren(shown(picture), element("polygon", { points, class: "under" }), element("polygon", { points }));
  if (!found) return;
  const [x, y, width, height] = found.split(",");
  svg.append(element("rect", { x, y, width, height, class: "under" }), element("rect", { x, y, width, height, class: "window" }));
}

/** Return the affine map that lays corners of one picture over those of the other, as SVG writes it. */
function mapping(from, to) {
  let best = null;
  for (let i = 1; i < from.length; i += 1) {
    for (let j = i + 1; j < from.length; j += 1) {
      const [[x0, y0], [x1, y1], [x2, y2]] = [from[0], from[i], from[j]];
      const size = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0);
      if (!best || Math.abs(size) > Math.abs(best.size)) best = { size, i, j };
    }
  }
  if (!best?.size) return null;
  const [p, q, r] = [0, best.i, best.j].map((place) => from[place]);
  const [P, Q, R] = [0, best.i, best.j].map((place) => to[place]);
  const line = (side) => {
    const [u, v] = [Q[side] - P[side], R[side] - P[side]];
    const across = (u * (r[1] - p[1]) - v * (q[1] - p[1])) / best.size;
    const down = (v * (q[0] - p[0]) - u * (r[0] - p[0])) / best.size;
    return [across, down, P[side] - across * p[0] - down * p[1]];
  };
  const [[a, c, e], [b, d, f]] = [line(0), line(1)];
  return `matrix(${[a, b, c, d, e, f].join(" ")})`;
}

function mix(share) {
  slider.value = share;
  laid.lastElementChild?.setAttribute("opacity", share / 100);
}

function stop() {
  clearInterval(timer);
  timer = null;
  blink.setAttribute("aria-pressed", "false");
}

const turn = () => mix(Number(slider.value) < 50 ? 100 : 0);

/** Show the pictures in turn; where motion is not wanted, turn once. */
function startBlink() {
  if (timer) return stop();
  turn();
  if (stillness.matches) return undefined;
  blink.setAttribute("aria-pressed", "true");
  timer = setInterval(turn, BLINK_MS);
  return undefined;
}

if (dialog) watch(); // which a page has where pictures can be compared

function watch() {
  slider.addEventListener("input", () => {
    stop();
    mix(Number(slider.value));
  });
  blink.addEventListener("click", startBlink);
  dialog.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "b" || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    startBlink();
  });
  dialog.addEventListener("close", () => {
    stop();
    for (const svg of [first, second, laid]) svg.replaceChildren();
  });
}

/**
 * Show how a hit and the query show the same; `query` and `hit` have a source and the size of the upright original.
 * `region` of a hit is x, y, width and height of what it was found by, if any.
 */
export function showComparison({ query, hit, proof }) {
  dialog.querySelector("[data-inliers]").textContent = number(proof.inliers);
  dialog.querySelector("[data-mirrored]").hidden = !proof.mirrored;
  document.getElementById("comparison-names").textContent = [query.name, hit.name].filter(Boolean).join(" · ");
  const map = query.source ? mapping(proof.polygon, proof.query_polygon) : null;
  document.getElementById("comparison-over").hidden = !map;
  first.closest("figure").hidden = !query.source;
  if (query.source) draw(first, query, proof.query_polygon);
  draw(second, hit, proof.polygon, hit.region);
  if (map) {
    laid.setAttribute("viewBox", `0 0 ${query.width} ${query.height}`);
    laid.replaceChildren(shown(query), shown(hit, { transform: map }));
    mix(50);
  }
  dialog.showModal();
}
