// What is marked in the text of one node, and how a user looks at it.

import { isLinked } from "../shared/widgets.mjs";
import { readLines, readRegions, roundStart } from "./grammar.mjs";
import { maskedSpans } from "./masks.mjs";
import { snapTime } from "./snap.mjs";
import { Sound } from "./sound.mjs";
import { readWidgets, TEXT } from "./text.mjs";
import { UNKNOWN, View } from "./view.mjs";

const ON_GRID = 1e-4; // seconds; an end so near to the grid is meant to be on it
const ROOM = 1.25; // times what is marked, where nothing says how long the piece is
export const PROPERTY = "sa3Regions"; // of the node: how it is looked at, saved with the graph

export class RegionState {
  /**
   * @param {any} node
   * @param {() => void} onSound called when another sound is there, or none.
   */
  constructor(node, onSound) {
    this.node = node;
    this.view = new View();
    this.regions = [];
    this.spans = []; // what is made anew
    this.selected = -1;
    this.cursor = 0;
    this.pending = null; // {index, region} while it is dragged; index -1 = a new one
    this.row = 0; // the line that is edited, where each is a batch item
    this.stateKey = ""; // what was read last
    this.sound = new Sound(node, onSound);
  }

  /** Seconds of the source, NaN while it is not known. */
  get duration() {
    return this.sound.seconds;
  }

  get isLocked() {
    return isLinked(this.node, TEXT);
  }

  get snap() {
    return this.node.properties?.[PROPERTY]?.snap ?? "times";
  }

  get showsSpectrogram() {
    return this.node.properties?.[PROPERTY]?.spectrogram ?? false;
  }

  /** Read the widgets; false where they say what they said before. */
  readState() {
    const state = readWidgets(this.node);
    const key = JSON.stringify([state, this.duration, this.row, this.isLocked]);
    if (key === this.stateKey) return false;
    this.stateKey = key;
    this.state = state;
    const line = this.lineOf(state);
    const isOther = ({ from, to }) => line !== null && (from < line.from || to > line.to);
    const piece = { duration: this.duration, beat: state.beat };
    this.regions = readRegions(state.text, piece).map((region) => ({
      ...region,
      isOther: isOther(region),
    }));
    this.view.setTotal(this.lengthInSight());
    if (!this.isOwn(this.selected)) this.selected = -1;
    this.pending = null;
    this.mark();
    return true;
  }

  /** Seconds from the start to the end of the last region, or of the piece. */
  lengthInSight() {
    const ends = this.regions.filter(({ valid }) => valid).map(({ end }) => end);
    if (Number.isFinite(this.duration)) return Math.max(this.duration, ...ends);
    return Math.max(UNKNOWN, ...ends.map((end) => ROOM * end));
  }

  /** The line of the text that is edited; null where the lines do not count. */
  lineOf(state) {
    if (!state.perLine) return null;
    const lines = readLines(state.text);
    this.row = Math.min(this.row, lines.length);
    return lines[this.row] ?? { from: state.text.length, to: state.text.length };
  }

  /** Whether a region can be taken hold of. */
  isOwn(index) {
    const region = this.regions[index];
    return Boolean(region?.valid && !region.isOther);
  }

  /** The regions as they are drawn, the dragged one in its new place. */
  shown() {
    if (!this.pending) return this.regions;
    const { index, region } = this.pending;
    const moved = { ...this.regions[index], ...region, valid: true, isOther: false };
    return index < 0 ? [...this.regions, moved] : this.regions.with(index, moved);
  }

  mark() {
    const asked = this.shown().filter(({ valid, isOther }) => valid && !isOther);
    const duration = Number.isFinite(this.duration) ? this.duration : this.view.total;
    this.spans = asked.length ? maskedSpans(asked, { ...this.state, duration }) : [];
  }

  snapTime(time) {
    const crossings = this.sound.peaks?.crossings ?? null;
    const piece = { beat: this.state.beat, crossings, duration: this.duration, pixel: this.view.pixel };
    return Math.min(Math.max(snapTime(time, this.snap, piece), 0), this.view.total);
  }

  /** A region from another start on, as long as before. */
  movedTo(start, { start: oldStart, end: oldEnd }) {
    const length = oldEnd - oldStart;
    const last = Math.max(oldStart, this.view.total - length);
    const from = roundStart(Math.min(this.snapTime(start), last));
    const onGrid = this.snapTime(from + length);
    const isMeant = Math.abs(onGrid - from - length) < ON_GRID;
    return { start: from, end: isMeant ? onGrid : from + length };
  }
}
