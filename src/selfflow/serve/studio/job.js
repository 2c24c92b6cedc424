// What to ask for, from how the studio stands. No side effects: the same state gives the same job.

const plain = (references) => references.map(({ hash, on }) => ({ hash, on }));
const can = (state, task) => state.model?.tasks.includes(task);

/** What is being made in a mode: {task, source, mask, width, height, references}, or null while something is missing. */
function making(state, prompt) {
  const { base, first, mask, grown, width, height } = state;
  const references = plain(state.references);
  if (state.mode === "draw") {
    const shown = references.some(({ on }) => on) && can(state, "edit");
    if (!prompt && !shown) return null;
    return shown ? { task: "edit", references } : { task: "picture", references: [] };
  }
  if (state.mode === "edit") {
    if (!base) return null;
    const size = { width: base.width, height: base.height };
    if (state.tool === "words") return prompt ? { task: "edit", source: base.hash, references, ...size } : null;
    if (state.tool === "mask") {
      return mask ? { task: "inpaint", source: base.hash, mask: mask.hash, references: [], ...size } : null;
    }
    if (!grown) return null;
    const { width: w, height: h } = grown;
    return { task: "outpaint", source: grown.hash, mask: grown.mask, references: [], width: w, height: h };
  }
  if (state.mode === "motion") {
    const sound = state.withSound ? "+sound" : "";
    if (first) {
      const task = can(state, `animate${sound}`) ? `animate${sound}` : "animate";
      return { task, source: first.hash, references: [], width: first.width, height: first.height };
    }
    const task = can(state, `clip${sound}`) ? `clip${sound}` : "clip";
    const side = state.model.size;
    return prompt ? { task, references: [], width: side, height: side } : null;
  }
  if (state.mode === "sound") return prompt ? { task: "sound", references: [], width, height } : null;
  return null;
}

/** Where it will hang in history: under the picture it was made from, else under the one we stand at. */
function parent(state) {
  if (state.mode === "edit") return state.base?.entry ?? null;
  if (state.mode === "motion" && state.first) return state.first.entry ?? null;
  return state.entry?.id ?? null;
}

/** The job to send, without its id, or null while there is nothing to make. */
export function wanted(state) {
  if (!state.model) return null;
  const prompt = (state.prompts[state.mode] ?? "").trim();
  const made = making(state, prompt);
  if (!made || !can(state, made.task)) return null;
  return complete(state, { prompt, parent: parent(state), ...made });
}

/** A job with everything that was not said of it. */
export function complete(state, given) {
  return {
    seed: state.seed,
    steps: state.steps,
    guidance: state.guidance,
    choices: state.choices,
    reference_guidance: state.referenceGuidance,
    width: state.width,
    height: state.height,
    source: null,
    mask: null,
    frames: state.frames ?? state.model.frames,
    fps: state.model.fps,
    preview: true,
    ...given,
  };
}

/** Whether two jobs make the same thing, whenever and under whatever number they were sent. */
export function same(a, b) {
  const bare = ({ id, parent, since, once, sent, ...rest }) => JSON.stringify(rest, Object.keys(rest).sort());
  return Boolean(a && b) && bare(a) === bare(b) && JSON.stringify(a.references) === JSON.stringify(b.references);
}
