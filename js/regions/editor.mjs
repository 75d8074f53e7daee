// The region editor of one node: what is marked, what is selected, and what follows from it.

import { texts } from "../texts.js";
import { peaks, spectrograms } from "./data.mjs";
import { drawMarks, drawSound, readTheme } from "./draw.mjs";
import {
  addRegion,
  formatRegion,
  formatSeconds,
  readLines,
  readRegions,
  removeRegion,
  replaceRegion,
} from "./grammar.mjs";
import { bindKeys } from "./keys.mjs";
import { maskedSpans } from "./masks.mjs";
import { bindScroll, buildPanel, listRegions, namePanel } from "./panel.mjs";
import { Player } from "./player.mjs";
import { bindPointer } from "./pointer.mjs";
import { gridStep, keyStep, snapTime } from "./snap.mjs";
import { findSource } from "./source.mjs";
import { isLinked, readWidgets, writeText } from "./text.mjs";
import { View } from "./view.mjs";

const SHORTEST = 0.001; // seconds; a drag that marks less marks nothing
const PROPERTY = "sa3Regions"; // of the node: how it is looked at, saved with the graph

let editors = 0;

export class RegionEditor {
  constructor(node) {
    this.node = node;
    this.id = `sa3-regions-${++editors}`;
    this.view = new View();
    this.regions = [];
    this.spans = [];
    this.selected = -1;
    this.cursor = 0;
    this.pending = null; // {index, region} while it is dragged
    this.row = 0; // the line that is edited, where each is a batch item
    this.source = this.peaks = this.image = this.theme = null;
    this.height = 1;
    this.problem = "";
    this.frame = 0;
    this.say = (key) => key;
    this.panel = buildPanel();
    this.player = new Player(() => this.draw());
    this.readState();
    this.bind();
  }

  /** Seconds of the source, NaN while it is not known. */
  get duration() {
    return this.peaks?.seconds ?? NaN;
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
    const before = this.node.properties[PROPERTY];
    this.node.properties[PROPERTY] = { ...before, ...changes };
    this.lookChanged();
  }

  // --- what the widgets say

  /** Read the widgets. */
  readState() {
    const state = readWidgets(this.node);
    const key = JSON.stringify([state, this.duration, this.row, this.isLocked]);
    if (key === this.stateKey) return false;
    this.stateKey = key;
    this.state = state;
    const piece = { duration: this.duration, beat: state.beat };
    const line = this.lineOf(state);
    this.regions = readRegions(state.text, piece).map((region) => ({
      ...region,
      isOther: line !== null && !(region.from >= line.from && region.to <= line.to),
    }));
    const ends = this.regions.filter(({ valid }) => valid).map(({ end }) => end);
    const own = Number.isFinite(this.duration) ? this.duration : 0;
    const known = own || (ends.length ? 1.25 * Math.max(...ends) : 0);
    this.view.setTotal(Math.max(known, ...ends));
    if (!(this.regions[this.selected]?.valid && !this.regions[this.selected].isOther)) {
      this.selected = -1;
    }
    this.mark();
    return true;
  }

  /** The line of the text that is edited; null where the lines do not count. */
  lineOf(state) {
    if (!state.perLine) return null;
    const lines = readLines(state.text);
    this.row = Math.min(this.row, lines.length);
    const end = { from: state.text.length, to: state.text.length };
    return lines[this.row] ?? end;
  }

  /** Follow the widgets after something else has changed them. */
  refresh() {
    if (!this.readState()) return;
    this.pending = null;
    this.mark();
    this.showItems();
    this.listRegions();
    this.viewChanged();
  }

