// What a maker does: keep, undo, open, edit this, animate this, use as reference. Each leaves the state whole.

import * as api from "./api.js";
import { say } from "./dom.js";
import { ungrown } from "./grow.js";
import * as history from "./history.js";
import { blank, recall } from "./mask.js";
import { partsOf, png, sheetOf } from "./media.js";
import * as references from "./references.js";
import { clear, show, still, view } from "./stage.js";
import { notice, quiet, sentence } from "./status.js";
import { prompt, setPrompt, set, state, watch } from "./state.js";

let jobs = null;
export const begin = (given) => (jobs = given);

const MODES = { sound: "sound", dub: "motion", inpaint: "edit", outpaint: "edit" };
const modeOf = (entry) => {
  if (entry.task === "edit") return entry.settings.source ? "edit" : "draw";
  return MODES[entry.task] ?? (/clip|animate|continue/.test(entry.task) ? "motion" : "draw");
};

watch(["entry"], () => state.entry && set({ places: { ...state.places, [modeOf(state.entry)]: state.entry.id } }));

const failed = (error) => {
  if (error.message !== "left") notice(sentence(error.message), { kind: "error" });
  return null;
};

/** The entry of the latest result, kept if it was not; null where there is none, or it was removed since. */
const latest = async () => history.find((await jobs.keep().catch(failed))?.id);

/** What was drawn last is in history; resolves to the entry we then stand at. */
async function settle() {
  const stood = state.entry;
  const entry = jobs.unsaved || jobs.pending ? await latest() : null;
  if (entry && state.entry === stood) set({ entry, entryId: entry.id });
  return entry ?? state.entry;
}

/** Enter: keep this and go on from it. An edit becomes the picture to edit; an unlocked seed is drawn anew. */
export async function keep() {
  const entry = await latest();
  if (!entry) return;
  history.forgetForward();
  set({ entry, entryId: entry.id, ...(state.locked ? {} : { seed: fresh() }) });
  say("Kept");
  if (state.mode === "edit") {
    // Only the words that were kept are done with: what is typed while the picture comes is of the next edit.
    if (prompt().trim() === entry.settings.prompt) setPrompt("");
    await base(entry);
    if (prompt()) jobs.ask(); // going on to the picture left behind what was asked in the same frame
  }
}

export const fresh = () => Math.floor(Math.random() * 1e6);

/** The picture of an entry, or any stored one, becomes the one to edit. */
async function base(entry) {
  const part = history.pictureOf(entry);
  await edit({ hash: part.hash, width: part.width, height: part.height, entry: entry.id });
}

async function edit(picture) {
  jobs.leave();
  set({ ...ungrown(), base: picture, mask: null, mode: "edit", comparing: false });
  const sheet = await sheetAt("base");
  if (state.mode !== "edit" || (state.base && state.base !== picture)) return;
  if (!sheet) return clear();
  if (jobs.unsaved) return; // what was asked of it came before it did
  sheet.grows = true;
  show({ sheet, sound: null }, { label: "The picture to edit" });
}

/** The sheet of `state[name]`, or null where it cannot be had; what the server no longer has is left behind. */
export async function sheetAt(name) {
  const picture = state[name];
  if (!picture) return null;
  try {
    return await sheetOf(picture.hash);
  } catch (error) {
    if (state[name] !== picture) return null;
    if (error.status === 404) set({ [name]: null });
    return failed(error.status === 404 ? new Error("The server no longer has that picture") : error);
  }
}

/** A setting that is what the model does by itself is none. */
const unlessOwn = (name, value) => (value === state.model.sampling[name] ? null : value);

/** Opens an entry with all its settings; nothing is drawn anew until something is changed. */
export async function open(entry) {
  jobs.leave();
  const { settings } = entry;
  const mode = modeOf(entry);
  const size = { width: settings.width, height: settings.height };
  const patch = {
    mode, entry, entryId: entry.id, seed: settings.seed, steps: unlessOwn("steps", settings.steps),
    guidance: unlessOwn("guidance", settings.guidance), choices: settings.choices ?? 1,
    referenceGuidance: settings.reference_guidance ?? state.referenceGuidance,
    ...ungrown(), comparing: false, mask: null, prompts: { ...state.prompts, [mode]: settings.prompt },
  };
  if (mode === "draw") Object.assign(patch, size, { references: settings.references ?? [] });
  if (mode === "edit") {
    patch.base = { hash: settings.source, ...size, entry: entry.parent };
    patch.tool = { inpaint: "mask", outpaint: "grow" }[entry.task] ?? "words";
    if (entry.task === "edit") patch.references = settings.references ?? [];
    if (entry.task === "outpaint") patch.grown = { hash: settings.source, mask: settings.mask, ...size };
  }
  if (mode === "motion" || mode === "sound") {
    patch.frames = !settings.frames || settings.frames === state.model.frames ? null : settings.frames;
  }
  if (mode === "motion") {
    patch.withSound = entry.parts.some((part) => part.name === "sound");
    patch.first = entry.task.startsWith("animate") ? { hash: settings.source, ...size, entry: entry.parent } : null;
  }
  set(patch);
  try {
    const parts = await partsOf(entry);
    if (!parts.sheet && entry.task === "dub") parts.sheet = (await partsOf(history.find(entry.parent))).sheet;
    if (state.entry !== entry) return;
    show(parts, { label: settings.prompt || entry.task });
    if (entry.task === "inpaint" && settings.mask) {
      recall((await sheetOf(settings.mask)).canvas);
      set({ mask: { hash: settings.mask } });
    }
  } catch (error) {
    failed(error);
  }
}

