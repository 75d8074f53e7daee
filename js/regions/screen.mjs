// Shows an editor: draws with the frames of the screen, and says in words what is seen.

import { texts } from "../shared/texts.mjs";
import { drawMarks, drawSound, readTheme } from "./draw.mjs";
import { formatRegion, formatSeconds, readLines } from "./grammar.mjs";
import { FRAME } from "./masks.mjs";
import { listRegions, namePanel } from "./panel.mjs";
import { gridStep } from "./snap.mjs";

export class Screen {
  constructor(editor) {
    this.editor = editor;
    this.panel = editor.panel;
    this.theme = null;
    this.height = 1;
    this.frame = 0;
    this.isStale = true; // the canvas of the sound
    this.say = (key, _values) => key; // until the texts are there
  }

  /** Draw marks with the next frame; with `all` the sound too. */
  draw(all = false) {
    this.isStale ||= all;
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.drawNow();
    });
  }

  drawNow() {
    const { editor, height } = this;
    this.theme ??= readTheme(this.panel.root);
    const scene = { view: editor.view, height, theme: this.theme };
    if (this.isStale) this.drawSound(scene);
    drawMarks(this.panel.marks, {
      ...scene,
      spans: editor.spans,
      regions: editor.shown(),
      selected: editor.pending?.index === -1 ? editor.regions.length : editor.selected,
      cursor: editor.cursor,
      playhead: editor.player.time,
      duration: editor.duration,
    });
    this.showTools();
    const sentence = this.sentence();
    if (this.panel.says.textContent !== sentence) this.panel.says.textContent = sentence;
  }

  drawSound(scene) {
    const { editor, panel } = this;
    const { view, sound } = editor;
    this.isStale = false;
    const spectrogram = editor.showsSpectrogram ? sound.image : null;
    const grid = editor.snap === "times" ? FRAME : gridStep(editor.snap, editor.state.beat);
    drawSound(panel.sound, { ...scene, grid, peaks: sound.peaks, spectrogram });
    panel.thumb.style.left = `${(100 * view.from) / view.total}%`;
    panel.thumb.style.width = `${(100 * view.span) / view.total}%`;
  }

  showTools() {
    const { editor, panel } = this;
    const isSelected = editor.selected >= 0;
    panel.split.disabled = panel.remove.disabled = !isSelected || editor.isLocked;
    panel.playRegion.disabled = !isSelected || !editor.sound.source;
    panel.play.disabled = !editor.sound.source;
    const symbol = editor.player.isPlaying ? "\u25a0" : "\u25b6";
    if (panel.play.textContent !== symbol) panel.play.textContent = symbol;
  }

  /** What the line below the picture says. */
  sentence() {
    const { sound, state, regions, selected, pending, isLocked } = this.editor;
    const problem = this.editor.problem || sound.problem;
    if (problem) return problem;
    if (isLocked) return this.say("regionsLinked");
    const active = pending?.region ?? regions[selected];
    if (active) return this.describe(active);
    const wrong = regions.filter(({ valid }) => !valid);
    if (wrong.length) {
      const text = wrong.map(({ from, to }) => state.text.slice(from, to)).join(", ");
      return this.say("regionsWrong", { text });
    }
    if (!sound.source && !sound.peaks) return this.say("regionsSilent");
    if (!sound.source) return `${formatSeconds(sound.seconds)} s`;
    const length = sound.peaks ? ` (${formatSeconds(sound.seconds)} s)` : "";
    return sound.source.name + length;
  }

  describe({ start, end }) {
    const text = (span) => `${span.start.toFixed(3)}-${span.end.toFixed(3)}`;
    const made = this.editor.spans.filter((span) => span.start < end && span.end > start);
    return this.say("regionsOne", {
      asked: text({ start, end }),
      length: (end - start).toFixed(3),
      made: made.map(text).join(", ") || "-",
    });
  }

  /** Say it to those who do not see it. */
  announce() {
    this.panel.status.textContent = this.sentence();
  }

  listRegions() {
    const { regions, selected, id } = this.editor;
    const labels = regions.map((region, index) =>
      this.say("regionsOption", { number: index + 1, text: formatRegion(region) }),
    );
    listRegions(this.panel, labels, selected, id);
  }

  /** The choice of the batch item whose line is edited. */
  showItems() {
    const { item } = this.panel;
    const { state, row } = this.editor;
    item.hidden = !state.perLine;
    if (!state.perLine) return;
    const count = readLines(state.text).length + 1;
    const rows = Array.from({ length: count }, (_, index) => index);
    item.replaceChildren(...rows.map((index) => new Option(String(index + 1), String(index))));
    item.value = String(row);
  }

  /** Watch size, theme and language. */
  open() {
    this.sizes = new ResizeObserver(([{ contentRect }]) => {
      this.editor.view.width = Math.max(1, contentRect.width);
      this.height = Math.max(1, contentRect.height);
      this.draw(true);
    });
    this.sizes.observe(this.panel.stage);
    this.themes = new MutationObserver(() => {
      this.theme = null;
      this.draw(true);
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
  }

  close() {
    this.sizes?.disconnect();
    this.themes?.disconnect();
    cancelAnimationFrame(this.frame);
    this.frame = 0;
  }
}
