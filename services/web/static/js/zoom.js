// Zoom: the full picture in a dialog, first from its derivative, then from tiles of the original, as far as one goes in.

import { gettext } from "./texts.js";

const dialog = document.getElementById("zoom");
const said = document.getElementById("zoom-said");
const TILE = 2048; // pixels of a side, as shared/images/tiles.py cuts them
const DERIVATIVE = 1600; // pixels of its longer side
const STEP = 2;
const MOST_TILES = 40; // decoded at a time, 16 MB each
const library = new URL("../vendor/openseadragon-4.1.1.min.js", import.meta.url);
const stillness = matchMedia("(prefers-reduced-motion: reduce)");
let viewer = null;

/** Load the library when it is first needed: most visitors of a page do not zoom. */
function loaded() {
  if (window.OpenSeadragon) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = library;
    script.onload = resolve;
    script.onerror = () => {
      script.remove();
      reject(new Error(script.src));
    };
    document.head.append(script);
  });
}

/** Return what is to be drawn, the lowest first: the derivative, and the tiles where the original has more. */
function layers({ picture, tiles, width, height }) {
  const [wide, high] = [Number(width), Number(height)];
  const found = [{ tileSource: { type: "image", url: picture, buildPyramid: false }, width: 1 }];
  const longest = Math.max(wide, high);
  if (longest > DERIVATIVE) {
    const maxLevel = Math.ceil(Math.log2(longest));
    let minLevel = maxLevel; // the smallest that shows more than the derivative
    while (Math.ceil(longest / 2 ** (maxLevel - minLevel + 1)) > DERIVATIVE) minLevel -= 1;
    const getTileUrl = (level, x, y) => `${tiles}/${level}/${x}_${y}`;
    found.push({ tileSource: { width: wide, height: high, tileSize: TILE, minLevel, maxLevel, getTileUrl }, width: 1 });
  }
  return found;
}

function act(what) {
  const view = viewer?.viewport;
  if (!view) return;
  const finest = viewer.world.getItemAt(viewer.world.getItemCount() - 1);
  if (what === "whole") view.goHome();
  else if (what === "pixels") view.zoomTo(finest.imageToViewportZoom(1 / devicePixelRatio));
  else view.zoomBy(what === "in" ? STEP : 1 / STEP);
  view.applyConstraints();
}

/** Show an image: its `name`, `picture` and `tiles` (addresses), and the `width` and `height` of the original. */
export async function zoom(image) {
  said.textContent = "";
  dialog.querySelector(".title").textContent = image.name;
  dialog.showModal();
  try {
    await loaded();
  } catch {
    said.textContent = gettext("The viewer could not be loaded. Close it and try again.");
    return;
  }
  if (!dialog.open) return;
  viewer = window.OpenSeadragon({
    element: document.getElementById("zoom-view"),
    tileSources: layers(image),
    showNavigationControl: false,
    animationTime: stillness.matches ? 0 : 0.5,
    visibilityRatio: 0.8,
    minZoomImageRatio: 0.9,
    maxZoomPixelRatio: 8,
    imageLoaderLimit: 2, // the server cuts one large tile after another
    maxImageCacheCount: MOST_TILES,
    tileRetryMax: 4,
  });
  viewer.canvas.setAttribute("role", "group");
  viewer.canvas.setAttribute("aria-label", gettext("%(name)s: arrow keys move, + and − zoom, 0 shows the whole picture", { name: image.name }));
  viewer.addHandler("open", () => {
    dialog.dataset.open = "";
    viewer.canvas.focus();
  });
  viewer.addHandler("tile-load-failed", () => {
    said.textContent = gettext("A part of the full picture cannot be had: it is shown less sharp.");
  });
  viewer.addHandler("open-failed", () => {
    said.textContent = gettext("The picture cannot be shown. Try again in a while.");
  });
}

dialog.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.act) act(button.dataset.act);
  else if (button) dialog.close();
});
dialog.addEventListener("close", () => {
  viewer?.destroy();
  viewer = null;
  delete dialog.dataset.open;
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-zoom]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  zoom(link.dataset);
});
