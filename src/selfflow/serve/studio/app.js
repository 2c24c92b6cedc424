// The studio begins here: the model is described, the wires are connected, and each part told what to do.

import * as api from "./api.js";
import { compare, source } from "./compare.js";
import { $, button, h, icon, say, segmented } from "./dom.js";
import * as flows from "./flows.js";
import { onGrow } from "./grow.js";
import * as history from "./history.js";
import { Jobs } from "./jobs.js";
import { help, mention, shortcut } from "./keys.js";
import { brush, clearMask, onMask, setBrush } from "./mask.js";
import * as player from "./player.js";
import * as references from "./references.js";
import { build } from "./settings.js";
import { clear, frame, redraw, show, stage, view } from "./stage.js";
import { prompt, restore, set, setPrompt, state, watch } from "./state.js";
import * as status from "./status.js";
import * as theme from "./theme.js";
import { Wire } from "./wire.js";
import * as worlds from "./worlds.js";

const MODES = [["draw", "Draw"], ["edit", "Edit"], ["motion", "Motion"], ["sound", "Sound"], ["worlds", "Worlds"]];
const ASKS = {
  draw: "Describe a picture", motion: "Describe what happens", sound: "Describe a sound",
  words: "Say what to change", mask: "Say what belongs there", grow: "Say what lies beyond the edge",
};

restore();
theme.begin();
const wire = new Wire("/ws/studio", { greets: true });
const jobs = new Jobs(wire);
flows.begin(jobs);
status.follow(wire);
worlds.begin();
$("ask-help").append(icon("help"));
$("ask-help").addEventListener("click", help);

// ------------------------------------------------------------------------------------------------------- what is asked

const changed = (since = performance.now()) => jobs.ask(since);
onMask(changed);
onGrow(changed, () => {
  jobs.leave();
  resting();
});
references.onReferences(changed);

const field = $("prompt");
field.addEventListener("input", (event) => {
  setPrompt(field.value);
  changed(event.timeStamp);
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.isComposing) {
    event.preventDefault();
    flows.keep();
  } else if (event.key === "Escape") {
    event.preventDefault();
    field.blur();
  }
});

const shuffle = () => {
  set({ seed: flows.fresh() });
  changed();
};

// -------------------------------------------------------------------------------------------------------- what is shown

jobs.addEventListener("result", ({ detail: { header, view: made, job } }) => {
  status.quiet();
  const label = `${header.task}: ${job.prompt}`;
  show(made, { label, final: header.final, merge: header.task === "dub" });
  if (header.final) say(`${header.task} is ready`);
});
jobs.addEventListener("busy", ({ detail }) => status.progress(detail));
jobs.addEventListener("latency", ({ detail }) => {
  status.latency(detail);
  document.dispatchEvent(new CustomEvent("studio:final", { detail }));
});
jobs.addEventListener("trouble", ({ detail }) => status.trouble(detail, () => jobs.again()));
jobs.addEventListener("kept", ({ detail }) => {
  if (detail.current) set({ entry: detail.entry, entryId: detail.entry.id });
});
jobs.addEventListener("nothing", () => {
  status.quiet();
  if (state.mode === "edit" && state.base) resting();
  else if (state.mode !== "edit" && !prompt()) clear();
});
stage.addEventListener("trouble", ({ detail }) => status.notice(detail.message, { kind: "error" }));

/** While nothing is asked of an edit, the picture itself is on the stage. */
async function resting() {
  const { base } = state;
  const sheet = await flows.sheetAt("base");
  if (!sheet || state.base !== base || state.mode !== "edit" || jobs.pending || jobs.unsaved) return;
  sheet.grows = true;
  show({ sheet, sound: null }, { label: "The picture to edit" });
}

function ask() {
  const kind = state.mode === "edit" ? state.tool : state.mode;
  field.placeholder = ASKS[kind] ?? "";
  field.setAttribute("aria-label", ASKS[kind] ?? "Prompt");
  if (field.value !== prompt()) field.value = prompt();
  field.maxLength = state.model?.limits.prompt ?? 600;
}
watch(["mode", "tool", "prompts", "model"], ask, true);

// Worlds tell their own time.
watch(["mode"], () => ($("latency").hidden = state.mode === "worlds"), true);

function examples() {
  const kind = { draw: "picture", edit: "edit", motion: "clip", sound: "sound" }[state.mode];
  const found = prompt() || (state.mode === "edit" && (!state.base || state.tool !== "words")) ? [] : (state.model?.examples[kind] ?? []);
  $("examples").replaceChildren(...(found.length ? [h("span", {}, "Try")] : []), ...found.slice(0, 3).map((words) =>
    h("button", { type: "button", onclick: (event) => {
      setPrompt(words);
      changed(event.timeStamp);
      field.focus();
    } }, words)));
}
watch(["mode", "tool", "prompts", "model", "base"], examples, true);

