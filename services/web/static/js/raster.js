// Draws many points into the pixels of a 2D canvas. Where no graphics card draws, WebGL computes each of them many times over
// on the processor, and this takes a small part of that time.

const packed = (colour) => new Uint32Array(Uint8Array.from([...colour, 255]).buffer)[0];

/** Return the pixels of each row of a disc: the first one, and the one behind the last. */
function disc(diameter) {
  const rows = new Int32Array(2 * diameter);
  for (let row = 0; row < diameter; row += 1) {
    const half = Math.sqrt((diameter / 2) ** 2 - (row + 0.5 - diameter / 2) ** 2);
    rows[2 * row] = Math.round(diameter / 2 - half);
    rows[2 * row + 1] = Math.round(diameter / 2 + half);
  }
  return rows;
}

/** Points on a canvas, in colours of three numbers from 0 to 255; see `scatter`. */
export function raster(canvas, colours) {
  const context = canvas.getContext("2d");
  const palette = Uint32Array.from(colours, packed);
  const held = { position: new Float32Array(), kind: new Uint8Array(), ticked: new Uint8Array() };
  let image = null;
  let pixels = null;

  /** Fill a disc whose upper left corner is at a pixel; what lies outside of the canvas is left out. */
  function fill(left, top, rows, colour) {
    const { width, height } = image;
    const last = Math.min(rows.length / 2, height - top);
    for (let row = Math.max(0, -top); row < last; row += 1) {
      const start = (top + row) * width;
      const end = start + Math.min(width, left + rows[2 * row + 1]);
      for (let at = start + Math.max(0, left + rows[2 * row]); at < end; at += 1) pixels[at] = colour;
    }
  }

  return {
    set(name, values) {
      held[name] = values;
    },
    draw({ centre, unit, size, mark }) {
      const { width, height } = canvas;
      if (!width || !height) return;
      if (image?.width !== width || image.height !== height) {
        image = context.createImageData(width, height);
        pixels = new Uint32Array(image.data.buffer);
      } else pixels.fill(0);
      const { position, kind, ticked } = held;
      const diameters = [Math.max(1, Math.round(size)), Math.max(3, Math.round(size + 4))];
      const [plain, outer, inner] = [...diameters, Math.max(1, Math.round(0.54 * diameters[1]))].map(disc);
      const edge = packed(mark);
      const [across, up] = [width / 2 - centre[0] * unit, height / 2 + centre[1] * unit];
      const count = position.length / 2;
      for (let i = 0; i < count; i += 1) {
        const diameter = diameters[ticked[i]];
        const left = Math.round(across + position[2 * i] * unit - diameter / 2);
        const top = Math.round(up - position[2 * i + 1] * unit - diameter / 2);
        if (left <= -diameter || top <= -diameter || left >= width || top >= height) continue;
        if (!ticked[i]) fill(left, top, plain, palette[kind[i]]);
        else {
          fill(left, top, outer, edge);
          const within = (diameter - inner.length / 2) >> 1;
          fill(left + within, top + within, inner, palette[kind[i]]);
        }
      }
      context.putImageData(image, 0, 0);
    },
  };
}
