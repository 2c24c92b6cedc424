// What the studio knows: one object, changed through `set`, watched by name. A part of it survives a reload.

const STORED = "selfflow.studio";
const KEPT = [
  "mode", "prompts", "seed", "locked", "steps", "guidance", "choices", "referenceGuidance", "width", "height", "references",
  "smooth", "theme", "metadata", "withSound", "frames", "letters", "tool", "base", "first", "entryId", "places",
];

export const state = {
  model: null, // what /api/model says
  mode: "draw", // draw | edit | motion | sound | worlds
  tool: "words", // of edit: words | mask | grow
  prompts: { draw: "", edit: "", motion: "", sound: "" },
  seed: 7,
  locked: true,
  steps: null, // null: what the model does by itself
  guidance: null,
  choices: 1, // draws of each, of which the model keeps the likeliest
  referenceGuidance: 1.5,
  width: 64,
  height: 64,
  references: [], // {hash, on}
  base: null, // {hash, width, height}: the picture that is being edited
  first: null, // {hash, width, height}: the picture that is being animated
  mask: null, // {hash}: uploaded; null when nothing is masked
  margins: { left: 0, right: 0, top: 0, bottom: 0 }, // cells to grow by
  entries: [], // of history, newest first
  entry: null, // where we stand in it
  entryId: null,
  places: {}, // mode → id of the entry we last stood at in it
  picking: false, // the next click in history picks a reference
  comparing: false,
  smooth: false,
  withSound: false,
  frames: null, // of a clip; null: as many as the model was shown
  metadata: true,
  theme: "auto",
  letters: true, // single letters are shortcuts
  connection: "connecting", // connecting | open | waiting
};

const watchers = [];

/** Calls `react(state)` whenever one of `names` was set; once at the beginning too with `now`. */
export function watch(names, react, now = false) {
  watchers.push({ names, react });
  if (now) react(state);
}

export function set(patch) {
  Object.assign(state, patch);
  const names = Object.keys(patch);
  for (const watcher of watchers) if (watcher.names.some((name) => names.includes(name))) watcher.react(state);
  if (names.some((name) => KEPT.includes(name))) save();
}

function save() {
  try {
    localStorage.setItem(STORED, JSON.stringify(Object.fromEntries(KEPT.map((name) => [name, state[name]]))));
  } catch {
    // A browser without storage forgets on reload; nothing else is lost.
  }
}

/** What was stored, as far as it still makes sense: each value must have the type of the one it replaces. */
export function restore() {
  let stored;
  try {
    stored = JSON.parse(localStorage.getItem(STORED) ?? "{}");
  } catch {
    return;
  }
  for (const name of KEPT) {
    const [now, then] = [state[name], stored?.[name]];
    if (then === undefined) continue;
    if (now === null || (typeof now === typeof then && Array.isArray(now) === Array.isArray(then))) state[name] = then;
  }
}

export const prompt = () => state.prompts[state.mode] ?? "";
export const setPrompt = (text, mode = state.mode) => set({ prompts: { ...state.prompts, [mode]: text } });
