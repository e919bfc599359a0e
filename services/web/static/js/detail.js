// The dialog in which a rectangle is drawn on a picture: by mouse, finger or keyboard.

import { gettext } from "./texts.js";

const dialog = document.getElementById("detail");
const canvas = document.getElementById("detail-canvas");
const picture = document.getElementById("detail-picture");
const frame = document.getElementById("detail-rectangle");
const told = document.getElementById("detail-box");
const LEAST = 8; // pixels of the original that a side has at least
const STEP = 0.02; // of the picture's shorter side, for a key

let size = [1, 1]; // of the upright original, in pixels
let box = [0, 0, 1, 1]; // left, top, width, height in pixels of the original
let answer = () => {};
let drag = null;

const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

/** Take a rectangle, as far as it lies on the picture, and show it. */
function take(left, top, width, height) {
  const wide = clamp(width, Math.min(LEAST, size[0]), size[0]);
  const high = clamp(height, Math.min(LEAST, size[1]), size[1]);
  box = [clamp(left, 0, size[0] - wide), clamp(top, 0, size[1] - high), wide, high].map(Math.round);
  const part = (value, side) => `${(100 * value) / size[side]}%`;
  Object.assign(frame.style, { left: part(box[0], 0), top: part(box[1], 1), width: part(box[2], 0), height: part(box[3], 1) });
  const [x, y, w, h] = box;
  told.textContent = gettext("%(width)s × %(height)s pixels at %(left)s, %(top)s of %(all_width)s × %(all_height)s", { width: w, height: h, left: x, top: y, all_width: size[0], all_height: size[1] });
}

/** Return where a pointer is, in pixels of the original. */
function place(event) {
  const area = picture.getBoundingClientRect();
  return [
    clamp(((event.clientX - area.left) / area.width) * size[0], 0, size[0]),
    clamp(((event.clientY - area.top) / area.height) * size[1], 0, size[1]),
  ];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  const kind = event.target.closest(".corner") ? "size" : event.target === frame && !isWhole() ? "move" : "draw";
  drag = { kind, from: place(event), box };
  frame.focus();
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = place(event);
  const [fromX, fromY] = drag.from;
  const [left, top, width, height] = drag.box;
  if (drag.kind === "move") take(left + x - fromX, top + y - fromY, width, height);
  else if (drag.kind === "size") take(left, top, Math.min(width + x - fromX, size[0] - left), Math.min(height + y - fromY, size[1] - top));
  else take(Math.min(x, fromX), Math.min(y, fromY), Math.abs(x - fromX), Math.abs(y - fromY));
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { drag = null; });

frame.addEventListener("keydown", (event) => {
  const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key === "Enter") {
    event.preventDefault();
    dialog.close("search");
  }
  const direction = directions[event.key];
  if (!direction) return;
  event.preventDefault();
  const step = Math.max(1, Math.round(STEP * Math.min(...size)));
  const [x, y] = direction.map((side) => side * step);
  const [left, top, width, height] = box;
  if (event.shiftKey) take(left, top, Math.min(width + x, size[0] - left), Math.min(height + y, size[1] - top));
  else take(left + x, top + y, width, height);
});

const isWhole = () => box[2] === size[0] && box[3] === size[1];

dialog.addEventListener("close", () => {
  picture.removeAttribute("src");
  if (dialog.returnValue === "search" && !isWhole()) answer(box.join(","));
  else if (dialog.returnValue) answer("");
});

/** Let a rectangle be drawn on a picture; `onBox` gets it as an address has it, or nothing for the whole picture. */
export function askForDetail({ source, name, width, height, shown }, onBox) {
  size = [Number(width), Number(height)];
  answer = onBox;
  drag = null;
  picture.src = source;
  picture.alt = name;
  const given = (shown || "").match(/^(\d+),(\d+),(\d+),(\d+)$/)?.slice(1).map(Number);
  take(...(given ?? [size[0] / 4, size[1] / 4, size[0] / 2, size[1] / 2]));
  dialog.returnValue = "";
  dialog.showModal();
  frame.focus();
}
