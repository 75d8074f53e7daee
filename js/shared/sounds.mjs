// Peaks and spectrograms from the server, kept while they are likely to be needed again.

import { api } from "../../../scripts/api.js";

const KEPT = 4; // files
const NO_CROSSING = 255;

/** A cache of the last few answers; each is fetched again, but the old one serves meanwhile. */
class Answers {
  constructor(route, unpack) {
    this.route = route;
    this.unpack = unpack;
    this.kept = new Map();
  }

  known(source) {
    return this.kept.get(source.key)?.value ?? null;
  }

  /** @throws {Error} with the server's words. */
  async load(source) {
    const query = new URLSearchParams(source.file);
    const answer = await api.fetchApi(`${this.route}?${query}`);
    if (!answer.ok) throw new Error((await answer.text()) || answer.statusText);
    const tag = answer.headers.get("ETag");
    const old = this.kept.get(source.key);
    const value = old?.tag === tag ? old.value : this.unpack(await answer.json());
    this.kept.delete(source.key);
    this.kept.set(source.key, { tag, value });
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    return value;
  }
}

function bytes(text) {
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < out.length; i++) out[i] = binary.charCodeAt(i);
  return out;
}

function unpackPeaks({ seconds, rate, levels, crossings }) {
  const unpacked = levels.map(({ bin, pairs }) => ({
    seconds: bin / rate, // of a bin
    pairs: new Int8Array(bytes(pairs).buffer),
  }));
  const places = { places: bytes(crossings), bin: levels[0].bin, rate, none: NO_CROSSING };
  return { seconds, levels: unpacked, crossings: places };
}

/** What a run says of its source, where no file is known: one level, and no zero crossings. */
export function unpackOutline({ seconds, pairs }) {
  const values = new Int8Array(bytes(pairs).buffer);
  const level = { seconds: seconds / (values.length / 2), pairs: values };
  return { seconds, levels: [level], crossings: null };
}

function unpackSpectrogram({ columns, rows, pixels }) {
  const levels = bytes(pixels);
  const image = new ImageData(columns, rows);
  for (let i = 0; i < levels.length; i++) {
    const level = levels[i]; // dark blue, magenta, yellow
    image.data[4 * i] = Math.min(255, level * 1.6);
    image.data[4 * i + 1] = Math.max(0, level * 2 - 255);
    image.data[4 * i + 2] = level < 128 ? 40 + level : Math.max(60, 296 - level);
    image.data[4 * i + 3] = 255;
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

export const peaks = new Answers("/sa3/peaks", unpackPeaks);
export const spectrograms = new Answers("/sa3/spectrogram", unpackSpectrogram);
