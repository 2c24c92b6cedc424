// Clips in place and sounds with their wave: play, scrub, step. One clock serves both.

import { $, button, h, icon } from "./dom.js";
import { frameAt, seek, stage, view } from "./stage.js";
import { watch } from "./state.js";

const player = $("player");
const play = button("play", "Play", () => toggle(), { key: "Space" });
const scrub = h("input", { type: "range", class: "scrub", min: 0, max: 1, step: 1, value: 0, "aria-label": "Time" });
const wave = h("canvas", { class: "wave", "aria-hidden": "true" });
const figure = h("output", { class: "time" });
player.append(play, h("div", { class: "track" }, wave, scrub), figure);

const calm = matchMedia("(prefers-reduced-motion: reduce)");
let audio = null; // AudioContext, made on the first play: browsers want a click before it
let voice = null;
let playing = false;
let began = 0; // seconds, of the clock, at which second 0 was
let frame = 0;

const STEPS = 200; // of the scrub bar for a sound without a clip
const moving = () => Boolean(view.sheet && view.sheet.frames > 1);
const seconds = () => (moving() ? view.sheet.frames / (view.sheet.fps || 8) : (view.sound?.seconds ?? 0));
const clock = () => performance.now() / 1000;

export function toggle(on = !playing) {
  if (on) start(position() >= seconds() - 0.05 ? 0 : position());
  else stop();
}

/** One frame on or back; a sound moves by a twentieth. */
export function step(count) {
  stop();
  const to = Number(scrub.value) + count * (moving() ? 1 : STEPS / 20);
  scrub.value = moving() ? (to + view.sheet.frames) % view.sheet.frames : to;
  moved();
}

let at = 0; // seconds, while nothing plays
const position = () => (playing ? clock() - began : at);

function start(from) {
  if (!seconds()) return;
  silence();
  playing = true;
  began = clock() - from;
  if (view.sound) sound(from);
  looks();
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(tick);
}

export function stop() {
  if (playing) at = Math.min(position(), seconds());
  playing = false;
  silence();
  looks();
}

function sound(from) {
  audio ??= new AudioContext();
  audio.resume();
  const { samples, rate } = view.sound;
  const buffer = audio.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  voice = audio.createBufferSource();
  voice.buffer = buffer;
  voice.connect(audio.destination);
  voice.start(0, from);
}

function silence() {
  voice?.stop();
  voice = null;
}

function tick() {
  if (!playing) return;
  let now = position();
  if (now >= seconds()) {
    if (!moving()) {
      at = 0;
      playing = false;
      voice = null;
      looks();
      place(0);
      return;
    }
    start(0); // clips go round
    return;
  }
  place(now);
  frame = requestAnimationFrame(tick);
}

function place(now) {
  if (moving()) {
    const index = Math.min(view.sheet.frames - 1, Math.floor((now / seconds()) * view.sheet.frames));
    if (index !== frameAt()) seek(index);
    scrub.value = index;
  } else scrub.value = Math.round((now / seconds()) * STEPS);
  words(now);
  if (view.sound) draw(now);
}

function words(now) {
  figure.textContent = `${now.toFixed(1)} / ${seconds().toFixed(1)} s`;
  scrub.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${seconds().toFixed(1)} seconds`);
}

function moved() {
  at = moving() ? (Number(scrub.value) / view.sheet.frames) * seconds() : (Number(scrub.value) / STEPS) * seconds();
  if (playing) start(at);
  else place(at);
}

scrub.addEventListener("input", moved);
scrub.addEventListener("keydown", (event) => event.key !== " " && event.key !== "Escape" && event.stopPropagation());

function looks() {
  play.replaceChildren(icon(playing ? "pause" : "play"));
  play.setAttribute("aria-label", playing ? "Pause" : "Play");
}

/** The wave: the loudest sample of every column, what was heard in the accent. */
function draw(now = position()) {
  const dots = devicePixelRatio || 1;
  const width = Math.round(wave.clientWidth * dots), height = Math.round(wave.clientHeight * dots);
  if (!width || !height) return;
  if (wave.width !== width) wave.width = width;
  if (wave.height !== height) wave.height = height;
  const context = wave.getContext("2d");
  const style = getComputedStyle(wave);
  const { samples } = view.sound;
  const bar = Math.round((height > 60 * dots ? 3 : 2) * dots), gap = Math.round((height > 60 * dots ? 2 : 1) * dots);
  const columns = Math.floor(width / (bar + gap));
  const heard = (now / seconds()) * columns;
  context.clearRect(0, 0, width, height);
  for (let i = 0; i < columns; i++) {
    const from = Math.floor((i * samples.length) / columns), to = Math.floor(((i + 1) * samples.length) / columns);
    let peak = 0;
    for (let s = from; s < to; s++) peak = Math.max(peak, Math.abs(samples[s]));
    const tall = Math.max(dots, Math.sqrt(peak) * height * 0.94);
    context.fillStyle = i < heard ? style.getPropertyValue("--accent") : style.getPropertyValue("--faint");
    context.fillRect(i * (bar + gap), (height - tall) / 2, bar, tall);
  }
}

function arrived({ detail }) {
  const any = moving() || view.sound;
  player.hidden = !any;
  player.classList.toggle("heard", Boolean(view.sound));
  if (!any) {
    stop();
    return;
  }
  scrub.max = moving() ? view.sheet.frames - 1 : STEPS;
  const on = playing;
  if (on && view.sound) start(0);
  else if (!on) at = Math.min(at, seconds());
  if (moving() && detail.final && !on && !calm.matches) start(0);
  else if (!playing) place(at);
  if (view.sound) requestAnimationFrame(() => view.sound && draw());
}

stage.addEventListener("shown", arrived);
watch(["theme"], () => view.sound && draw());
new ResizeObserver(() => view.sound && draw()).observe(wave);
looks();
