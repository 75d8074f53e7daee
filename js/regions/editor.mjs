// The region editor of one node: what is marked, what is selected, and what a user does with it.

import {
  addRegion,
  formatHalves,
  formatRegion,
  readLines,
  readRegions,
  removeRegion,
  replaceRegion,
  roundStart,
} from "./grammar.mjs";
import { bindKeys } from "./keys.mjs";
import { maskedSpans } from "./masks.mjs";
import { bindScroll, buildPanel } from "./panel.mjs";
import { Player } from "./player.mjs";
import { bindPointer } from "./pointer.mjs";
import { Screen } from "./screen.mjs";
import { keyStep, snapTime } from "./snap.mjs";
import { Sound } from "./sound.mjs";
import { isLinked, readWidgets, writeText } from "./text.mjs";
import { UNKNOWN, View } from "./view.mjs";

const SHORTEST = 0.001; // seconds; a drag that marks less marks nothing
const ON_GRID = 1e-4; // seconds; an end so near to the grid is meant to be on it
const AT_END = 0.05; // seconds; from here on, playing starts over
const NEW_LENGTH = 1; // seconds of a region that the keyboard makes, a step of the grid at least
const ROOM = 1.25; // times what is marked, where nothing says how long the piece is
const PROPERTY = "sa3Regions"; // of the node: how it is looked at, saved with the graph

let editors = 0;

export class RegionEditor {
  /** Makes itself at home in an element of the node, until it is closed. */
  constructor(node, root) {
    this.node = node;
    this.id = `sa3-regions-${++editors}`;
    this.view = new View();
    this.regions = [];
    this.spans = []; // what is made anew
    this.selected = -1;
    this.cursor = 0;
    this.pending = null; // {index, region} while it is dragged; index -1 = a new one
    this.row = 0; // the line that is edited, where each is a batch item
    this.problem = "";
    this.panel = buildPanel(root);
    this.screen = new Screen(this);
    this.player = new Player(() => this.screen.draw());
    this.sound = new Sound(node, () => this.soundChanged());
    this.readState();
    this.bind();
  }

  /** Seconds of the source, NaN while it is not known. */
  get duration() {
    return this.sound.seconds;
  }

  get isLocked() {
    return isLinked(this.node);
  }

  get snap() {
    return this.node.properties?.[PROPERTY]?.snap ?? "frames";
  }

  get showsSpectrogram() {
    return this.node.properties?.[PROPERTY]?.spectrogram ?? false;
  }

  setLook(changes) {
    this.node.properties[PROPERTY] = { ...this.node.properties[PROPERTY], ...changes };
    this.lookChanged();
  }

  // What the widgets say.

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

