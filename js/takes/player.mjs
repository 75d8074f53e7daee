// Plays one saved file at a time, and without a gap where it is looped.

export class CardPlayer {
  /** @param {() => void} onChange called when another file plays, or none. */
  constructor(onChange) {
    this.onChange = onChange;
    this.url = null; // of what plays
    this.isLooped = false;
    this.run = 0; // counts starts and stops, so that a late answer is not acted on
  }

  /** Share of the file that has been heard, from 0 to 1. */
  get share() {
    if (!this.source) return 0;
    const { duration } = this.source.buffer;
    const heard = Math.max(0, this.context.currentTime - this.startedAt);
    return this.isLooped ? (heard % duration) / duration : Math.min(1, heard / duration);
  }

  /** @throws {Error} where the file cannot be had. */
  async play(url, isLooped) {
    this.stop();
    const run = ++this.run;
    this.url = url;
    this.isLooped = isLooped;
    this.onChange();
    this.context ??= new AudioContext();
    try {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
      const buffer = await this.context.decodeAudioData(await answer.arrayBuffer());
      await this.context.resume();
      if (run === this.run) this.#start(buffer);
    } catch (error) {
      if (run === this.run) this.stop();
      throw error;
    }
  }

  #start(buffer) {
    const { run } = this;
    this.source = new AudioBufferSourceNode(this.context, { buffer, loop: this.isLooped });
    this.source.connect(this.context.destination);
    this.source.onended = () => run === this.run && this.stop();
    this.startedAt = this.context.currentTime;
    this.source.start();
    this.onChange();
  }

  setLooped(isLooped) {
    this.isLooped = isLooped;
    if (this.source) this.source.loop = isLooped;
  }

  stop() {
    this.run += 1;
    if (this.source) {
      this.source.onended = null;
      this.source.stop();
      this.source.disconnect();
    }
    this.source = this.url = null;
    this.onChange();
  }

  close() {
    this.stop();
    void this.context?.close();
    this.context = null;
  }
}
