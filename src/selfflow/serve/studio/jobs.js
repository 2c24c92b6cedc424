// Asking and showing. One message at most for each frame of the screen, and the latest wins; a result is shown only if
// nothing newer was: an older picture never replaces a newer one.

import { complete, same, wanted } from "./job.js";
import { decode } from "./media.js";
import { set, state } from "./state.js";

const REST = 2500; // milliseconds without a change after which a finished picture is kept
const RETRY = 1200; // milliseconds after which what there was no room for is asked again

export class Jobs extends EventTarget {
  #wire;
  #next = 1;
  #floor = 0; // ids below belong to what was left behind
  #frame = 0;
  #since = null; // when the keystroke came that is not sent yet
  #arrived = 0;
  #shown = { id: 0, arrival: 0 };
  #asked = null; // the latest job sent
  #sent = new Map(); // id → job, of those that may still be answered
  #failed = false;
  #final = null; // {job, header, view, entry}: the latest finished result shown; its entry once it is kept
  #waiting = new Map(); // id → {kept, done, failed}: the promise of those who wait for it to be kept
  #rest = 0;
  #later = 0;
  #held = false;

  constructor(wire) {
    super();
    this.#wire = wire;
    wire.addEventListener("parts", ({ detail }) => this.#result(detail));
    wire.addEventListener("message", ({ detail }) => this.#message(detail));
    wire.addEventListener("state", ({ detail }) => {
      if (detail.state === "waiting") this.#lost();
    });
  }

  /** Ask for what the state describes; `since` is when the maker acted, for the latency on screen. */
  ask(since = performance.now()) {
    this.#since = since;
    clearTimeout(this.#rest);
    if (this.#held || this.#frame) return;
    // The first of a burst goes at once, when all that the event changes is changed; the rest wait for the next frame.
    queueMicrotask(() => {
      if (this.#held || this.#frame || this.#since === null) return;
      this.#flush();
      this.#frame = requestAnimationFrame(() => {
        this.#frame = 0;
        if (this.#since !== null && !this.#held) this.#flush();
      });
    });
  }

  /** Until it is released, what is asked for waits: something is being kept that it will build on. */
  hold() {
    this.#held = true;
  }

  release() {
    this.#held = false;
    if (this.#since !== null) this.ask(this.#since);
  }

  /** Ask for one thing besides what the state describes, and keep it when it is there. */
  once(given) {
    this.leave();
    const job = { ...complete(state, given), once: true };
    this.#send(job, performance.now());
    return this.keep();
  }

  /** What was asked so far no longer matters: none of it is shown, and the server may stop. */
  leave() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#rest);
    this.#frame = 0;
    this.#since = null;
    this.#floor = this.#next;
    if (this.#running) this.#wire.send({ type: "cancel" });
    this.#abandon();
    this.#asked = this.#final = null;
    this.#tell("busy", { busy: false });
  }

  /** The latest finished result that history does not have yet, or null. */
  get unsaved() {
    return this.#final && !this.#final.entry && this.#final.job.id === this.#asked?.id ? this.#final : null;
  }

  /** Whether something is on its way that was not finished yet. */
  get pending() {
    return (this.#since !== null && !this.#held) || this.#running;
  }

  get #running() {
    return Boolean(this.#asked) && !this.#failed && this.#final?.job.id !== this.#asked.id;
  }

  /**
   * Keeps the latest result, once it is finished, unless a pause has; resolves to its entry, or to null where there is
   * nothing to keep.
   */
  keep() {
    clearTimeout(this.#rest);
    if (this.#since !== null && !this.#held) this.#flush();
    const asked = this.#asked;
    if (!asked || this.#failed) return Promise.resolve(null);
    if (this.#final?.job.id === asked.id && this.#final.entry) return Promise.resolve(this.#final.entry);
    let waiting = this.#waiting.get(asked.id);
    if (waiting) return waiting.kept;
    const kept = new Promise((done, failed) => (waiting = { done, failed }));
    this.#waiting.set(asked.id, { kept, ...waiting });
    if (this.#final?.job.id === asked.id) this.#wire.send({ type: "keep", id: asked.id });
    return kept;
  }

  #flush() {
    const since = this.#since ?? performance.now();
    this.#since = null;
    const job = wanted(state);
    if (!job) {
      if (this.#asked) this.leave();
      this.#tell("nothing", {});
      return;
    }
    if (!same(job, this.#asked) || this.#failed) this.#send(job, since);
    else this.#settle(); // nothing new was asked for
  }

  /** Nobody waits any longer for what will not be finished. What is on its way to history goes on. */
  #abandon() {
    for (const id of this.#waiting.keys()) if (id !== this.#final?.job.id) this.#disappoint(id, "left");
  }

  /** Whoever waits for this to be kept does so no longer. */
  #disappoint(id, message) {
    this.#waiting.get(id)?.failed(new Error(message));
    this.#waiting.delete(id);
  }

  #send({ once = false, ...job }, since) {
    this.#abandon();
    job.id = this.#next++;
    const sent = this.#wire.send({ type: "job", ...job });
    this.#asked = { ...job, since, once, sent };
    this.#sent.set(job.id, this.#asked);
    for (const id of this.#sent.keys()) if (id < Math.max(this.#floor, this.#shown.id)) this.#sent.delete(id);
    this.#failed = false;
    if (sent) this.#tell("busy", { busy: true, step: 0, steps: 1, stage: "preview" });
  }

  /** The connection is back, or there is room: what was not answered is asked again. */
  again() {
    if (!this.#asked) return;
    if (!this.#failed && !this.#running) {
      if (this.#waiting.has(this.#asked.id)) this.#wire.send({ type: "keep", id: this.#asked.id });
      return;
    }
    const { id, since, sent, ...job } = this.#asked;
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    this.#send(job, performance.now());
    if (waiting) this.#waiting.set(this.#asked.id, waiting);
  }

  /** What was on its way to history can be asked for again while it is the latest; else nobody will hear of it. */
  #lost() {
    for (const id of this.#waiting.keys()) if (id !== this.#asked?.id) this.#disappoint(id, "left");
    this.#tell("busy", { busy: false });
  }

  async #result({ header, parts }) {
    if (header.type !== "result" || header.id < this.#floor || header.id < this.#shown.id) return;
    const job = this.#sent.get(header.id);
    if (!job) return;
    const arrival = ++this.#arrived;
    let view;
    try {
      view = await decode(parts);
    } catch (error) {
      this.#tell("trouble", { code: "internal", message: error.message });
      return;
    }
    if (header.id < this.#floor || arrival < this.#shown.arrival) return; // something newer came while this was read
    this.#shown = { id: header.id, arrival };
    const latest = this.#asked?.id === header.id;
    if (latest) this.#failed = false; // a refusal without a number was of another message
    if (view.sheet || view.sound) this.#tell("result", { job, header, view, latest }); // a guess of a sound has neither
    if (latest) this.#tell("busy", { busy: !header.final, ...header });
    if (!header.final) return;
    onScreen((now) => this.#tell("latency", { id: job.id, task: job.task, ms: now - job.since, server: header.ms }));
    if (!latest) return;
    this.#final = { job, header, view, entry: null };
    const entry = twin(job, parts);
    if (entry) this.#stands(job.id, entry);
    else if (this.#waiting.has(job.id)) this.#wire.send({ type: "keep", id: job.id });
    else this.#settle();
  }

  /** A finished result is kept once nothing has changed for a while. */
  #settle() {
    if (this.unsaved) this.#rest = setTimeout(() => this.unsaved && this.keep().catch(() => {}), REST);
  }

  #message(message) {
    if (message.type === "kept") this.#kept(message);
    else if (message.type === "error") this.#error(message);
  }

  #kept({ id, entry }) {
    set({ entries: [entry, ...state.entries.filter((e) => e.id !== entry.id)] });
    this.#stands(id, entry);
  }

  /** That result is in history, as this entry. */
  #stands(id, entry) {
    if (this.#final?.job.id === id) this.#final.entry = entry;
    this.#tell("kept", { id, entry, current: this.#final?.job.id === id });
    this.#waiting.get(id)?.done(entry);
    this.#waiting.delete(id);
  }

  #error({ id, code, message }) {
    const asked = this.#asked?.id;
    if (id !== null && id !== asked) return;
    const there = this.#final?.job.id === asked;
    if (there && id === asked && code === "not_found") {
      this.#failed = true; // it was to be kept and is gone: make it again
      this.again();
      return;
    }
    if (code === "rate_limited" || code === "busy") {
      // What comes too fast is refused unread, so without a number: take it for the latest until that is answered.
      clearTimeout(this.#later);
      this.#later = setTimeout(() => asked === this.#asked?.id && !this.#running && this.again(), RETRY);
      if (there) return; // at most its keeping was refused
    } else this.#disappoint(asked, message);
    this.#failed = true;
    this.#tell("busy", { busy: false });
    this.#tell("trouble", { code, message });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * The entry that a result would only repeat, or null: the same words and the very same pixels and samples, where we
 * stand or with the same parent. A reload and a way back to a mode ask for what is in history already.
 */
function twin({ task, prompt, parent }, parts) {
  const near = (entry) => entry.id === state.entry?.id || entry.parent === parent;
  const alike = (entry) => parts.length === entry.parts.length && parts.every((p, i) => p.hash === entry.parts[i].hash);
  const said = (entry) => entry.task === task && entry.settings.prompt === prompt;
  return state.entries.find((entry) => near(entry) && alike(entry) && said(entry)) ?? null;
}

/** Calls back with the time at which what was just drawn is on the screen: after the frame, once it is painted. */
function onScreen(report) {
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => report(performance.now());
    port2.postMessage(0);
  });
}
