// The picture on the stage: drawn in its own pixels, shown as large as the room allows in whole steps.

import { $ } from "./dom.js";
import { state, watch } from "./state.js";

const picture = $("picture"), overlay = $("overlay"), before = $("before"), frame = $("frame");

/** What is shown: {sheet, sound, label, final}. Never null sheets and sounds both, or there is nothing. */
export let view = { sheet: null, sound: null };
export const stage = new EventTarget();

let at = 0; // frame of a clip

/** Shows that. A part that is not given stays only where `merge` says so. */
export function show(next, { label = "", final = true, merge = false } = {}) {
  view = merge
    ? { sheet: next.sheet ?? view.sheet, sound: next.sound ?? view.sound }
    : { sheet: next.sheet, sound: next.sound };
  at = Math.min(at, (view.sheet?.frames ?? 1) - 1);
  frame.dataset.state = view.sheet ? "shown" : view.sound ? "heard" : "empty";
  frame.dataset.stage = final ? "final" : "preview";
  redraw();
  if (label) picture.setAttribute("aria-label", label);
  stage.dispatchEvent(new CustomEvent("shown", { detail: { ...view, final } }));
}

/** Nothing is shown. */
export function clear() {
  at = 0;
  view = { sheet: null, sound: null };
  frame.dataset.state = state.model ? "empty" : "loading";
  picture.setAttribute("aria-label", "No picture yet");
  redraw();
  stage.dispatchEvent(new CustomEvent("shown", { detail: { ...view, final: true } }));
}

/** The frame of a clip to show. */
export function seek(index) {
  at = Math.max(0, Math.min(index, (view.sheet?.frames ?? 1) - 1));
  redraw();
}

export const frameAt = () => at;

/** The size in pixels of what is on the stage, growth included. */
export function size() {
  const { left, right, top, bottom } = growth();
  const [width, height] = view.sheet ? [view.sheet.width, view.sheet.height] : [state.width, state.height];
  return { width: width + left + right, height: height + top + bottom };
}

/** Pixels that the canvas is to grow by, while the picture shown is the one that grows. */
function growth() {
  const cell = state.model?.cell ?? 8;
  const growing = state.mode === "edit" && state.tool === "grow" && view.sheet && view.sheet.grows;
  const { left, right, top, bottom } = growing ? state.margins : { left: 0, right: 0, top: 0, bottom: 0 };
  return { left: left * cell, right: right * cell, top: top * cell, bottom: bottom * cell };
}

export function redraw() {
  const { width, height } = size();
  const { left, top } = growth();
  for (const canvas of [picture, overlay]) {
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
  }
  const context = picture.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, width, height);
  view.sheet?.draw(context, at, left, top);
  fit();
  stage.dispatchEvent(new Event("drawn"));
}

/** The largest size in the room: whole device pixels for each pixel, so that every one is as large as its neighbour. */
export function fit() {
  const room = $("mount");
  const { width, height } = size();
  const [wide, high] = [room.clientWidth, room.clientHeight];
  if (!wide || !high) return;
  const dots = devicePixelRatio || 1;
  const most = Math.min(wide / width, high / height);
  const scale = most * dots >= 2 ? Math.floor(most * dots) / dots : most;
  frame.style.width = `${width * scale}px`;
  frame.style.height = `${height * scale}px`;
  frame.style.setProperty("--columns", width / (state.model?.cell ?? 8)); // an empty stage shows the model's cells
  frame.style.setProperty("--rows", height / (state.model?.cell ?? 8));
  stage.dispatchEvent(new CustomEvent("fitted", { detail: { scale } }));
}

/** Pixels of the picture from a place on the page. */
export function locate({ clientX, clientY }) {
  const box = picture.getBoundingClientRect();
  return {
    x: ((clientX - box.left) / box.width) * picture.width,
    y: ((clientY - box.top) / box.height) * picture.height,
  };
}

/** The frame that is shown, as a canvas of its own. */
export function still() {
  const canvas = document.createElement("canvas");
  canvas.width = view.sheet.width;
  canvas.height = view.sheet.height;
  view.sheet.draw(canvas.getContext("2d"), at);
  return canvas;
}

new ResizeObserver(fit).observe($("mount"));
watch(["width", "height", "mode", "tool", "margins", "model"], redraw);
watch(["smooth"], () => frame.classList.toggle("smooth", state.smooth), true);
export { before, frame, overlay, picture };
