// Outpainting: the edges are handles. What is dragged out is new canvas, in whole cells, for the model to paint.

import { upload } from "./api.js";
import { $, h, say } from "./dom.js";
import { png, sheetOf } from "./media.js";
import { size, stage } from "./stage.js";
import { set, state, watch } from "./state.js";

const SIDES = { left: [-1, 0], right: [1, 0], top: [0, -1], bottom: [0, 1] };
let changed = () => {}, moved = () => {};
let scale = 8;
/** `react` when what lies beyond is to be asked for; `move` while an edge moves. */
export function onGrow(react, move) {
  [changed, moved] = [react, move];
}

const handles = Object.keys(SIDES).map((side) => {
  const upright = side === "left" || side === "right";
  const handle = h("div", {
    class: `handle ${side}`, role: "slider", tabindex: "0", "aria-label": `Grow ${side}`, "aria-valuemin": "0",
    "aria-orientation": upright ? "horizontal" : "vertical", "aria-valuemax": "0", "aria-valuenow": "0",
  });
  let from = null;
  handle.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    handle.focus({ preventScroll: true });
    handle.setPointerCapture(event.pointerId);
    from = { x: event.clientX, y: event.clientY, cells: state.margins[side], scale };
  });
  handle.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [dx, dy] = SIDES[side];
    const pixels = ((event.clientX - from.x) * dx + (event.clientY - from.y) * dy) / from.scale;
    move(side, from.cells + Math.round(pixels / state.model.cell));
  });
  for (const name of ["pointerup", "pointercancel"]) {
    handle.addEventListener(name, () => {
      if (from) finish();
      from = null;
    });
  }
  handle.addEventListener("keydown", (event) => {
    const outwards = { left: "ArrowLeft", right: "ArrowRight", top: "ArrowUp", bottom: "ArrowDown" }[side];
    const inwards = { left: "ArrowRight", right: "ArrowLeft", top: "ArrowDown", bottom: "ArrowUp" }[side];
    if (event.key !== outwards && event.key !== inwards) return;
    event.preventDefault();
    event.stopPropagation();
    move(side, state.margins[side] + (event.key === outwards ? 1 : -1));
    finish();
  });
  return handle;
});
$("handles").append(...handles);

/** How many cells that side may have in all. */
function most(side) {
  const { cell, limits } = state.model;
  const upright = side === "left" || side === "right";
  const others = { ...state.margins, [side]: 0 };
  const width = state.base.width + (others.left + others.right) * cell;
  const height = state.base.height + (others.top + others.bottom) * cell;
  const room = upright ? limits.pixels / height - width : limits.pixels / width - height;
  return Math.max(0, Math.min(Math.floor(room / cell), Math.floor((upright ? width : height) / cell)));
}

function move(side, cells) {
  const next = Math.max(0, Math.min(most(side), cells));
  if (next === state.margins[side]) return;
  set({ margins: { ...state.margins, [side]: next }, grown: null });
  moved();
  say(`${next} cells ${side}`);
}

let uploads = 0;

/** The grown picture and its mask go to the server, and what lies beyond is asked for. */
export async function finish() {
  const since = performance.now();
  const mine = ++uploads;
  const { margins, base } = state;
  if (!Object.values(margins).some(Boolean)) {
    set({ grown: null });
    changed(since);
    return;
  }
  const cell = state.model.cell;
  const width = base.width + (margins.left + margins.right) * cell;
  const height = base.height + (margins.top + margins.bottom) * cell;
  const [source, mask] = [0, 1].map(() => Object.assign(document.createElement("canvas"), { width, height }));
  const context = source.getContext("2d");
  context.fillStyle = "#808080";
  context.fillRect(0, 0, width, height);
  try {
    (await sheetOf(base.hash)).draw(context, 0, margins.left * cell, margins.top * cell);
    const hole = mask.getContext("2d");
    hole.fillStyle = "#fff";
    hole.fillRect(0, 0, width, height);
    hole.fillStyle = "#000";
    hole.fillRect(margins.left * cell, margins.top * cell, base.width, base.height);
    const [stored, hidden] = await Promise.all([source, mask].map(async (canvas) => upload(await png(canvas))));
    if (mine !== uploads) return;
    set({ grown: { hash: stored.hash, mask: hidden.hash, width, height } });
    changed(since);
  } catch (error) {
    stage.dispatchEvent(new CustomEvent("trouble", { detail: { message: error.message } }));
  }
}

/** What to set for an edge that never moved; what is on its way to the server is forgotten. */
export function ungrown() {
  uploads++;
  return { margins: { left: 0, right: 0, top: 0, bottom: 0 }, grown: null };
}

stage.addEventListener("fitted", ({ detail }) => (scale = detail.scale));
function update() {
  const growing = state.mode === "edit" && state.tool === "grow" && Boolean(state.base);
  $("handles").hidden = !growing;
  if (!growing || !state.model) return;
  const { width, height } = size();
  Object.keys(SIDES).forEach((side, i) => {
    handles[i].setAttribute("aria-valuemax", most(side));
    handles[i].setAttribute("aria-valuenow", state.margins[side]);
    handles[i].setAttribute("aria-valuetext", `${state.margins[side]} cells; ${width} by ${height} pixels`);
  });
}
watch(["mode", "tool", "base", "margins", "model"], update);
