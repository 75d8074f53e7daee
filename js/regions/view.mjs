// The part of the piece that is in sight, and where a time lies in it.

const SHORTEST = 0.25; // seconds
export const UNKNOWN = 30; // seconds to show at least while no audio says how long it is

export class View {
  constructor() {
    this.total = UNKNOWN;
    this.from = 0;
    this.to = UNKNOWN;
    this.width = 1; // CSS pixels
  }

  /** Tell how long the piece is; what showed all of it goes on doing so. */
  setTotal(seconds) {
    if (seconds === this.total) return;
    const isWhole = this.from === 0 && this.to === this.total;
    this.total = seconds;
    if (isWhole) this.fit();
    else this.show(this.from, this.to - this.from);
  }

  get span() {
    return this.to - this.from;
  }

  /** Seconds that a pixel stands for. */
  get pixel() {
    return this.span / this.width;
  }

  x(time) {
    return ((time - this.from) / this.span) * this.width;
  }

  time(x) {
    return this.from + (x / this.width) * this.span;
  }

  /** Show a span of some length from a time on, as far as the piece allows. */
  show(from, span) {
    const length = Math.min(Math.max(span, SHORTEST), this.total);
    this.from = Math.min(Math.max(from, 0), this.total - length);
    this.to = length === this.total ? this.total : this.from + length;
  }

  fit() {
    this.from = 0;
    this.to = this.total;
  }

  /** Zoom in (factor > 1) or out; what is at `time` stays where it is. */
  zoom(factor, time) {
    const span = this.span / factor;
    const share = (time - this.from) / this.span;
    this.show(time - share * Math.min(Math.max(span, SHORTEST), this.total), span);
  }

  scroll(seconds) {
    this.show(this.from + seconds, this.span);
  }

  /** Scroll until a time is in sight. */
  reveal(time) {
    if (time < this.from) this.show(time - 0.1 * this.span, this.span);
    else if (time > this.to) this.show(time - 0.9 * this.span, this.span);
  }
}
