// Draws many points by WebGL: positions and kinds are sent to the graphics card once, and moving only changes a matrix.
// Where there is none, or only one that the processor computes, `raster.js` draws them.
// It is our own, in few lines, since libraries for it compile code from texts, which the Content-Security-Policy forbids.

import { raster } from "./raster.js";

const COMPUTING = /swiftshader|llvmpipe|softpipe|software|basic render/i;

const VERTEX = `#version 300 es
in vec2 position;
in float kind;
in float ticked;
uniform vec2 centre;
uniform vec2 scale;
uniform float size;
uniform vec3 palette[11];
flat out vec3 colour;
flat out float edge;
void main() {
  gl_Position = vec4((position - centre) * scale, 0.0, 1.0);
  gl_PointSize = ticked > 0.5 ? size + 4.0 : size;
  colour = palette[int(kind + 0.5)];
  edge = ticked;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
flat in vec3 colour;
flat in float edge;
uniform vec3 mark;
out vec4 shown;
void main() {
  float far = length(gl_PointCoord - 0.5);
  if (far > 0.5) discard;
  shown = vec4(edge > 0.5 && far > 0.27 ? mark : colour, 1.0);
}`;

function compiled(gl, kind, source) {
  const shader = gl.createShader(kind);
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  return shader;
}

/** Return whether the processor computes what WebGL draws; not every browser refuses a context for that. */
function isComputed() {
  const probe = document.createElement("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: true });
  if (!probe) return true;
  const told = probe.getExtension("WEBGL_debug_renderer_info");
  const renderer = probe.getParameter(told ? told.UNMASKED_RENDERER_WEBGL : probe.RENDERER);
  probe.getExtension("WEBGL_lose_context")?.loseContext(); // browsers have only so many
  return COMPUTING.test(renderer);
}

/** Points on a canvas, in eleven colours of three numbers from 0 to 255. */
export function scatter(canvas, colours) {
  const gl = isComputed() ? null : canvas.getContext("webgl2", { antialias: false, depth: false });
  if (!gl) return raster(canvas, colours);
  const palette = Float32Array.from(colours.flat(), (value) => value / 255);
  let program;
  let places;
  let count = 0;
  const buffers = {};
  const held = { position: new Float32Array(), kind: new Uint8Array(), ticked: new Uint8Array() };

  function attribute(name, size, type) {
    buffers[name] = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
    const at = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, type, false, 0, 0);
  }

  function send(name) {
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, held[name], gl.STATIC_DRAW);
  }

  function begin() {
    program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      gl.attachShader(program, compiled(gl, kind, source));
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    attribute("position", 2, gl.FLOAT);
    attribute("kind", 1, gl.UNSIGNED_BYTE);
    attribute("ticked", 1, gl.UNSIGNED_BYTE);
    places = Object.fromEntries(["centre", "scale", "size", "palette", "mark"].map((name) => [name, gl.getUniformLocation(program, name)]));
    Object.keys(held).forEach(send);
  }

  begin();
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", begin);
  return {
    /** Set one of `position` (Float32Array, two each), `kind` (Uint8Array, of 0 to 10) and `ticked` (Uint8Array). */
    set(name, values) {
      held[name] = values;
      if (name === "position") count = values.length / 2;
      send(name);
    },
    /** Draw: what the centre shows, how far one unit reaches and how large points are (pixels), the colour of ticks. */
    draw({ centre, unit, size, mark }) {
      const { width, height } = canvas;
      gl.viewport(0, 0, width, height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform2f(places.centre, centre[0], centre[1]);
      gl.uniform2f(places.scale, (2 * unit) / width, (2 * unit) / height);
      gl.uniform1f(places.size, size);
      gl.uniform3fv(places.palette, palette);
      gl.uniform3fv(places.mark, mark.map((value) => value / 255));
      gl.drawArrays(gl.POINTS, 0, count);
    },
  };
}