  /** Follow the widgets after something else has changed them. */
  refresh() {
    this.graphId = this.node.graph?.id; // while it is removed the graph has none
    if (!this.readState()) return;
    this.screen.showItems();
    this.screen.listRegions();
    this.screen.draw(true);
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

  // Editing.

  /** Change the text, and select what stands at a place of it. */
  write(text, place = -1) {
    if (this.isLocked) return;
    this.problem = "";
    writeText(this.node, text);
    this.refresh();
    this.select(this.regions.findIndex(({ from, to }) => place >= from && place <= to));
    this.screen.announce();
  }

  snapTime(time) {
    const crossings = this.sound.peaks?.crossings ?? null;
    const piece = { beat: this.state.beat, crossings, duration: this.duration };
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

  preview(index, region) {
    this.pending = { index, region };
    this.mark();
    this.screen.draw();
  }

  dropPreview() {
    if (!this.pending) return;
    this.pending = null;
    this.mark();
    this.screen.draw();
  }

  commitPreview() {
    if (!this.pending) return;
    const { index, region } = this.pending;
    this.dropPreview();
    if (region.end - region.start < SHORTEST) return;
    if (index < 0) this.add(region);
    else this.change(index, region);
  }

  add(region) {
    const { text } = this.state;
    const line = this.lineOf(this.state);
    const isNewLine = line !== null && line.from === line.to && text.trim() !== "";
    const base = isNewLine ? `${text.trimEnd()}\n` : text;
    const at = isNewLine || line === null ? base.length : line.to;
    const changed = addRegion(base, region, at);
    this.write(changed, changed.length - (base.length - at));
  }

  change(index, region) {
    const old = this.regions[index];
    if (formatRegion(old) === formatRegion(region)) return;
    this.write(replaceRegion(this.state.text, old, region), old.from);
  }

  addAtCursor() {
    const start = this.snapTime(this.cursor);
    const length = Math.max(NEW_LENGTH, keyStep(this.snap, this.state.beat));
    const end = this.snapTime(start + length);
    if (end - start >= SHORTEST) this.add({ start, end });
  }

  removeSelected() {
    const region = this.regions[this.selected];
    if (region) this.write(removeRegion(this.state.text, region));
  }

  /** Split the selected region at the cursor, or in its middle where the cursor is elsewhere. */
  splitSelected() {
    const region = this.regions[this.selected];
    if (!region) return;
    const { start, end, from, to } = region;
    const isInside = (time) => time - start >= SHORTEST && end - time >= SHORTEST;
    const middle = (start + end) / 2;
    const at = [this.cursor, this.snapTime(middle), middle].find(isInside);
    if (at === undefined) return;
    const { text } = this.state;
    this.write(text.slice(0, from) + formatHalves(region, at) + text.slice(to), from);
  }

  /** Move the selected region ("both"), its "start" or its "end", or the cursor by one step. */
  nudge(side, direction) {
    const step = direction * keyStep(this.snap, this.state.beat);
    const region = this.regions[this.selected];
    if (!region) {
      this.setCursor(this.snapTime(this.cursor + step));
      return;
    }
    if (side === "both") {
      this.change(this.selected, this.movedTo(region.start + step, region));
      return;
    }
    const { start, end } = region;
    const changed = { start, end, [side]: this.snapTime(region[side] + step) };
    if (changed.end - changed.start >= SHORTEST) this.change(this.selected, changed);
  }

  // Selection, cursor and view.

  select(index) {
    if (index === this.selected) return;
    this.selected = index;
    this.screen.listRegions();
    this.screen.draw();
    if (index >= 0) this.screen.announce();
  }

  selectNext(direction) {
    const order = [...this.regions.keys()]
      .filter((index) => this.isOwn(index))
      .sort((a, b) => this.regions[a].start - this.regions[b].start);
    if (!order.length) return;
    const at = order.indexOf(this.selected);
    const next = at < 0 && direction < 0 ? order.length - 1 : at + direction;
    this.select(order[(next + order.length) % order.length]);
    this.view.reveal(this.regions[this.selected].start);
    this.screen.draw(true);
  }

  setCursor(time) {
    if (!Number.isFinite(time)) return;
    this.cursor = Math.min(Math.max(time, 0), this.view.total);
    this.view.reveal(this.cursor);
    this.screen.draw(true);
  }

  zoomBy(factor) {
    const { from, to } = this.view;
    const isInSight = this.cursor >= from && this.cursor <= to;
    this.view.zoom(factor, isInSight ? this.cursor : (from + to) / 2);
    this.screen.draw(true);
  }

  fit() {
    this.view.fit();
    this.screen.draw(true);
  }

  // Sound.

  togglePlay(onlyRegion = false) {
    if (this.player.isPlaying) this.player.stop();
    else this.play(onlyRegion);
  }

  play(onlyRegion) {
    const { source } = this.sound;
    if (!source || !this.sound.peaks) return;
    const region = onlyRegion ? this.regions[this.selected] : null;
    const start = region?.start ?? (this.cursor > this.duration - AT_END ? 0 : this.cursor);
    const end = Math.min(region?.end ?? Infinity, this.duration);
    this.player.play(source.file, start, end).catch((error) => {
      this.problem = error.message;
      this.screen.draw();
    });
  }

  toggleLoop() {
    this.player.loop = !this.player.loop;
    this.panel.loop.ariaPressed = String(this.player.loop);
  }

  soundChanged() {
    this.problem = "";
    this.player.release();
    this.refresh();
    this.screen.draw(true);
  }

  lookChanged() {
    this.panel.snap.value = this.snap;
    this.panel.spectrogram.ariaPressed = String(this.showsSpectrogram);
    this.sound.showImage(this.showsSpectrogram);
    this.screen.draw(true);
  }

  // Life.

  bind() {
    const { panel } = this;
    const cancel = bindPointer(this, panel.picture);
    bindKeys(this, panel.picture, cancel);
    bindScroll(panel, this.view, () => this.screen.draw(true));
    const clicks = {
      play: () => this.togglePlay(),
      playRegion: () => this.play(true),
      loop: () => this.toggleLoop(),
      spectrogram: () => this.setLook({ spectrogram: !this.showsSpectrogram }),
      split: () => this.splitSelected(),
      remove: () => this.removeSelected(),
      zoomIn: () => this.zoomBy(2),
      zoomOut: () => this.zoomBy(0.5),
      fit: () => this.fit(),
    };
    for (const [name, then] of Object.entries(clicks)) panel[name].addEventListener("click", then);
    panel.snap.addEventListener("change", () => this.setLook({ snap: panel.snap.value }));
    panel.item.addEventListener("change", () => {
      this.row = Number(panel.item.value);
      this.refresh();
    });
    // Otherwise pressing a button drags the node, and its keys work the graph.
    panel.tools.addEventListener("pointerdown", (event) => event.stopPropagation());
    panel.tools.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
    });
    panel.stage.addEventListener("pointerenter", () => this.update());
  }

  /** Follow whatever changed without telling; `anew`: files may have changed too. */
  update(anew = false) {
    this.refresh();
    this.sound.look(anew);
  }

  /** Start to follow the page: the node stands in a graph now. */
  open() {
    this.screen.open();
    this.lookChanged();
    this.update();
  }

  /** Stop everything that outlives the elements, and let go of them: the page may keep the node. */
  close() {
    this.screen.close();
    this.player.release();
    this.sound.clear();
    this.panel.root.replaceChildren();
  }
}
