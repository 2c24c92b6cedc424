// The reference slots: pictures that are looked at while a new one is made. Drop, paste, choose, reorder, switch off.

import { assetAddress } from "./api.js";
import { $, button, h, icon, say, slider } from "./dom.js";
import { set, state, watch } from "./state.js";

export const DRAGGED = "application/x-selfflow-picture";

let chosen = 0;
let changed = () => {};
export const onReferences = (react) => (changed = react);

/** In Edit the picture to edit is the first that the model looks at. */
const first = () => (state.mode === "edit" ? 1 : 0);

export const most = () => (state.model?.limits.references ?? 10) - first();

/** By which number the model, and so the words, know the slot at that place; null while it is off. */
const number = (at) =>
  state.references[at].on ? first() + state.references.slice(0, at + 1).filter(({ on }) => on).length : null;

/** Adds a stored picture at a place, the end by default; whether there was room. */
export function add(hash, at = state.references.length) {
  if (state.references.length >= most()) {
    say(`All ${most()} slots are taken`);
    return false;
  }
  const references = [...state.references];
  references.splice(at, 0, { hash, on: true });
  update(references, at);
  say(`Added as reference ${at + 1}`);
  return true;
}

function update(references, selected = chosen) {
  chosen = Math.max(0, Math.min(selected, references.length - 1));
  set({ references });
  changed(performance.now());
}

function move(from, to) {
  if (to < 0 || to >= state.references.length || from === to) return;
  const references = [...state.references];
  references.splice(to, 0, ...references.splice(from, 1));
  update(references, to);
  focusSlot();
  say(`Moved to place ${to + 1}`);
}

function remove(at) {
  update(state.references.filter((_, i) => i !== at), at);
  focusSlot();
  say("Removed");
}

function flip(at) {
  update(state.references.map((slot, i) => (i === at ? { ...slot, on: !slot.on } : slot)), at);
  focusSlot();
}

const focusSlot = () => $("slots")?.querySelector(`[data-at="${chosen}"]`)?.focus();

/** The section of the settings panel. `choose` opens the file picker, `take` stores what was dropped at a slot. */
export function section({ choose, take, pick }) {
  const slots = h("ol", { id: "slots", role: "listbox", "aria-label": "References", "aria-orientation": "horizontal" });
  const vacant = h("div", { class: "slot free" });
  const actions = h("div", { class: "row slot-actions" });
  const strength = slider("Follow them", {
    id: "reference-guidance", min: 1, max: 4, step: 0.1, value: state.referenceGuidance,
    format: (v) => v.toFixed(1),
    oninput: (v) => {
      set({ referenceGuidance: v });
      changed(performance.now());
    },
  });
  const root = h(
    "section",
    { class: "group references", "aria-labelledby": "references-title" },
    h("div", { class: "row between" },
      h("h2", { id: "references-title" }, "References"),
      h("div", { class: "row" },
        button("file", "Choose pictures", choose),
        button("history", "Pick from history", pick, { id: "pick", "aria-pressed": "false" }),
      ),
    ),
    h("div", { class: "slots" }, slots, vacant),
    actions,
    strength,
  );

  function render() {
    const held = slots.contains(document.activeElement);
    slots.replaceChildren(...state.references.map(slot));
    slots.hidden = !state.references.length;
    free();
    root.classList.toggle("none", !state.references.length);
    actions.hidden = !state.references.length;
    strength.hidden = !state.references.some(({ on }) => on);
    strength.input.setValue(state.referenceGuidance);
    $("pick")?.setAttribute("aria-pressed", String(state.picking));
    const now = state.references[chosen];
    if (now) {
      actions.replaceChildren(
        button("earlier", "Move earlier", () => move(chosen, chosen - 1), { disabled: chosen === 0 }),
        button("later", "Move later", () => move(chosen, chosen + 1),
          { disabled: chosen === state.references.length - 1 }),
        button(null, now.on ? "Switch off" : "Switch on", () => flip(chosen), { words: true }),
        button("remove", "Remove reference", () => remove(chosen)),
      );
    }
    if (held) focusSlot();
  }

  function slot({ hash, on }, i) {
    const item = h(
      "li",
      {
        role: "option", "data-at": String(i), class: on ? "slot" : "slot off", draggable: "true",
        tabindex: i === chosen ? "0" : "-1", "aria-selected": String(i === chosen),
        "aria-label": `Reference ${i + 1} of ${state.references.length}, ${on ? `on, picture ${number(i)}` : "off"}`,
        "aria-keyshortcuts": "Alt+ArrowLeft Alt+ArrowRight Delete Space",
      },
      h("img", { src: assetAddress(hash), alt: "", draggable: "false" }),
      on ? h("span", { class: "number", "aria-hidden": "true" }, String(number(i))) : null,
    );
    item.addEventListener("click", () => {
      chosen = i;
      render();
      focusSlot();
    });
    item.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: state.references.length - 1 }[event.key];
      if (to !== undefined && event.altKey) move(i, to);
      else if (to !== undefined) {
        chosen = Math.max(0, Math.min(to, state.references.length - 1));
        render();
        focusSlot();
      } else if (event.key === "Delete" || event.key === "Backspace") remove(i);
      else if (event.key === " ") flip(i);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    item.addEventListener("dragstart", (event) => {
      event.dataTransfer.setData("application/x-selfflow-slot", String(i));
      event.dataTransfer.setData(DRAGGED, JSON.stringify({ hash }));
      event.dataTransfer.effectAllowed = "copyMove";
    });
    landing(item, () => i);
    return item;
  }

  function free() {
    const full = state.references.length >= most();
    vacant.hidden = full;
    vacant.replaceChildren(h("button", { type: "button", "aria-label": "Add a reference", title: "Drop, paste or choose",
      onclick: choose }, icon("add")));
  }
  landing(vacant, () => state.references.length);

  function landing(element, at) {
    element.addEventListener("dragover", (event) => {
      event.preventDefault();
      element.classList.add("over");
    });
    element.addEventListener("dragleave", () => element.classList.remove("over"));
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      element.classList.remove("over");
      const from = event.dataTransfer.getData("application/x-selfflow-slot");
      if (from !== "") move(Number(from), Math.min(at(), state.references.length - 1));
      else take(event.dataTransfer, (hash) => add(hash, at()));
    });
  }

  watch(["references", "referenceGuidance", "model", "mode", "picking"], render, true);
  return root;
}
