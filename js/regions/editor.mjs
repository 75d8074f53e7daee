// The region editor of one node: what is marked, what is selected, and what a user does with it.

import {
  addRegion,
  formatHalves,
  formatRegion,
  removeRegion,
  replaceRegion,
} from "./grammar.mjs";
import { bindKeys } from "./keys.mjs";
import { bindScroll, buildPanel } from "./panel.mjs";
import { RegionPlayer } from "./player.mjs";
import { bindPointer } from "./pointer.mjs";
import { Screen } from "./screen.mjs";
import { keyStep } from "./snap.mjs";
import { PROPERTY, RegionState } from "./state.mjs";
import { writeText } from "./text.mjs";

const SHORTEST = 0.001; // seconds; a drag that marks less marks nothing
const AT_END = 0.05; // seconds; from here on, playing starts over
const NEW_LENGTH = 1; // seconds of a region that the keyboard makes, a step of the grid at least

let editors = 0;

export class RegionEditor extends RegionState {
  /** Makes itself at home in an element of the node, until it is closed. */
  constructor(node, root) {
    super(node, () => this.soundChanged());
    this.id = `sa3-regions-${++editors}`;
    this.problem = "";
    this.panel = buildPanel(root);
    this.screen = new Screen(this);
    this.player = new RegionPlayer(() => this.screen.draw());
    this.readState();
    this.bind();
  }

  setLook(changes) {
    this.node.setProperty(PROPERTY, { ...this.node.properties[PROPERTY], ...changes });
    this.lookChanged();
  }

  /** Follow the widgets after something else has changed them. */
  refresh() {
    this.graphId = this.node.graph?.id; // while it is removed the graph has none
    if (!this.readState()) return;
    this.screen.showItems();
    this.screen.listRegions();
    this.screen.draw(true);
  }

  /** How far an arrow key goes, in seconds. */
  get keyStep() {
    return keyStep(this.snap, this.state.beat, this.view.pixel);
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
    const length = Math.max(NEW_LENGTH, this.keyStep);
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
    const step = direction * this.keyStep;
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
