// The takes of a run, one below the other: waveform, play, loop, seed, and what to do with one.

import { peaks } from "../shared/sounds.mjs";
import { cleared } from "../shared/canvas.mjs";
import { make, setStyle } from "../shared/elements.mjs";
import { fileUrl } from "../shared/runs.mjs";
import { rollAgain, samplerOf, useAsSource } from "./graph.mjs";
import { CardPlayer } from "./player.mjs";
import { seedsOf } from "./seeds.mjs";

const ROW = 34; // px
const MOST_ROWS = 5; // in sight; the rest is scrolled to
const LINE = 18; // px of what the cards say
const LEAST_BINS = 200; // of a waveform that looks like one
const STYLE_ID = "sa3-cards-style";
const STYLE = `
.sa3-cards { box-sizing: border-box; width: 100%; overflow: hidden auto; color: var(--input-text, #ddd);
  font: 12px sans-serif; }
.sa3-card { display: flex; align-items: center; gap: 4px; height: ${ROW - 4}px; margin-bottom: 4px;
  padding: 0 4px; border-radius: 6px; background: var(--comfy-input-bg, #222); }
.sa3-card canvas { flex: 1 1 40px; min-width: 0; width: 40px; height: 26px; }
.sa3-card button { flex: none; min-width: 24px; height: 22px; padding: 0 5px; border-radius: 4px; font: inherit;
  border: 1px solid var(--border-color, #4e4e4e); color: inherit; background: transparent; cursor: pointer; }
.sa3-card button[aria-pressed="true"] { background: var(--p-primary-color, #2f7fd6); color: #fff; }
.sa3-card button:disabled { opacity: .4; cursor: default; }
.sa3-seed { flex: none; max-width: 60px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  color: var(--descrip-text, #999); font-variant-numeric: tabular-nums; }
.sa3-cards-says { height: ${LINE}px; overflow: hidden; white-space: nowrap; text-overflow: ellipsis;
  color: var(--descrip-text, #999); }`;

export class TakeCards {
  /**
   * @param {any} node
   * @param {(key: string, values?: Record<string, string>) => string} text
   */
  constructor(node, text) {
    setStyle(STYLE_ID, STYLE);
    this.node = node;
    this.text = text;
    this.cards = [];
    this.player = new CardPlayer(() => this.show());
    this.list = make("div", { role: "list", ariaLabel: text("takes") });
    this.says = make("div", { className: "sa3-cards-says", role: "status" });
    this.element = make("div", { className: "sa3-cards" }, this.list, this.says);
    for (const name of ["pointerdown", "wheel"]) {
      this.element.addEventListener(name, (event) => event.stopPropagation());
    }
  }

  get height() {
    return this.cards.length ? Math.min(this.cards.length, MOST_ROWS) * ROW + LINE : 0;
  }

  /** Take over a run's files and what it says of their seeds. */
  setFiles(files, made) {
    this.player.stop();
    const seeds = seedsOf(made, files.length);
    const sampler = samplerOf(made);
    this.cards = files.map((file, index) => this.#card(file, { seeds, sampler, index }));
    this.list.replaceChildren(...this.cards.map(({ row }) => row));
    this.says.textContent = "";
    for (const card of this.cards) void this.#load(card);
    this.show();
  }

  #card(file, { seeds, sampler, index }) {
    const { text } = this;
    const button = (label, title, action) => {
      const made = make("button", { type: "button", textContent: label, title, ariaLabel: title });
      made.addEventListener("click", () => void this.#try(action));
      return made;
    };
    const card = { url: fileUrl(file), file, isLooped: false, canvas: make("canvas") };
    card.play = button("\u25b6", text("play"), () => this.#toggle(card));
    card.loop = button("\u21bb", text("cardLoop"), () => this.#toggleLoop(card));
    const seed = make("span", { className: "sa3-seed" }, seeds ? seeds[index] : "");
    seed.title = seeds ? `${text("cardSeed", { seed: seeds[index] })}, ${file.filename}` : file.filename;
    const use = button("\u2192", text("cardSource"), async () => {
      const name = await useAsSource(this.node, file);
      this.says.textContent = text("cardSent", { file: name });
    });
    const again = button("\u2684", text("cardAgain"), () => rollAgain(sampler, seeds, index));
    again.disabled = !seeds || !sampler;
    const parts = [card.play, card.canvas, card.loop, seed, use, again];
    card.row = make("div", { className: "sa3-card", role: "listitem", ariaLabel: file.filename }, ...parts);
    return card;
  }

  async #try(action) {
    try {
      this.says.textContent = "";
      await action();
    } catch (error) {
      this.says.textContent = this.text("compareFailed", { error: String(error.message ?? error) });
    }
  }

  #toggle(card) {
    if (this.player.url === card.url) return this.player.stop();
    return this.player.play(card.url, card.isLooped);
  }

  #toggleLoop(card) {
    card.isLooped = !card.isLooped;
    if (this.player.url === card.url) this.player.setLooped(card.isLooped);
    this.show();
  }

  async #load(card) {
    const { filename, subfolder, type } = card.file;
    const key = `${type}/${subfolder}/${filename}`;
    try {
      const found = await peaks.load({ key, file: { filename, subfolder, type } });
      const isFine = ({ pairs }) => pairs.length >= 2 * LEAST_BINS;
      card.pairs = (found.levels.findLast(isFine) ?? found.levels[0]).pairs;
      this.show();
    } catch {
      // A file that is gone, or of a format that cannot be drawn: its buttons say the rest.
    }
  }

  /** Draw what is true now. */
  show() {
    for (const card of this.cards ?? []) {
      const plays = this.player.url === card.url;
      card.play.textContent = plays ? "\u25a0" : "\u25b6";
      card.play.ariaPressed = String(plays);
      card.play.ariaLabel = this.text(plays ? "pause" : "play");
      card.loop.ariaPressed = String(card.isLooped);
      draw(card, plays ? this.player.share : 0);
    }
    if (this.player?.url && !this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        if (this.element.isConnected) this.show();
      });
    }
  }

  close() {
    this.player.close();
    cancelAnimationFrame(this.frame);
  }
}

function draw({ canvas, pairs }, share) {
  const fitted = cleared(canvas);
  if (!fitted || !pairs) return;
  const { context, width, height } = fitted;
  const count = pairs.length / 2;
  const style = getComputedStyle(canvas);
  const heard = style.getPropertyValue("--p-primary-color").trim() || "#4aa3ff";
  for (let x = 0; x < width; x++) {
    const first = Math.floor((x / width) * count);
    const last = Math.max(first + 1, Math.floor(((x + 1) / width) * count));
    let [low, high] = [0, 0];
    for (let bin = first; bin < last; bin++) {
      low = Math.min(low, pairs[2 * bin]);
      high = Math.max(high, pairs[2 * bin + 1]);
    }
    context.fillStyle = x < share * width ? heard : style.color;
    const top = ((1 - high / 127) / 2) * height;
    context.fillRect(x, top, 1, Math.max(1, ((high - low) / 254) * height));
  }
}