function invite() {
  const place = $("invitation");
  if (!state.model) place.replaceChildren(h("p", {}, "Waking the model …"));
  else if (state.mode === "edit" && !state.base) {
    place.replaceChildren(h("p", {}, "Drop or paste a picture here."), button("file", "Open a picture", open, { words: true }));
  } else if (state.mode === "sound") place.replaceChildren(h("p", {}, "What you describe, you hear."));
  else place.replaceChildren(h("p", {}, state.mode === "motion" ? "What you describe, happens." : "The picture follows your words."));
}
watch(["mode", "model", "base"], invite, true);

watch(["first"], async () => {
  if (!state.first || !$("first")) return;
  const sheet = await flows.sheetAt("first");
  if (!sheet && !state.first && state.mode === "motion") flows.unfirst();
  if (!sheet || !$("first")) return;
  Object.assign($("first"), { width: sheet.width, height: sheet.height });
  sheet.draw($("first").getContext("2d"));
});

// --------------------------------------------------------------------------------------------------- tools of a picture

const can = (task) => state.model?.tasks.includes(task);
const tools = [
  ["undo", "Undo", flows.undo, "Z", () => true, flows.undoable],
  ["redo", "Redo", flows.redo, "Y", () => true, () => history.next()],
  ["compare", "Before and after", () => compare(), "C", () => true, () => source() && view.sheet?.frames === 1],
  ["pixels", "Smooth pixels", () => set({ smooth: !state.smooth }), "P", () => true, () => view.sheet],
  ["pin", "Use as reference", flows.useThis, "R", () => can("edit"), () => view.sheet],
  ["animate", "Animate this", flows.animate, "A", () => can("animate"), () => view.sheet],
  ["sound", "Give it sound", flows.giveSound, "G", () => can("dub"), () => view.sheet?.frames > 1],
  ["more", "Continue the clip", flows.extend, "N", () => can("continue"), () => view.sheet?.frames > 1],
  ["download", "Download", flows.download, "D", () => true, flows.savable],
  ["clear", "Remove from history", flows.forgetThis, "", () => true, flows.standing],
];
const WIDE = ["animate", "sound", "more"];

function toolbar() {
  const moving = state.mode === "motion";
  const bar = $("tools");
  const held = bar.contains(document.activeElement) ? document.activeElement.dataset.tool : null;
  bar.replaceChildren(...tools
    .filter(([name, , , , offered]) => offered() && (moving ? name !== "animate" : !["sound", "more"].includes(name)))
    .filter(([name]) => state.mode !== "sound" || ["undo", "redo", "download", "clear"].includes(name))
    .map(([name, label, act, key, , ready]) => button(name, label, act, {
      key, words: WIDE.includes(name), disabled: !ready(), "data-tool": name,
      "aria-pressed": name === "compare" ? String(state.comparing) : name === "pixels" ? String(state.smooth) : null,
    })));
  if (held) bar.querySelector(`[data-tool="${held}"]`)?.focus();
}
watch(["mode", "model", "entries", "entry", "comparing", "smooth", "base"], toolbar, true);
stage.addEventListener("shown", ({ detail }) => detail.final && toolbar());

// -------------------------------------------------------------------------------------------------------- pictures in

let chosen = () => {};
$("file").addEventListener("change", async () => {
  await flows.bring([...$("file").files], chosen);
  $("file").value = "";
});
const ask4 = (use) => {
  chosen = use;
  $("file").click();
};
const choose = () => ask4((stored) => references.add(stored.hash));
const open = () => ask4((stored) => (flows.editStored(stored), false));

/** What was dropped: files, or a picture of this page. */
function take(transfer, use) {
  const own = transfer.getData(references.DRAGGED);
  if (own) use(JSON.parse(own).hash, JSON.parse(own).id);
  else flows.bring([...transfer.files], (stored) => use(stored.hash, null, stored));
}

frame.addEventListener("dragover", (event) => {
  event.preventDefault();
  frame.classList.add("over");
});
frame.addEventListener("dragleave", () => frame.classList.remove("over"));
frame.addEventListener("drop", (event) => {
  event.preventDefault();
  frame.classList.remove("over");
  take(event.dataTransfer, async (hash, id, stored) => {
    const part = history.pictureOf(history.find(id));
    const picture = stored ?? (part && { ...part, entry: id });
    if (state.mode === "edit" && !state.base && picture) await flows.editStored(picture);
    else if (state.mode === "motion" && can("animate") && picture) await flows.animate(picture);
    else references.add(hash);
  });
});
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length || !state.model) return;
  event.preventDefault();
  const empty = state.mode === "edit" && !state.base;
  const moving = state.mode === "motion" && can("animate");
  flows.bring(files, (stored) => {
    if (!empty && !moving) return references.add(stored.hash);
    (empty ? flows.editStored : flows.animate)(stored);
    return false;
  });
});

// ------------------------------------------------------------------------------------------------------------ shortcuts

