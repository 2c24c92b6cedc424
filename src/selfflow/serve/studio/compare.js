// Before and after: a curtain over the picture, drawn aside with the pointer or the arrow keys.

import { $, h } from "./dom.js";
import { sheetOf } from "./media.js";
import { before, stage, view } from "./stage.js";
import { set, state, watch } from "./state.js";

const curtain = $("curtain");
const input = h("input", { type: "range", min: 0, max: 100, step: 1, value: 50, "aria-label": "Before and after" });
const line = h("div", { class: "line" });
curtain.append(line, input, h("span", { class: "tag left" }, "Before"), h("span", { class: "tag right" }, "After"));
input.addEventListener("input", draw);
input.addEventListener("keydown", (event) => /^(Arrow|Home|End|Page)/.test(event.key) && event.stopPropagation());

/** Hash of what the picture on the stage was made from, or null. */
export function source() {
  if (state.mode === "edit") return state.base?.hash ?? null;
  const parent = state.entries.find((entry) => entry.id === state.entry?.parent);
  return parent?.parts.find((part) => part.name === "picture")?.hash ?? null;
}

function draw() {
  const share = Number(input.value);
  input.setAttribute("aria-valuetext", `${share} percent before`);
  line.style.left = `${share}%`;
  before.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
}

async function update() {
  const hash = state.comparing ? source() : null;
  const possible = Boolean(hash && view.sheet && view.sheet.frames === 1);
  curtain.hidden = before.hidden = !possible;
  if (!possible) return;
  const sheet = await sheetOf(hash).catch(() => null); // it may be gone from the server
  curtain.hidden = before.hidden = !sheet;
  if (!sheet) return;
  const { width, height } = view.sheet;
  before.width = width;
  before.height = height;
  const context = before.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, width, height);
  // What has grown shows its source in the middle of its place; anything else covers it.
  if (sheet.width === width && sheet.height === height) sheet.draw(context);
  else context.drawImage(sheet.canvas, 0, 0, sheet.width, sheet.height, ...grownPlace(sheet, width, height));
  draw();
}

function grownPlace(sheet, width, height) {
  const { left, top } = state.margins;
  const cell = state.model.cell;
  const { left: l, right: r, top: t, bottom: b } = state.margins;
  const grown = sheet.width + (l + r) * cell === width && sheet.height + (t + b) * cell === height;
  return grown ? [left * cell, top * cell, sheet.width, sheet.height] : [0, 0, width, height];
}

export function compare(on = !state.comparing) {
  if (on && !source()) return;
  set({ comparing: on });
  if (on) input.focus({ preventScroll: true });
}

stage.addEventListener("shown", update);
watch(["comparing", "base", "entry", "mode"], update);
