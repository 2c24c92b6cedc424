// The mask brush: what is painted is made anew. The model paints whole cells; those that are touched are tinted too.

import { upload } from "./api.js";
import { $, h, say } from "./dom.js";
import { png } from "./media.js";
import { locate, overlay, stage } from "./stage.js";
import { set, state, watch } from "./state.js";

const mask = document.createElement("canvas"); // white where to paint
const context = mask.getContext("2d", { willReadFrequently: true });
const ring = h("div", { class: "ring", hidden: true });
$("frame").append(ring);

export const brush = { size: 10, erasing: false };
let last = null; // where the stroke came from
let cursor = { x: 32, y: 32 }; // of the keyboard
let scale = 8;
let changed = () => {};
let uploads = 0; // a mask on its way to the server counts only while nothing else was drawn, cleared or shown

export const onMask = (react) => (changed = react);

/** A mask of that size with nothing in it. */
export function blank(width = state.base?.width ?? 64, height = state.base?.height ?? 64) {
  uploads++;
  mask.width = width;
  mask.height = height;
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  cursor = { x: width / 2, y: height / 2 };
  paint();
}

export function clearMask() {
  blank();
  set({ mask: null });
  changed();
}

/** Shows a mask that was drawn before. */
export function recall(canvas) {
  uploads++;
  mask.width = canvas.width;
  mask.height = canvas.height;
  context.drawImage(canvas, 0, 0);
  paint();
}

/** Rows of bool, and whether any is true. */
function painted() {
  const { data } = context.getImageData(0, 0, mask.width, mask.height);
  const holes = new Uint8Array(mask.width * mask.height);
  let any = false;
  for (let i = 0; i < holes.length; i++) any = (holes[i] = data[4 * i] > 127 ? 1 : 0) === 1 || any;
  return { holes, any };
}

function paint() {
  const shown = overlay.getContext("2d");
  if (state.mode !== "edit" || state.tool !== "mask" || overlay.width !== mask.width || overlay.height !== mask.height) {
    shown.clearRect(0, 0, overlay.width, overlay.height);
    return;
  }
  const { width, height } = mask;
  const { holes } = painted();
  const cell = state.model?.cell ?? 8;
  const touched = new Set();
  for (let i = 0; i < holes.length; i++) {
    if (holes[i]) touched.add(Math.floor(Math.floor(i / width) / cell) * 4096 + Math.floor((i % width) / cell));
  }
  const [r, g, b] = getComputedStyle(overlay).getPropertyValue("--film").trim().split(/\s+/).map(Number);
  const image = shown.createImageData(width, height);
  for (let i = 0; i < holes.length; i++) {
    const key = Math.floor(Math.floor(i / width) / cell) * 4096 + Math.floor((i % width) / cell);
    image.data.set([r, g, b, holes[i] ? 170 : touched.has(key) ? 70 : 0], 4 * i);
  }
  shown.putImageData(image, 0, 0);
}

function dab({ x, y }, from = null) {
  context.fillStyle = context.strokeStyle = brush.erasing ? "#000" : "#fff";
  context.lineWidth = brush.size;
  context.lineCap = "round";
  context.beginPath();
  if (from) {
    context.moveTo(from.x, from.y);
    context.lineTo(x, y);
    context.stroke();
  } else {
    context.arc(x, y, brush.size / 2, 0, 2 * Math.PI);
    context.fill();
  }
  paint();
}

/** A stroke is done: the mask goes to the server, and what it describes is asked for. */
async function finish() {
  const since = performance.now();
  const mine = ++uploads;
  if (!painted().any) {
    set({ mask: null });
    changed(since);
    return;
  }
  try {
    const stored = await upload(await png(mask));
    if (mine !== uploads) return;
    set({ mask: { hash: stored.hash } });
    changed(since);
  } catch (error) {
    stage.dispatchEvent(new CustomEvent("trouble", { detail: { message: error.message } }));
  }
}

function place({ x, y }, visible = true) {
  ring.hidden = !visible || overlay.hidden;
  ring.style.left = `${x * scale}px`;
  ring.style.top = `${y * scale}px`;
  ring.style.width = ring.style.height = `${brush.size * scale}px`;
}

export function setBrush(patch) {
  Object.assign(brush, patch);
  brush.size = Math.max(2, Math.min(32, brush.size));
  place(cursor, !ring.hidden);
  stage.dispatchEvent(new Event("brush"));
}

overlay.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.preventDefault();
  overlay.focus({ preventScroll: true });
  overlay.setPointerCapture(event.pointerId);
  last = locate(event);
  dab(last);
});
overlay.addEventListener("pointermove", (event) => {
  const here = locate(event);
  cursor = here;
  place(here);
  if (last) {
    dab(here, last);
    last = here;
  }
});
for (const name of ["pointerup", "pointercancel"]) {
  overlay.addEventListener(name, () => {
    if (last) finish();
    last = null;
  });
}
overlay.addEventListener("pointerleave", () => (ring.hidden = document.activeElement !== overlay));
overlay.addEventListener("focus", () => place(cursor, overlay.matches(":focus-visible")));
overlay.addEventListener("blur", () => (ring.hidden = true));
overlay.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 1 : (state.model?.cell ?? 8) / 2;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key in moves) {
    const [dx, dy] = moves[event.key];
    cursor = {
      x: Math.max(0, Math.min(mask.width, cursor.x + dx * step)),
      y: Math.max(0, Math.min(mask.height, cursor.y + dy * step)),
    };
    place(cursor);
    say(`${Math.round(cursor.x)}, ${Math.round(cursor.y)}`);
  } else if (event.key === " " || event.key === "Enter") {
    dab(cursor);
    finish();
    say(brush.erasing ? "erased" : "painted");
  } else return;
  event.preventDefault();
  event.stopPropagation();
});

stage.addEventListener("shown", ({ detail }) => overlay.classList.toggle("made", !detail.sheet?.grows));
stage.addEventListener("fitted", ({ detail }) => (scale = detail.scale));
stage.addEventListener("drawn", () => {
  overlay.hidden = !(state.mode === "edit" && state.tool === "mask" && state.base);
  if (overlay.hidden) ring.hidden = true;
  paint();
});
overlay.setAttribute("role", "application");
overlay.setAttribute("aria-label", "Mask: arrow keys move, space paints, brackets change the size");
watch(["base"], () => blank());
