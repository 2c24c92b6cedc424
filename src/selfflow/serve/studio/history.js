// History: a strip of everything that was kept, as a tree. Undo goes to where a picture came from, redo back again.

import { assetAddress } from "./api.js";
import { $, h, icon, say } from "./dom.js";
import { DRAGGED } from "./references.js";
import { state, watch } from "./state.js";

const strip = $("strip");
const forward = []; // ids that were undone
let actions = { open: () => {}, use: () => {}, forget: () => {}, older: () => {} };
let focused = null;

export const find = (id) => state.entries.find((entry) => entry.id === id) ?? null;
export const pictureOf = (entry) => entry?.parts.find((part) => part.name === "picture") ?? null;
const seenOf = (entry) => entry?.parts.find((part) => part.name !== "sound") ?? null;
const children = (id) => state.entries.filter((entry) => entry.parent === id);

/** The entry that undo leads to. */
export const previous = () => find(state.entry?.parent);

/** The entry that redo leads to: where we were, else the newest that came of this one. */
export function next() {
  const undone = find(forward.at(-1));
  if (undone && undone.parent === (state.entry?.id ?? null)) return undone;
  return state.entry ? (children(state.entry.id)[0] ?? null) : null;
}

export function undone(entry) {
  forward.push(entry.id);
}

export const redone = () => forward.pop();
export const forgetForward = () => (forward.length = 0);

export function onHistory(given) {
  actions = given;
}

/** Ids of the entry we stand at and of everything it came from. */
function line() {
  const ids = new Set();
  for (let at = state.entry; at && !ids.has(at.id); at = find(at.parent)) ids.add(at.id);
  return ids;
}

const KINDS = { clip: "animate", sound: "sound" };
const age = (created) => {
  const minutes = Math.round((Date.now() / 1000 - created) / 60);
  if (minutes < 1) return "just now";
  return minutes < 60 ? `${minutes} min ago` : new Date(created * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
};

function thumbnail(entry, on) {
  const part = seenOf(entry) ?? entry.parts[0];
  const forks = children(entry.id).length;
  const here = entry.id === state.entry?.id;
  const words = entry.settings.prompt || entry.task;
  const item = h(
    "li",
    { class: ["entry", on.has(entry.id) && "on", here && "here", part.name].filter(Boolean).join(" ") },
    h(
      "button",
      {
        type: "button", draggable: part.name === "picture" ? "true" : null, "data-id": entry.id,
        "aria-current": here ? "true" : null, title: `${words} · ${age(entry.created)}`,
        "aria-label": `${entry.task}: ${words}${forks > 1 ? `, ${forks} branches` : ""}`,
        tabindex: entry.id === (focused ?? state.entry?.id ?? state.entries[0]?.id) ? "0" : "-1",
      },
      part.name === "sound" ? icon("sound") : h("img", { src: assetAddress(part.hash), alt: "", draggable: "false", loading: "lazy" }),
      KINDS[part.name] && part.name === "clip" ? h("span", { class: "kind" }, icon("play")) : null,
      forks > 1 ? h("span", { class: "forks", "aria-hidden": "true" }, String(forks)) : null,
    ),
  );
  const target = item.firstChild;
  target.addEventListener("click", () => (state.picking ? actions.use(entry) : actions.open(entry)));
  target.addEventListener("focus", () => (focused = entry.id));
  target.addEventListener("dragstart", (event) => {
    event.dataTransfer.setData(DRAGGED, JSON.stringify({ hash: part.hash, id: entry.id }));
    event.dataTransfer.effectAllowed = "copy";
  });
  return item;
}

strip.parentElement.addEventListener("scroll", ({ target }) => {
  if (target.scrollLeft + target.clientWidth > target.scrollWidth - 200) actions.older();
});

strip.addEventListener("keydown", (event) => {
  const buttons = [...strip.querySelectorAll("button[data-id]")];
  const at = buttons.indexOf(document.activeElement);
  if (at < 0) return;
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (to !== undefined) {
    const target = buttons[Math.max(0, Math.min(to, buttons.length - 1))];
    buttons.forEach((b) => (b.tabIndex = b === target ? 0 : -1));
    target.focus();
  } else if (event.key === "Delete" || event.key === "Backspace") actions.forget(find(buttons[at].dataset.id));
  else if (event.key === "r" && !event.ctrlKey && !event.metaKey) actions.use(find(buttons[at].dataset.id));
  else return;
  event.preventDefault();
  event.stopPropagation();
});

function render() {
  const held = strip.contains(document.activeElement) ? document.activeElement.dataset.id : null;
  const at = held ? [...strip.querySelectorAll("[data-id]")].findIndex(({ dataset }) => dataset.id === held) : 0;
  if (focused && !find(focused)) focused = null;
  const on = line();
  strip.replaceChildren(...state.entries.map((entry) => thumbnail(entry, on)));
  strip.parentElement.classList.toggle("none", !state.entries.length);
  strip.parentElement.classList.toggle("picking", state.picking);
  if (!held) return;
  const now = [...strip.querySelectorAll("[data-id]")]; // what was removed hands on to its neighbour
  (now.find(({ dataset }) => dataset.id === held) ?? now[Math.min(at, now.length - 1)])?.focus();
}

watch(["entries", "entry", "picking"], render, true);
watch(["picking"], () => state.picking && say("Choose pictures in history to use as references; Escape ends"));
