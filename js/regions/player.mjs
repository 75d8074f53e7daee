// Plays the source, or a part of it, once or round and round.

import { fileUrl } from "../shared/runs.mjs";

export class RegionPlayer {
  /** @param {() => void} onChange called when it starts, moves and stops. */
  constructor(onChange) {
    this.onChange = onChange;
    this.audio = null;
    this.part = null;
    this.loop = false;
    this.frame = 0;
  }

  get isPlaying() {
    return this.part !== null;
  }

  /** Seconds, or null while nothing plays. */
  get time() {
    return this.part ? this.audio.currentTime : null;
  }

  /** Play a file from `start` to `end` seconds. */
  async play(file, start, end) {
    this.stop();
    const url = fileUrl(file);
    if (this.audio?.dataset.url !== url) {
      this.release();
      this.audio = new Audio(url);
      this.audio.dataset.url = url;
    }
    const part = { start, end };
    this.part = part;
    this.audio.currentTime = start;
    try {
      await this.audio.play();
    } catch (error) {
      if (this.part === part) this.stop();
      throw error;
    }
    if (this.part === part) this.follow();
  }

  follow() {
    if (!this.part) return;
    const { start, end } = this.part;
    const isOver = this.audio.ended || this.audio.currentTime >= end;
    if (isOver && !this.loop) {
      this.stop();
      return;
    }
    if (isOver) {
      this.audio.currentTime = start;
      if (this.audio.paused) this.audio.play().catch(() => this.stop());
    }
    this.onChange();
    this.frame = requestAnimationFrame(() => this.follow());
  }

  stop() {
    cancelAnimationFrame(this.frame);
    if (!this.part) return;
    this.audio.pause();
    this.part = null;
    this.onChange();
  }

  /** Stop and let go of the file. */
  release() {
    this.stop();
    this.audio?.removeAttribute("src");
    this.audio?.load();
    this.audio = null;
  }
}
