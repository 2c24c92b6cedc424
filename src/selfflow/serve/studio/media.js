// Bytes to what can be drawn and heard. A picture or a clip becomes a sheet: its frames, one below the other.

import { asset } from "./api.js";

/** {canvas, width, height, frames, fps}: of one frame; of what is stored also its `hash`. */
class Sheet {
  constructor(source, frames = 1, fps = 0) {
    this.canvas = document.createElement("canvas");
    this.canvas.width = source.width;
    this.canvas.height = source.height;
    const context = this.canvas.getContext("2d");
    if (source instanceof ImageData) context.putImageData(source, 0, 0);
    else context.drawImage(source, 0, 0);
    this.width = source.width;
    this.height = source.height / frames;
    this.frames = frames;
    this.fps = fps;
  }

  draw(context, frame = 0, x = 0, y = 0) {
    const { width, height } = this;
    context.drawImage(this.canvas, 0, frame * height, width, height, x, y, width, height);
  }
}

/** Raw RGB rows to ImageData. */
export function rgb(data, width) {
  const image = new ImageData(width, data.length / 3 / width);
  const out = image.data;
  for (let i = 0, o = 0; i < data.length; o += 4) {
    out[o] = data[i++];
    out[o + 1] = data[i++];
    out[o + 2] = data[i++];
    out[o + 3] = 255;
  }
  return image;
}

async function sheet(part) {
  const frames = part.name === "clip" ? part.frames : 1;
  if (part.mime === "image/rgb") return new Sheet(rgb(part.data, part.width), frames, part.fps);
  return new Sheet(await createImageBitmap(new Blob([part.data], { type: part.mime })), frames, part.fps);
}

/** {samples, rate, seconds} of a 16-bit PCM WAV file; several channels become their mean. */
function wav(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tag = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (tag(0) !== "RIFF" || tag(8) !== "WAVE") throw new Error("The sound is not a WAV file.");
  let channels = 1, rate = 0;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true);
    if (tag(at) === "fmt ") {
      channels = view.getUint16(at + 10, true);
      rate = view.getUint32(at + 12, true);
    } else if (tag(at) === "data") {
      const count = Math.floor(Math.min(size, bytes.length - at - 8) / 2 / channels);
      const samples = new Float32Array(count);
      for (let i = 0; i < count; i++) {
        let sum = 0;
        for (let c = 0; c < channels; c++) sum += view.getInt16(at + 8 + 2 * (i * channels + c), true);
        samples[i] = sum / channels / 32768;
      }
      return { samples, rate, seconds: count / rate };
    }
    at += 8 + size + (size & 1);
  }
  throw new Error("The WAV file holds no sound.");
}

/** {sheet, sound}, either of them null, of a message's parts. */
export async function decode(parts) {
  const seen = parts.find((part) => part.name !== "sound");
  const heard = parts.find((part) => part.name === "sound");
  return { sheet: seen ? await sheet(seen) : null, sound: heard ? wav(heard.data) : null };
}

const kept = new Map(); // hash → promise; assets never change
const MOST = 64;

function remembered(key, make) {
  if (!kept.has(key)) {
    const promise = make();
    promise.catch(() => kept.delete(key));
    kept.set(key, promise);
    if (kept.size > MOST) kept.delete(kept.keys().next().value);
  }
  return kept.get(key);
}

/** The sheet of a stored picture or clip. */
export const sheetOf = (hash, frames = 1, fps = 0) =>
  remembered(`${hash}/${frames}`, async () =>
    Object.assign(new Sheet(await createImageBitmap(await asset(hash)), frames, fps), { hash }));

/** The sound of that hash. */
const soundOf = (hash) =>
  remembered(hash, async () => wav(new Uint8Array(await (await asset(hash)).arrayBuffer())));

/** {sheet, sound} of an entry of history. */
export async function partsOf(entry) {
  const seen = entry.parts.find((part) => part.name !== "sound");
  const heard = entry.parts.find((part) => part.name === "sound");
  return {
    sheet: seen ? await sheetOf(seen.hash, seen.name === "clip" ? seen.frames : 1, seen.fps ?? 0) : null,
    sound: heard ? await soundOf(heard.hash) : null,
  };
}

/** A canvas as a PNG Blob. */
export const png = (canvas) =>
  new Promise((done, failed) =>
    canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("The picture could not be written."))), "image/png"),
  );
