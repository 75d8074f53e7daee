// The sound that an editor shows: which file it is, its peaks and its spectrogram.

import { peaks, spectrograms, unpackOutline } from "../shared/sounds.mjs";
import { findSource } from "./source.mjs";

export class Sound {
  /**
   * @param {any} node
   * @param {() => void} onChange called when there is something else to show.
   */
  constructor(node, onChange) {
    this.node = node;
    this.onChange = onChange;
    this.wantsImage = false;
    this.outline = null; // of what the node had in its last run
    this.clear();
  }

  clear() {
    this.source = this.peaks = this.image = null;
    this.problem = "";
  }

  /** Seconds, NaN while they are not known. */
  get seconds() {
    return this.peaks?.seconds ?? NaN;
  }

  /** Find out what sounds at the node; `anew`: the file may have changed. */
  look(anew) {
    const source = findSource(this.node);
    const isSame = source?.key === this.source?.key;
    if (isSame && !anew) return;
    this.source = source;
    if (!isSame) {
      this.peaks = source ? peaks.known(source) : this.outline;
      this.image = source && spectrograms.known(source);
      this.problem = "";
      this.onChange();
    }
    if (source) void this.load(source);
  }

  /** What a run says of the source: shown where no file is known. */
  offer(outline) {
    if (!outline) return;
    this.outline = unpackOutline(outline);
    if (this.source) return;
    this.peaks = this.outline;
    this.onChange();
  }

  async load(source) {
    await this.take(source, "peaks", peaks);
    if (this.wantsImage) await this.take(source, "image", spectrograms);
  }

  async take(source, name, answers) {
    try {
      const value = await answers.load(source);
      if (this.source !== source || this[name] === value) return;
      this[name] = value;
      this.problem = "";
    } catch (error) {
      if (this.source !== source) return;
      this.problem = error.message;
    }
    this.onChange();
  }

  /** Fetch the spectrogram too, or do not from now on. */
  showImage(isWanted) {
    this.wantsImage = isWanted;
    if (isWanted && this.source && !this.image) void this.take(this.source, "image", spectrograms);
  }
}
