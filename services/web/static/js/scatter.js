// Draws many points by WebGL: positions and kinds are sent to the graphics card once, and moving only changes a matrix.
// It is our own, in few lines, since libraries for it compile code from texts, which the Content-Security-Policy forbids.

const VERTEX = `#version 300 es
in vec2 position;
in float kind;
in float ticked;
uniform vec2 centre;
uniform vec2 scale;
uniform float size;
uniform vec3 palette[11];
out vec3 colour;
out float edge;
void main() {
  gl_Position = vec4((position - centre) * scale, 0.0, 1.0);
  gl_PointSize = ticked > 0.5 ? size + 4.0 : size;
  colour = palette[int(kind + 0.5)];
  edge = ticked;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec3 colour;
in float edge;
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

/** Points on a canvas; null where the browser has no WebGL 2. */
export function scatter(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: false, alpha: true, premultipliedAlpha: false });
  if (!gl) return null;
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
    /** Draw: what the centre shows, how far one unit reaches (pixels), the size of points, and colours from 0 to 1. */
    draw({ centre, unit, size, palette, mark }) {
      const { width, height } = canvas;
      gl.viewport(0, 0, width, height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform2f(places.centre, centre[0], centre[1]);
      gl.uniform2f(places.scale, (2 * unit) / width, (2 * unit) / height);
      gl.uniform1f(places.size, size);
      gl.uniform3fv(places.palette, palette);
      gl.uniform3fv(places.mark, mark);
      gl.drawArrays(gl.POINTS, 0, count);
    },
  };
}