  /** Change the text, and select what stands at a place of it. */
  write(text, place = -1) {
    if (this.isLocked) return;
    this.pending = null;
    writeText(this.node, text);
    this.refresh();
    this.select(this.regions.findIndex(({ from, to }) => place >= from && place <= to));
    this.announce();
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

  // --- editing

  snapTime(time) {
    const piece = {
      beat: this.state.beat,
      crossings: this.peaks?.crossings ?? null,
      duration: this.duration,
    };
    return Math.min(Math.max(snapTime(time, this.snap, piece), 0), this.view.total);
  }

  preview(index, region) {
    this.pending = { index, region };
    this.mark();
    this.draw();
  }

  dropPreview() {
    if (!this.pending) return;
    this.pending = null;
    this.mark();
    this.draw();
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
    const step = keyStep(this.snap, this.state.beat);
    const end = Math.min(start + Math.max(1, step), this.view.total);
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
    const parts = [{ start, end: at }, { start: at, end }].map(formatRegion).join(", ");
    const { text } = this.state;
    this.write(text.slice(0, from) + parts + text.slice(to), from);
  }

  nudge(side, direction) {
    const step = direction * keyStep(this.snap, this.state.beat);
    const region = this.regions[this.selected];
    if (!region) {
      this.setCursor(this.snapTime(this.cursor + step));
      return;
    }
    const { start, end } = region;
    const limit = Math.max(this.view.total, end);
    if (side === "both") {
      const moved = Math.min(this.snapTime(start + step), Math.max(0, limit - (end - start)));
      this.change(this.selected, { start: moved, end: moved + end - start });
    } else {
      const changed = { start, end, [side]: this.snapTime(region[side] + step) };
      if (changed.end - changed.start >= SHORTEST) this.change(this.selected, changed);
    }
  }

  // --- selection, cursor, view

  select(index) {
    if (index === this.selected) return;
    this.selected = index;
    this.listRegions();
    this.draw();
    if (index >= 0) this.announce();
  }

  selectNext(direction) {
    const order = [...this.regions.keys()]
      .filter((index) => this.regions[index].valid && !this.regions[index].isOther)
      .sort((a, b) => this.regions[a].start - this.regions[b].start);
    if (!order.length) return;
    const at = order.indexOf(this.selected);
    const next = at < 0 ? (direction > 0 ? 0 : order.length - 1) : at + direction;
    this.select(order[(next + order.length) % order.length]);
    this.view.reveal(this.regions[this.selected].start);
    this.viewChanged();
  }

  setCursor(time) {
    if (!Number.isFinite(time)) return;
    this.cursor = Math.min(Math.max(time, 0), this.view.total);
    this.view.reveal(this.cursor);
    this.viewChanged();
  }

  zoomBy(factor) {
    const middle = (this.view.from + this.view.to) / 2;
    const isInSight = this.cursor >= this.view.from && this.cursor <= this.view.to;
    this.view.zoom(factor, isInSight ? this.cursor : middle);
    this.viewChanged();
  }

  fit() {
    this.view.fit();
    this.viewChanged();
  }

  // --- playing

  togglePlay(onlyRegion = false) {
    if (this.player.isPlaying) this.player.stop();
    else this.play(onlyRegion);
  }

  play(onlyRegion) {
    if (!this.source) return;
    const region = onlyRegion ? this.regions[this.selected] : null;
    const atEnd = this.cursor >= this.duration - 0.05;
    const start = region ? region.start : atEnd ? 0 : this.cursor;
    const end = region ? Math.min(region.end, this.duration) : this.duration;
    this.player.play(this.source.file, start, end).catch((error) => this.fail(error));
  }

  toggleLoop() {
    this.player.loop = !this.player.loop;
    this.panel.loop.ariaPressed = String(this.player.loop);
  }

  // --- the sound

  /** Find out what sounds here and fetch its picture; `anew` = the file may have changed. */
  async look(anew = false) {
    const source = findSource(this.node);
    if (source?.key === this.source?.key && !anew) return;
    if (source?.key !== this.source?.key) this.player.release();
    this.source = source;
    this.setSound(source && peaks.known(source), source && spectrograms.known(source));
    if (!source) return;
    try {
      const found = await peaks.load(source);
      if (this.source === source) this.setSound(found, this.image);
      if (this.showsSpectrogram) await this.loadImage(source);
    } catch (error) {
      if (this.source === source) this.fail(error);
    }
  }

  async loadImage(source) {
    const image = await spectrograms.load(source);
    if (this.source === source) this.setSound(this.peaks, image);
  }

  setSound(found, image) {
    this.problem = "";
    this.peaks = found;
    this.image = image;
    this.readState();
    this.viewChanged();
  }

  fail(error) {
    this.problem = error.message;
    this.draw();
  }

  lookChanged() {
    this.panel.snap.value = this.snap;
    this.panel.spectrogram.ariaPressed = String(this.showsSpectrogram);
    if (this.showsSpectrogram && this.source && !this.image) {
      this.loadImage(this.source).catch((error) => this.fail(error));
    }
    this.viewChanged();
  }

  // --- showing

  viewChanged() {
    this.isStale = true;
    this.draw();
  }

  /** Draw with the next frame of the screen. */
  draw() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.drawNow();
    });
  }

  drawNow() {
    const { view, height, panel } = this;
    this.theme ??= readTheme(panel.root);
    const scene = { view, height, theme: this.theme };
    if (this.isStale) {
      this.isStale = false;
      const spectrogram = this.showsSpectrogram ? this.image : null;
      const grid = gridStep(this.snap, this.state.beat);
      drawSound(panel.sound, { ...scene, grid, peaks: this.peaks, spectrogram });
      panel.thumb.style.left = `${(100 * view.from) / view.total}%`;
      panel.thumb.style.width = `${(100 * view.span) / view.total}%`;
    }
    const playhead = this.player.time;
    const { spans, cursor, duration } = this;
    const selected = this.pending?.index === -1 ? this.regions.length : this.selected;
    const regions = this.shown();
    drawMarks(panel.marks, { ...scene, spans, regions, selected, cursor, playhead, duration });
    const isSelected = this.selected >= 0;
    panel.split.disabled = panel.remove.disabled = panel.playRegion.disabled = !isSelected;
    panel.play.textContent = this.player.isPlaying ? "\u25a0" : "\u25b6";
    panel.play.disabled = !this.source;
    const sentence = this.sentence();
    if (panel.says.textContent !== sentence) panel.says.textContent = sentence;
  }

  /** What the line below the picture says. */
  sentence() {
    if (this.problem) return this.problem;
    if (this.isLocked) return this.say("regionsLinked");
    const active = this.pending?.region ?? this.regions[this.selected];
    if (active) return this.describe(active);
    const wrong = this.regions.filter(({ valid }) => !valid);
    if (wrong.length) {
      const text = wrong.map(({ from, to }) => this.state.text.slice(from, to)).join(", ");
      return this.say("regionsWrong", { text });
    }
    if (!this.source) return this.say("regionsSilent");
    const seconds = formatSeconds(this.duration);
    return this.peaks ? `${this.source.name} (${seconds} s)` : this.source.name;
  }

  describe({ start, end }) {
    const made = this.spans.filter((span) => span.start < end && span.end > start);
    const text = (span) => `${span.start.toFixed(3)}-${span.end.toFixed(3)}`;
    return this.say("regionsOne", {
      asked: text({ start, end }),
      length: (end - start).toFixed(3),
      made: made.map(text).join(", ") || "-",
    });
  }

  announce() {
    this.panel.status.textContent = this.sentence();
  }

  listRegions() {
    const labels = this.regions.map((region, index) =>
      this.say("regionsOption", { number: index + 1, text: formatRegion(region) }),
    );
    listRegions(this.panel, labels, this.selected, this.id);
  }

  /** The choice of the batch item whose line is edited. */
  showItems() {
    const { item } = this.panel;
    item.hidden = !this.state.perLine;
    if (!this.state.perLine) return;
    const count = readLines(this.state.text).length + 1;
    const numbers = Array.from({ length: count }, (_, row) => row);
    item.replaceChildren(...numbers.map((row) => new Option(String(row + 1), String(row))));
    item.value = String(this.row);
  }

  // --- life

  bind() {
    const { panel } = this;
    const cancel = bindPointer(this, panel.picture);
    bindKeys(this, panel.picture, cancel);
    bindScroll(panel, this.view, () => this.viewChanged());
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
    panel.root.addEventListener("pointerenter", () => this.update());
  }

  /** Take over whatever changed without telling. */
  update(anew = false) {
    this.refresh();
    void this.look(anew);
  }

  /** Start to live on a page: the node stands in a graph now. */
  open() {
    this.sizes = new ResizeObserver(([entry]) => {
      this.view.width = Math.max(1, entry.contentRect.width);
      this.height = Math.max(1, entry.contentRect.height);
      this.viewChanged();
    });
    this.sizes.observe(this.panel.stage);
    this.themes = new MutationObserver(() => {
      this.theme = null;
      this.viewChanged();
    });
    for (const element of [document.documentElement, document.body]) {
      this.themes.observe(element, { attributeFilter: ["class", "style"] });
    }
    void texts().then((say) => {
      this.say = say;
      namePanel(this.panel, say);
      this.listRegions();
      this.draw();
    });
    this.lookChanged();
    this.update();
  }

  /** Stop everything that outlives the node's elements. */
  close() {
    this.sizes?.disconnect();
    this.themes?.disconnect();
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.player.release();
    this.source = this.peaks = this.image = null;
  }
}
