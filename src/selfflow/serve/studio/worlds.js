// Worlds and robots: drive what the model has learned beside the simulator it learned from, or watch it do as it is told.

import { $, button, h, say, segmented } from "./dom.js";
import { rgb } from "./media.js";
import { state, watch } from "./state.js";
import { sentence } from "./status.js";
import { Wire } from "./wire.js";

const KEYS = ["ArrowUp", "ArrowLeft", "ArrowDown", "ArrowRight"];
const OWN = "What to do; empty: what the task asks for";
const root = $("worlds");
let wire = null;
let running = null; // {kind: "drive" | "policy", name}
let kind = "drive";
let world = null, env = null;
let seed = 0; // of the scene; the examples that the model names are of this one
const held = new Set();
const times = []; // of the last frames
const drifts = [];
let ui = null;

export function begin() {
  watch(["mode", "model"], () => {
    const here = state.mode === "worlds";
    root.hidden = !here;
    if (here && state.model && !ui) build();
    if (!here) leave();
  }, true);
  addEventListener("keydown", (event) => press(event, true));
  addEventListener("keyup", (event) => press(event, false));
  addEventListener("blur", release);
}

function build() {
  const { worlds, policies } = state.model;
  world = worlds[0]?.name ?? null;
  env = policies[0]?.env ?? null;
  const screen = (id, title, words) =>
    h("figure", { id: `${id}-figure` },
      h("div", { class: "screen" }, h("canvas", { id, width: 64, height: 64, role: "img", "aria-label": title }),
        id === "real" ? plan() : null),
      h("figcaption", {}, h("b", {}, title), h("span", { id: `${id}-words` }, words)));
  const instruction = h("input", { type: "text", id: "instruction", autocomplete: "off", spellcheck: "false",
    "aria-label": "Instruction", maxlength: "120" });
  const choices = [["drive", "Drive", worlds.length], ["policy", "Instruct", policies.length]].filter(([, , n]) => n);
  ui = {
    instruction,
    kinds: segmented("world-kind", "What to do", choices.map(([k, l]) => [k, l]), kind, (k) => choose(k)),
    places: h("div"),
    screens: h("div", { class: "screens" }, screen("real", "Simulator", "what happens"),
      screen("dream", "Dream", "what the model expects")),
    readout: h("p", { class: "readout", id: "readout", "aria-live": "off" }),
    drift: h("canvas", { class: "drift", id: "drift", role: "img", "aria-label": "Drift between the two" }),
    pad: h("div", { class: "pad", role: "group", "aria-label": "Arrow keys" }, KEYS.map(arrow)),
    say: h("form", { class: "row tell", onsubmit: (event) => {
      event.preventDefault();
      start();
    } }, instruction, h("button", { type: "submit", class: "main", id: "carry-out" }, "Carry out")),
    actions: h("div", { class: "row" }),
    hint: h("p", { class: "hint" }),
  };
  root.replaceChildren(
    h("div", { class: "row between head" }, ui.kinds, ui.places), ui.screens,
    h("div", { class: "row between" }, ui.readout, ui.actions), ui.say,
    h("div", { class: "controls" }, ui.pad, h("div", {}, ui.drift, ui.hint)));
  instruction.addEventListener("keydown", (event) => event.key !== "Escape" && event.stopPropagation());
  choose(choices[0]?.[0] ?? "drive");
}

function plan() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("aria-hidden", "true");
  svg.id = "plan";
  return svg;
}

function choose(next) {
  stop();
  kind = next;
  const { worlds, policies } = state.model;
  const list = kind === "drive" ? worlds.map((w) => [w.name, w.label.split(":")[0]]) : policies.map((p) => [p.env, title(p.env)]);
  const now = kind === "drive" ? world : env;
  ui.places.replaceChildren(list.length > 1 ? segmented("place", "Where", list, now, pick) : "");
  ui.say.hidden = kind !== "policy";
  ui.pad.hidden = kind !== "drive";
  $("dream-figure").hidden = kind !== "drive";
  root.dataset.kind = kind;
  example();
  idle();
}

const title = (name) => name[0].toUpperCase() + name.slice(1).replaceAll("-", " ");

function pick(name) {
  stop();
  if (kind === "drive") world = name;
  else env = name;
  ui.instruction.value = "";
  example();
  idle();
}

function example() {
  const policy = state.model.policies.find((p) => p.env === env);
  ui.instruction.placeholder = (seed === 0 && policy?.instruction_example) || OWN;
}

function idle() {
  const go = kind === "drive"
    ? [button("play", "Start", start, { words: true, id: "start-world", class: "main" })]
    : [];
  ui.actions.replaceChildren(...go, button("shuffle", "Another scene", another, { words: true, id: "another" }));
  ui.hint.textContent = kind === "drive"
    ? "Arrow keys drive both: the simulator, and the model that only dreams what comes next."
    : "The model looks, reads the instruction, and acts. The dots are where it means to go next.";
  if (!state.model.worlds.length && !state.model.policies.length) {
    ui.hint.textContent = "This model has learned no worlds. Train one with actions, such as micro-all.";
    ui.actions.replaceChildren();
  }
}

function another() {
  seed += 1;
  example();
  start();
}