const pictorial = () => ["draw", "edit", "motion"].includes(state.mode);
const masking = () => state.mode === "edit" && state.tool === "mask";
shortcut("Anywhere", "/", "To the prompt", () => field.focus());
mention("Anywhere", "Enter", "Keep, and go on from here");
shortcut("Anywhere", "Escape", "Leave", () => {
  if (state.picking) set({ picking: false });
  else if (state.comparing) set({ comparing: false });
  else if (!worlds.stopWorld()) document.activeElement?.blur();
});
MODES.forEach(([mode, label], i) => shortcut("Anywhere", String(i + 1), label, () => flows.go(mode)));
shortcut("Anywhere", "t", "Theme", theme.turn);
shortcut("Anywhere", "?", "This list", help);
shortcut("Picture", "s", "Shuffle the seed", shuffle, () => state.mode !== "worlds");
shortcut("Picture", "l", "Keep the seed", () => set({ locked: !state.locked }));
shortcut("Picture", "z Mod+z", "Undo", flows.undo);
shortcut("Picture", "y Mod+Shift+z Mod+y", "Redo", flows.redo);
shortcut("Picture", "c", "Before and after", () => compare(), pictorial);
shortcut("Picture", "p", "Smooth pixels", () => set({ smooth: !state.smooth }), pictorial);
shortcut("Picture", "r", "Use as reference", flows.useThis, pictorial);
shortcut("Picture", "h", "Pick references from history", () => pick());
shortcut("Picture", "d", "Download", flows.download);
shortcut("Mask", "b", "Paint", () => setBrush({ erasing: false }), masking);
shortcut("Mask", "e", "Erase", () => setBrush({ erasing: true }), masking);
shortcut("Mask", "x", "Clear", clearMask, masking);
shortcut("Mask", "[", "Smaller brush", () => setBrush({ size: brush.size - 2 }), masking);
shortcut("Mask", "]", "Larger brush", () => setBrush({ size: brush.size + 2 }), masking);
shortcut("Clip and sound", "a", "Animate this", flows.animate, () => pictorial() && can("animate"));
shortcut("Clip and sound", "g", "Give it sound", flows.giveSound, () => state.mode === "motion" && can("dub"));
shortcut("Clip and sound", "n", "Continue the clip", flows.extend, () => state.mode === "motion" && can("continue"));
shortcut("Clip and sound", "Space", "Play, pause", () => player.toggle(), () => !$("player").hidden);
shortcut("Clip and sound", ",", "A frame back", () => player.step(-1), () => !$("player").hidden);
shortcut("Clip and sound", ".", "A frame on", () => player.step(1), () => !$("player").hidden);
mention("References", "Alt+ArrowLeft", "Move earlier");
mention("References", "Alt+ArrowRight", "Move later");
mention("References", "Space", "Switch on, off");
mention("References", "Delete", "Remove");
mention("Picture", "Delete", "Remove from history, in the strip");

const pick = () => set({ picking: !state.picking });
watch(["picking"], () => {
  if (state.picking) status.notice("Choose pictures below to go by. Escape ends.");
  else status.quiet(true);
});

// ---------------------------------------------------------------------------------------------------------------- begin

function modes() {
  const offered = { edit: "edit", motion: "clip", sound: "sound" };
  const some = MODES.filter(([mode]) => !offered[mode] || can(offered[mode]) || (mode === "edit" && can("inpaint")));
  const here = some.filter(([mode]) => mode !== "worlds" || state.model?.worlds.length || state.model?.policies.length);
  $("modes").replaceChildren(segmented("mode", "What to make", here, state.mode, flows.go));
}
watch(["mode"], () => {
  if ($("notice").classList.contains("error")) status.quiet(true);
  document.body.dataset.mode = state.mode;
  $("stage").hidden = state.mode === "worlds";
  document.querySelectorAll("[name=mode]").forEach((r) => (r.checked = r.value === state.mode));
  redraw();
}, true);

history.onHistory({ open: flows.open, use: flows.useEntry, forget: flows.forget, older: flows.older });
wire.addEventListener("state", ({ detail }) => detail.state === "open" && state.model && jobs.again());

async function begin() {
  clear();
  invite();
  try {
    const model = await api.model();
    const entries = await flows.page();
    const offered = (w, h) => w % model.cell === 0 && h % model.cell === 0 && w * h <= model.limits.pixels;
    const fits = offered(state.width, state.height) && localStorage.getItem("selfflow.studio");
    set({ model, entries, ...(fits ? {} : { width: model.size, height: model.size }) });
    if (!can({ words: "edit", mask: "inpaint", grow: "outpaint" }[state.tool])) set({ tool: "words" });
  } catch (error) {
    $("invitation").replaceChildren(h("p", {}, error.message), h("button", { type: "button", class: "quiet", onclick: begin }, "Try again"));
    return;
  }
  modes();
  build({ changed, shuffle, choose, take, pick, open, tool: flows.tool, unfirst: flows.unfirst });
  set({ entry: history.find(state.entryId), first: state.first, base: state.base });
  wire.connect();
  if (state.mode === "edit" && state.base) await flows.editStored(state.base);
  else if (!jobs.pending) clear();
  jobs.ask();
  if (matchMedia("(pointer: fine)").matches && state.mode !== "worlds") field.focus();
}
begin();
