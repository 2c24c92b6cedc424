// The settings panel: what a mode needs, and no more.

import { brush, clearMask, setBrush } from "./mask.js";
import { $, button, h, segmented, slider, toggle } from "./dom.js";
import { finish, ungrown } from "./grow.js";
import { wanted } from "./job.js";
import { section as references } from "./references.js";
import { stage } from "./stage.js";
import { set, state, watch } from "./state.js";

const can = (task) => state.model?.tasks.includes(task);

/** Builds the panel. `actions`: changed(since), shuffle(), choose(), take(data, use), pick(), open(). */
export function build(actions) {
  const changed = () => actions.changed(performance.now());
  const parts = {
    tool: tool(actions),
    mask: mask(),
    grow: grow(changed),
    first: first(actions),
    sound: withSound(changed),
    length: length(changed),
    references: references(actions),
    shape: shape(changed),
    seed: seed(actions, changed),
    sampling: sampling(changed),
    saving: saving(),
  };
  $("panel").replaceChildren(...Object.values(parts));
  // On a phone what the mode itself is about stays in sight while the rest is folded away.
  for (const part of [parts.tool, parts.mask, parts.grow, parts.first, parts.sound]) part.classList.add("hands");
  const editing = (tool) => state.mode === "edit" && Boolean(state.base) && state.tool === tool;
  const update = () => {
    const { mode } = state;
    parts.tool.hidden = mode !== "edit";
    parts.mask.hidden = !editing("mask");
    parts.grow.hidden = !editing("grow");
    parts.first.hidden = mode !== "motion" || !state.first;
    parts.sound.hidden = mode !== "motion" || !(can("clip+sound") || can("animate+sound"));
    parts.length.hidden = mode !== "motion" && mode !== "sound";
    parts.references.hidden = !(can("edit") && (mode === "draw" || (mode === "edit" && state.tool === "words")));
    parts.shape.hidden = mode !== "draw";
    parts.seed.hidden = parts.sampling.hidden = mode === "worlds";
    parts.saving.hidden = mode === "worlds";
  };
  watch(["mode", "tool", "model", "base", "first"], update, true);
  unfold();
}

function group(title, ...children) {
  return h("section", { class: "group" }, title ? h("h2", {}, title) : null, ...children);
}

function tool(actions) {
  const choice = h("div");
  const another = h("div", { class: "row" }, button("file", "Edit another picture", actions.open, { words: true }));
  watch(["model"], () => {
    const options = [["words", "Words", "edit"], ["mask", "Mask", "inpaint"], ["grow", "Grow", "outpaint"]];
    const offered = options.filter(([, , task]) => can(task));
    choice.replaceChildren(segmented("tool", "How to edit", offered, state.tool, actions.tool));
  }, true);
  watch(["base"], () => (another.hidden = !state.base), true);
  watch(["tool"], () => choice.querySelectorAll("input").forEach((r) => (r.checked = r.value === state.tool)));
  return group(null, choice, another);
}

function mask() {
  const size = slider("Brush", {
    id: "brush", min: 2, max: 32, step: 1, value: brush.size, format: (v) => `${v} px`,
    oninput: (v) => setBrush({ size: v }),
  });
  const mode = segmented("brush-mode", "Brush", [["paint", "Paint"], ["erase", "Erase"]], "paint", (v) =>
    setBrush({ erasing: v === "erase" }));
  stage.addEventListener("brush", () => {
    size.input.setValue(brush.size);
    mode.querySelectorAll("input").forEach((r) => (r.checked = (r.value === "erase") === brush.erasing));
  });
  return group(null, mode, size, h("div", { class: "row" }, button("remove", "Clear mask", clearMask, { words: true })));
}

function grow(changed) {
  const words = h("p", { class: "hint" });
  watch(["margins", "base", "model"], () => {
    if (!state.base || !state.model) return;
    const { left, right, top, bottom } = state.margins;
    const { cell } = state.model;
    const any = left + right + top + bottom;
    words.textContent = any
      ? `${state.base.width + (left + right) * cell} × ${state.base.height + (top + bottom) * cell} pixels`
      : "Drag an edge outwards. What is new is painted to fit.";
  }, true);
  return group(null, words,
    h("div", { class: "row" }, button("undo", "Back to the picture", () => {
      set(ungrown());
      finish();
      changed();
    }, { words: true })));
}

function first(actions) {
  return group("Begins with",
    h("div", { class: "row" }, h("canvas", { id: "first", width: 64, height: 64, class: "chip", role: "img",
      "aria-label": "The picture it begins with" }),
      button("remove", "Begin from nothing", actions.unfirst, { words: true })));
}

function withSound(changed) {
  const row = toggle("With sound", state.withSound, (on) => {
    set({ withSound: on });
    changed();
  }, "with-sound");
  watch(["withSound"], () => (row.input.checked = state.withSound));
  return group(null, row);
}

/** Half, once and twice the length that the model was shown. */
function length(changed) {
  const root = group("Length");
  watch(["model", "frames"], () => {
    if (!state.model) return;
    const { frames, fps, limits } = state.model;
    const held = root.contains(document.activeElement);
    const offered = [frames / 2, frames, frames * 2].filter((count) => Number.isInteger(count) && count <= limits.frames);
    root.replaceChildren(
      h("h2", {}, "Length"),
      segmented("length", "Length", offered.map((count) => [String(count), `${(count / fps).toFixed(1)} s`]),
        String(state.frames ?? frames), (count) => {
          set({ frames: Number(count) === frames ? null : Number(count) });
          changed();
        }),
    );
    if (held) root.querySelector(":checked")?.focus();
  }, true);
  return root;
}

