// The lightbox: shows an original on a dark ground; arrow keys turn to other images, Escape closes it.

import { gettext } from "./texts.js";
import { zoom } from "./zoom.js";

const box = document.getElementById("lightbox");
const picture = box.querySelector("img");
let current = null;

function show(link) {
  current = link;
  const { name, label, size, more, score, preview, tiles } = link.dataset;
  const thumbnail = link.querySelector("img").src;
  picture.onerror = () => {
    picture.onerror = null;
    picture.src = thumbnail; // the browser cannot show the format of the original
  };
  picture.onload = () => {
    picture.style.maxWidth = `${2 * picture.naturalWidth}px`; // a small image is enlarged to twice its size at most
    picture.style.maxHeight = `${2 * picture.naturalHeight}px`;
  };
  picture.src = preview ?? link.href;
  picture.alt = name;
  box.querySelector(".title").textContent = name;
  box.querySelector(".facts").textContent = [score && gettext("score %(score)s", { score }), label || gettext("no label"), size].filter(Boolean).join(" · ");
  box.querySelector(".more").href = more;
  box.querySelector(".original").href = link.href;
  box.querySelector(".original").hidden = !link.href.endsWith("/original");
  box.querySelector(".enlarge").hidden = tiles === undefined;
  for (const button of box.querySelectorAll("[data-turn]")) {
    button.disabled = !neighbour(Number(button.dataset.turn));
  }
}

function neighbour(step) {
  const links = [...current.closest(".grid").querySelectorAll("[data-lightbox]")];
  return links[links.indexOf(current) + step];
}

function turn(step) {
  const next = neighbour(step);
  if (next) show(next);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-lightbox]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  show(link);
  box.showModal();
});
box.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.classList.contains("enlarge")) zoom(current.dataset);
  else if (button?.dataset.turn) turn(Number(button.dataset.turn));
  else if (button || event.target === box || event.target.closest(".more")) box.close();
});
box.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") turn(-1);
  if (event.key === "ArrowRight") turn(1);
});
box.addEventListener("close", () => {
  picture.onload = null;
  picture.onerror = null;
  picture.removeAttribute("src");
  if (current?.isConnected) current.focus();
});
