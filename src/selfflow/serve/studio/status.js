// What goes on: the connection, latency, progress, and what went wrong.

import { $, h } from "./dom.js";
import { set } from "./state.js";

let due = 0, timer = 0;

/** Follows a wire: shows the bar while it is down and counts to the next try. */
export function follow(wire) {
  wire.addEventListener("state", ({ detail }) => {
    set({ connection: detail.state });
    clearInterval(timer);
    const bar = $("connection");
    if (detail.state === "open") {
      bar.hidden = true;
      return;
    }
    if (detail.state === "connecting") return;
    due = performance.now() + detail.wait;
    const words = h("span");
    const count = () => {
      const left = Math.max(0, Math.ceil((due - performance.now()) / 1000));
      words.textContent = `Connection lost. Your work is kept; trying again${left > 1 ? ` in ${left} s` : ""}.`;
    };
    count();
    timer = setInterval(count, 500);
    if (!bar.hidden) bar.firstChild.replaceWith(words);
    else bar.replaceChildren(words, h("button", { type: "button", onclick: () => wire.retry() }, "Try now"));
    bar.hidden = false;
  });
}

const READ = 6000; // milliseconds that what went wrong with a file stays, whatever is drawn meanwhile
let stays = 0;

/** Takes the line away, once it had its time, or at once. */
export function quiet(now = false) {
  if (now || performance.now() > stays) $("notice").replaceChildren();
}

/** A line under the prompt; an action may stand behind it. What concerns no job stays a while by itself. */
export function notice(text, { kind = "", label = "", act = null, job = false } = {}) {
  stays = job ? 0 : performance.now() + READ;
  const place = $("notice");
  place.className = `notice ${kind}`;
  place.replaceChildren(text);
  if (act) place.append(" ", h("button", { type: "button", onclick: act }, label));
}

/** What a server says, as a sentence. */
export const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1) + (/[.!?…]$/.test(words) ? "" : ".");

const WORDS = {
  rate_limited: "A little fast for this server. It draws the latest as soon as it may.",
  busy: "The server is busy. Yours comes as soon as there is room.",
};

/** What to tell the maker of an error, in words that say what happens next. */
export function trouble({ code, message }, again) {
  if (WORDS[code]) notice(WORDS[code], { kind: "wait", job: true });
  else notice(sentence(message), { kind: "error", label: "Try again", act: again, job: true });
}

export function progress({ busy, step = 0, steps = 1, stage = "preview" }) {
  const bar = $("progress");
  bar.hidden = !busy;
  bar.dataset.stage = stage;
  bar.style.setProperty("--share", String(stage === "preview" ? 0.15 : 0.15 + (0.85 * step) / steps));
  $("frame").setAttribute("aria-busy", String(busy));
}

const recent = [];

/** From keystroke to picture on screen, in milliseconds: the latest, and the median of the last twenty. */
export function latency({ ms, server, task }) {
  recent.push(ms);
  if (recent.length > 20) recent.shift();
  const middle = [...recent].sort((a, b) => a - b)[Math.floor((recent.length - 1) / 2)];
  const kind = /sound$|dub/.test(task) && !task.includes("+") ? "sound" : /clip|animate|continue/.test(task) ? "clip" : "picture";
  const place = $("latency");
  place.replaceChildren(h("b", {}, time(ms)), h("span", {}, ` to ${kind}`));
  place.title =
    `From keystroke to finished ${kind}: ${time(ms)}, of which the model took ${time(server)}. ` +
    `Median of the last ${recent.length}: ${time(middle)}.`;
  place.classList.remove("fresh");
  requestAnimationFrame(() => place.classList.add("fresh"));
}

const time = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