/** Back to where this came from. What is on the stage and not in history is kept first, so that nothing is lost. */
export async function undo() {
  const here = await settle();
  let to = history.previous();
  while (!to && here?.parent && (await older())) to = history.previous(); // it came from what is not here yet
  if (state.entry !== here) return;
  if (!to) {
    say("This is where it began");
    return;
  }
  history.undone(here);
  await open(to);
  say("Undone");
}

/** Whether undo leads anywhere. */
export const undoable = () => Boolean(history.previous() || (state.entry?.parent && !ended));

export async function redo() {
  const to = history.next();
  if (!to) {
    say("There is nothing after this");
    return;
  }
  history.redone();
  await open(to);
  say("Redone");
}

/** Whether the stage shows the picture to edit, not what came of it: then that is what tools act on. */
const resting = () => state.mode === "edit" && Boolean(state.base) && view.sheet?.hash === state.base.hash;

/** The entry of history that is on the stage, or null: the picture to edit may be from elsewhere, or part of a clip. */
function staged() {
  if (!resting()) return state.entry;
  const entry = history.find(state.base.entry);
  return history.pictureOf(entry)?.hash === state.base.hash ? entry : null;
}

/** The picture on the stage, {hash, width, height, entry}: kept first, or a frame of a clip, stored as a picture. */
async function picture() {
  if (!view.sheet) return null;
  if (resting()) return state.base;
  const entry = await settle();
  const part = history.pictureOf(entry);
  if (part && view.sheet?.frames === 1) return { ...part, entry: entry.id };
  const stored = await api.upload(await png(still()));
  return { ...stored, entry: entry?.id ?? null };
}

/** Goes to another mode. Editing takes the picture on the stage with it; the others start where they were left. */
export async function go(mode) {
  if (mode === state.mode) return;
  // The mode changes at once: what is typed from here on belongs to it, whatever is still being kept.
  const taken = mode === "edit" ? picture() : jobs.unsaved ? settle() : null;
  set({ mode, comparing: false });
  jobs.hold();
  const found = await taken?.catch(failed);
  jobs.release();
  if (state.mode !== mode) return;
  if (mode === "edit") {
    if (found) await edit({ hash: found.hash, width: found.width, height: found.height, entry: found.entry });
    else if (state.base) await edit(state.base);
    else clear();
    jobs.ask();
    return;
  }
  jobs.leave();
  if (mode === "worlds") return;
  const entry = history.find(state.places[mode]);
  if (entry) set({ entry, entryId: entry.id });
  const parts = entry && (await partsOf(entry).catch(failed));
  if (state.mode !== mode) return;
  if (parts) show(parts, { label: entry.settings.prompt });
  else clear();
  jobs.ask();
}

export async function tool(name) {
  if (name === state.tool) return;
  jobs.leave();
  blank();
  set({ ...ungrown(), tool: name, mask: null });
  if (state.base) await edit(state.base);
}

export function unfirst() {
  set({ first: null });
  clear();
  jobs.ask();
}

/** The picture on the stage, or the one given, becomes the first frame of a clip. */
export async function animate(given = null) {
  const found = given?.hash ? given : await picture().catch(failed);
  if (!found) return;
  jobs.leave();
  const words = state.prompts.motion || history.find(found.entry)?.settings.prompt || "";
  set({
    mode: "motion", comparing: false, first: { hash: found.hash, width: found.width, height: found.height, entry: found.entry ?? null },
  });
  setPrompt(words);
  jobs.ask();
}