function start() {
  stop();
  times.length = drifts.length = 0;
  running = { kind, name: kind === "drive" ? world : env };
  const example = ui.instruction.placeholder === OWN ? null : ui.instruction.placeholder;
  const words = ui.instruction.value.trim() || example;
  const message = kind === "drive"
    ? { type: "start", world, seed, instruction: null }
    : { type: "policy", env, instruction: words, seed };
  connect();
  const mine = wire;
  mine.addEventListener("state", ({ detail }) => detail.state === "open" && mine === wire && mine.send(message));
  ui.actions.replaceChildren(
    button("stop", "Stop", () => {
      stop();
      idle();
    }, { words: true, id: "stop-world" }),
    button("shuffle", "Another scene", another, { words: true, id: "another" }),
  );
  ui.readout.textContent = "Setting the table …";
  if (kind === "drive") say("Driving with the arrow keys");
  document.activeElement?.blur?.();
}

function connect() {
  wire?.close();
  wire = new Wire("/ws/world");
  const mine = wire;
  wire.addEventListener("parts", ({ detail }) => mine === wire && running && frame(detail));
  wire.addEventListener("message", ({ detail }) => {
    if (mine !== wire || !["error", "stopped"].includes(detail.type)) return;
    stop();
    idle();
    const failed = detail.type === "error";
    ui.readout.textContent = failed ? sentence(detail.message) : "It stopped, as nobody drove for a while.";
    ui.readout.classList.toggle("error", failed);
  });
  wire.addEventListener("state", ({ detail }) => {
    if (mine === wire && detail.state === "waiting" && running) ui.readout.textContent = "Connection lost; trying again.";
  });
  wire.connect();
}

function stop() {
  release();
  if (running) wire?.send({ type: "stop" });
  hangUp();
  ui?.readout.classList.remove("error");
}

function hangUp() {
  running = null;
  wire?.close();
  wire = null;
}

function leave() {
  if (!ui || !running) return;
  stop();
  idle();
}

function frame({ header, parts }) {
  for (const part of parts) {
    const canvas = $(part.name);
    if (!canvas) continue;
    const image = rgb(part.data, part.width);
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").putImageData(image, 0, 0);
  }
  drawPlan(header.plan);
  times.push(performance.now());
  if (times.length > 30) times.shift();
  const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times.at(-1) - times[0]) : 0;
  const facts = [`${rate.toFixed(0)} frames a second`];
  if (kind === "drive") {
    facts.push(`dream ${Math.round(header.dream_ms)} ms`, `drift ${header.drift.toFixed(1)}`);
    drifts.push(header.drift);
    if (drifts.length > 240) drifts.shift();
    drawDrift();
  } else facts.push(`step ${header.step}`);
  ui.readout.textContent = facts.join(" · ");
  $("real-words").textContent = kind === "policy" ? header.instruction : "what happens";
  if (header.done) done(header);
}

function done({ success, step }) {
  hangUp();
  ui.readout.textContent = kind === "drive"
    ? `The end, after ${step} steps.` : success ? `Done in ${step} steps.` : `Not done after ${step} steps.`;
  ui.readout.classList.toggle("good", kind === "policy" && success);
  say(ui.readout.textContent);
  idle();
}

/** Where the model means to go: dots that fade, as large as the gripper is open. */
function drawPlan(points) {
  const svg = $("plan");
  svg.replaceChildren();
  if (!points?.length) return;
  const make = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    svg.append(element);
  };
  make("polyline", { points: points.map(([x, y]) => `${x},${y}`).join(" "), class: "path" });
  points.forEach(([x, y, opening], i) => {
    make("circle", { cx: x, cy: y, r: 0.008 + 0.012 * opening, opacity: 1 - (0.75 * i) / points.length, class: "dot" });
  });
}

function drawDrift() {
  const canvas = ui.drift, dots = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * dots;
  canvas.height = canvas.clientHeight * dots;
  const context = canvas.getContext("2d");
  const most = Math.max(20, ...drifts);
  context.strokeStyle = getComputedStyle(canvas).getPropertyValue("--accent");
  context.lineWidth = 1.5 * dots;
  context.beginPath();
  drifts.forEach((d, i) =>
    context.lineTo((i / 239) * canvas.width, canvas.height - dots - (d / most) * (canvas.height - 2 * dots)));
  context.stroke();
  canvas.setAttribute("aria-label", `Drift between the two, now ${drifts.at(-1).toFixed(1)} of 255`);
}

function arrow(key) {
  const looks = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "earlier", ArrowRight: "later" };
  const pad = button(looks[key], key.replace("Arrow", "").toLowerCase(), null, { class: `quiet icon ${key}` });
  const down = (event) => {
    event.preventDefault();
    hold(key, true);
  };
  pad.addEventListener("pointerdown", down);
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) pad.addEventListener(name, () => hold(key, false));
  pad.addEventListener("keydown", (event) => (event.key === " " || event.key === "Enter") && down(event));
  pad.addEventListener("keyup", () => hold(key, false));
  pad.dataset.key = key;
  return pad;
}

function press(event, down) {
  if (state.mode !== "worlds" || !running || running.kind !== "drive" || !KEYS.includes(event.key)) return;
  if (event.target.matches?.("input, textarea")) return;
  event.preventDefault();
  hold(event.key, down);
}

function hold(key, down) {
  if (down === held.has(key)) return;
  if (down) held.add(key);
  else held.delete(key);
  tell();
}

function release() {
  if (!held.size) return;
  held.clear();
  tell();
}

function tell() {
  if (running) wire?.send({ type: "keys", keys: [...held] });
  ui?.pad.querySelectorAll("[data-key]").forEach((b) => b.classList.toggle("down", held.has(b.dataset.key)));
}

export const stopWorld = () => {
  if (!running) return false;
  stop();
  idle();
  return true;
};