/** Sizes on offer: the model's own, and half as much again to a side, as far as the limits go. */
function shapes() {
  const { size, cell, limits } = state.model;
  const whole = (v) => Math.round(v / cell) * cell;
  const all = [
    ["square", "Square", size, size],
    ["wide", "Wide", whole(size * 1.5), size],
    ["tall", "Tall", size, whole(size * 1.5)],
    ["large", "Large", size * 2, size * 2],
  ];
  return all.filter(([, , w, h]) => w * h <= limits.pixels);
}

function shape(changed) {
  const root = group("Shape");
  const resize = (width, height) => {
    set({ width, height });
    changed();
  };
  const side = (id, label, key) => {
    const { cell, limits } = state.model;
    const field = h("input", {
      type: "number", id, value: state[key], min: cell, step: cell, "aria-label": label,
      onchange: () => {
        const other = key === "width" ? state.height : state.width;
        const most = Math.floor(limits.pixels / other / cell) * cell;
        const value = Math.max(cell, Math.min(most, Math.round(Number(field.value) / cell) * cell || state.model.size));
        field.value = value;
        resize(...(key === "width" ? [value, other] : [other, value]));
      },
    });
    return field;
  };
  watch(["model", "width", "height"], () => {
    if (!state.model || root.contains(document.activeElement) && document.activeElement.type === "number") return;
    const held = document.activeElement?.name === "shape";
    const now = shapes().find(([, , w, h]) => w === state.width && h === state.height)?.[0] ?? "";
    root.replaceChildren(
      h("h2", {}, "Shape"),
      segmented("shape", "Shape", shapes().map(([key, label]) => [key, label]), now, (key) => {
        const [, , width, height] = shapes().find(([k]) => k === key);
        resize(width, height);
      }),
      h("div", { class: "row sides" }, side("width", "Width in pixels", "width"), h("span", { "aria-hidden": "true" }, "×"),
        side("height", "Height in pixels", "height")),
    );
    if (held) root.querySelector("[name=shape]:checked")?.focus();
  }, true);
  return root;
}

function seed(actions, changed) {
  const field = h("input", {
    type: "number", id: "seed", min: 0, max: 4294967295, step: 1, value: state.seed, "aria-label": "Seed",
    oninput: () => {
      const value = Math.floor(Number(field.value));
      if (field.value === "" || !(value >= 0 && value < 2 ** 32)) return;
      set({ seed: value });
      changed();
    },
  });
  const lock = button("lock", "Keep the seed", () => set({ locked: !state.locked }), { id: "lock", key: "L" });
  watch(["seed"], () => Number(field.value) !== state.seed && (field.value = state.seed));
  watch(["locked"], () => {
    const fresh = button(state.locked ? "lock" : "unlock", "");
    lock.replaceChildren(...fresh.childNodes);
    lock.setAttribute("aria-pressed", String(state.locked));
    lock.title = state.locked ? "The seed stays (L)" : "Enter draws a new seed (L)";
  }, true);
  return group("Seed", h("div", { class: "row" }, field, lock,
    button("shuffle", "Shuffle", actions.shuffle, { id: "shuffle", key: "S" })));
}

function sampling(changed) {
  const root = group("Sampling");
  watch(["model"], () => {
    if (!state.model) return;
    const { sampling, limits } = state.model;
    const usual = () => sampling.tasks?.[wanted(state)?.task] ?? sampling.guidance;
    const steps = slider("Steps", {
      id: "steps", min: 1, max: Math.min(50, limits.steps), step: 1, value: state.steps ?? sampling.steps,
      oninput: (v) => {
        set({ steps: v });
        changed();
      },
    });
    const guidance = slider("Guidance", {
      id: "guidance", min: 1, max: 8, step: 0.1, value: state.guidance ?? usual(),
      format: (v) => Number(v).toFixed(1),
      oninput: (v) => {
        set({ guidance: v });
        changed();
      },
    });
    const choices = slider("Choices", {
      id: "choices", min: 1, max: limits.choices, step: 1, value: state.choices,
      oninput: (v) => {
        set({ choices: v });
        changed();
      },
    });
    choices.title = "Make it so often, and keep what the model itself finds likeliest";
    const reset = h("button", { type: "button", class: "quiet", id: "reset-sampling", onclick: () => {
      set({ steps: null, guidance: null, choices: 1 });
      changed();
    } }, "As the model likes it");
    root.replaceChildren(h("h2", {}, "Sampling"), steps, guidance, choices, h("div", { class: "row" }, reset));
    const update = () => {
      steps.input.setValue(state.steps ?? sampling.steps);
      guidance.input.setValue(state.guidance ?? usual());
      choices.input.setValue(state.choices);
      reset.hidden = state.steps === null && state.guidance === null && state.choices === 1;
    };
    // What a task is led by depends on which it is, and so on all that decides this.
    watch(["steps", "guidance", "choices", "mode", "prompts", "references", "tool", "base", "first", "withSound"], update);
    update();
  }, true);
  return root;
}

function saving() {
  const model = h("p", { class: "hint model" });
  watch(["model"], () => {
    if (!state.model) return;
    const { name, parameters } = state.model;
    model.textContent = `${name}, ${(parameters / 1e6).toFixed(1)} million parameters, on this machine.`;
  }, true);
  return group(null, toggle("Settings in downloads", state.metadata, (on) => set({ metadata: on }), "metadata"), model);
}

/** On a phone the panel is folded away. */
function unfold() {
  $("unfold").addEventListener("click", () => {
    const open = $("unfold").getAttribute("aria-expanded") !== "true";
    $("unfold").setAttribute("aria-expanded", String(open));
  });
}