/** One job that goes on from the clip on the stage: its sound, or what comes next. */
async function onward(task) {
  const entry = await settle();
  const clip = entry?.parts.find((part) => part.name === "clip");
  if (!clip) return;
  try {
    const made = await jobs.once({
      task, source: clip.hash, prompt: state.prompts.motion.trim() || entry.settings.prompt, parent: entry.id,
      width: clip.width, height: clip.height, references: [],
    });
    if (made) set({ entry: made, entryId: made.id });
  } catch (error) {
    failed(error);
  }
}

export const extend = () => onward("continue");
export const giveSound = () => onward("dub");

export async function useThis() {
  const found = await picture().catch(failed);
  if (found) references.add(found.hash);
}

export function useEntry(entry) {
  const part = history.pictureOf(entry);
  if (part) references.add(part.hash);
  else say("Only pictures can be references");
}

export async function download() {
  const entry = resting() ? staged() : await settle();
  if (!entry) return;
  const link = document.createElement("a");
  link.href = api.downloadAddress(entry.id, state.metadata);
  link.download = "";
  document.body.append(link);
  link.click();
  link.remove();
}

const PAGE = 100; // entries fetched at once
let ended = false; // the oldest entry is here
let fetching = null; // what comes of the page that is on its way

/** Entries before that one, or the newest. */
export async function page(before = null) {
  const found = await api.history(PAGE, before);
  ended = found.length < PAGE;
  return found;
}

/** More of history, as the strip is scrolled to its end or undo leads beyond it; resolves to whether any came. */
export function older() {
  fetching ??= further().finally(() => (fetching = null));
  return fetching;
}

async function further() {
  if (ended) return false;
  try {
    const more = await page(state.entries.at(-1)?.id);
    const known = new Set([...state.entries.map(({ id }) => id), leaving?.entry.id]);
    set({ entries: [...state.entries, ...more.filter(({ id }) => !known.has(id))] });
    return more.length > 0;
  } catch (error) {
    failed(error);
    return false;
  }
}

const REGRET = 6100; // milliseconds in which it can be put back, as long as the line that says so stays; then the server forgets it
let leaving = null; // {entry, children, timer}

/** Takes an entry out of history. What came of it then comes from where it came from, here as on the server. */
export function forget(entry) {
  gone();
  const entries = state.entries.filter((e) => e !== entry);
  const children = entries.filter((e) => e.parent === entry.id);
  for (const child of children) child.parent = entry.parent;
  leaving = { entry, children, stood: state.entry === entry, timer: setTimeout(gone, REGRET) };
  set({ entries, ...(leaving.stood ? { entry: null, entryId: null } : {}) });
  notice("Removed from history.", { label: "Put back", act: putBack });
  say("Removed from history");
}

/** The picture on the stage leaves history. */
export const forgetThis = () => staged() && forget(staged());

/** Whether the picture on the stage is one of history's. */
export const standing = () => Boolean(staged() && (view.sheet || view.sound)) && !jobs.unsaved && !jobs.pending;

/** Whether what is on the stage can be downloaded: only what is in history, or will be, has settings and a file. */
export const savable = () => Boolean(view.sheet || view.sound) && !(resting() && !staged());

function putBack() {
  if (!leaving) return;
  const { entry, children, stood, timer } = leaving;
  clearTimeout(timer);
  leaving = null;
  for (const child of children) child.parent = entry.id;
  const entries = [...state.entries, entry].sort((a, b) => b.created - a.created);
  set({ entries, ...(stood && !state.entry ? { entry, entryId: entry.id } : {}) });
  quiet(true);
  say("Put back");
}

/** The time to put something back is over. */
async function gone() {
  if (!leaving) return;
  const { entry, timer } = leaving;
  clearTimeout(timer);
  try {
    const told = api.forget(entry.id);
    leaving = null;
    quiet();
    await told;
  } catch (error) {
    failed(error);
  }
}
addEventListener("pagehide", gone);

/** Pictures of the clipboard, a drop or the file picker: stored, then used one after the other. */
export async function bring(files, use) {
  for (const file of files) {
    if (!/^image\/(png|jpeg|webp)$/.test(file.type)) {
      notice(`${file.name || "That"} is no PNG, JPEG or WebP picture.`, { kind: "error" });
      continue;
    }
    if (file.size > (state.model?.limits.upload_bytes ?? Infinity)) {
      notice(`${file.name} is larger than ${Math.round(state.model.limits.upload_bytes / 1e6)} MB.`, { kind: "error" });
      continue;
    }
    try {
      if (use(await api.upload(file)) === false) return;
    } catch (error) {
      notice(`${file.name || "That"}: ${sentence(error.message)}`, { kind: "error" });
    }
  }
}

/** A stored picture becomes the one to edit; `entry` is the id of the one it is of, if any. */
export const editStored = ({ hash, width, height, entry = null }) => edit({ hash, width, height, entry });
