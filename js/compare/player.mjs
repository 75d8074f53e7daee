// Plays several takes in step: every one runs all the time, and only one is heard.

const RAMP = 0.008; // seconds of the crossfade between takes: no click, no gap

export class TakesPlayer {
  /**
   * @param {{url: string, level: number, gain: number}[]} takes level: what the file was stored
   *   lower by; gain: to equal loudness.
   * @param {() => void} onEnd called when the end is reached.
   */
  constructor(takes, onEnd) {
    this.takes = takes;
    this.onEnd = onEnd;
    this.current = 0;
    this.matched = true;
    this.offset = 0; // where it stands while it does not play, in seconds
    this.voices = [];
    this.startedAt = null; // context time at which second 0 would have been heard
    this.loading = null;
    this.run = 0; // counts starts and stops, so that a late answer is not acted on
  }

  get playing() {
    return this.startedAt !== null;
  }

  get position() {
    if (!this.playing) return this.offset;
    const now = Math.max(0, this.context.currentTime - this.startedAt);
    return Math.min(now, this.duration ?? now);
  }

  /** Fetch and decode all takes once; the context is only made when someone wants to listen. */
  async load() {
    this.context ??= new AudioContext();
    this.loading ??= Promise.all(this.takes.map(({ url }) => this.#decode(url)));
    try {
      this.buffers = await this.loading;
    } catch (error) {
      this.loading = null; // the next try may succeed
      throw error;
    }
    this.duration = Math.max(...this.buffers.map((buffer) => buffer.duration));
  }

  async #decode(url) {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    return this.context.decodeAudioData(await answer.arrayBuffer());
  }

  async play() {
    const run = ++this.run;
    await this.load();
    await this.context.resume();
    if (run !== this.run || this.playing) return;
    if (this.offset >= this.duration - 0.01) this.offset = 0;
    const when = this.context.currentTime + 0.02;
    this.voices = this.buffers.map((buffer, index) => this.#voice(buffer, index, when));
    this.startedAt = when - this.offset;
    const [longest] = [...this.voices].sort((a, b) => b.source.buffer.duration - a.source.buffer.duration);
    longest.source.onended = () => {
      if (run !== this.run) return;
      this.stop();
      this.offset = 0;
      this.onEnd();
    };
  }

  #voice(buffer, index, when) {
    const source = new AudioBufferSourceNode(this.context, { buffer });
    const gain = new GainNode(this.context, { gain: this.#level(index) });
    source.connect(gain).connect(this.context.destination);
    source.start(when, this.offset);
    return { source, gain };
  }

  #level(index) {
    if (index !== this.current) return 0;
    const { level, gain } = this.takes[index];
    return level * (this.matched ? gain : 1);
  }

  stop() {
    this.run += 1;
    this.offset = this.position;
    for (const { source, gain } of this.voices) {
      source.onended = null;
      source.stop();
      gain.disconnect();
    }
    this.voices = [];
    this.startedAt = null;
  }

  async seek(seconds) {
    const wasPlaying = this.playing;
    if (wasPlaying) this.stop();
    this.offset = Math.max(0, seconds);
    if (wasPlaying) await this.play();
  }

  choose(index) {
    this.current = index;
    this.#apply();
  }

  setMatched(matched) {
    this.matched = matched;
    this.#apply();
  }

  /** Move all gains to what is chosen, without a jump. */
  #apply() {
    for (const [index, { gain }] of this.voices.entries()) {
      const now = this.context.currentTime;
      gain.gain.cancelScheduledValues(now);
      gain.gain.setValueAtTime(gain.gain.value, now);
      gain.gain.linearRampToValueAtTime(this.#level(index), now + RAMP);
    }
  }

  close() {
    this.stop();
    void this.context?.close();
    this.context = this.loading = null;
  }
}
