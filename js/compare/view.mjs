// The player of Compare Audio: its elements, and what one does with them.

import { cleared } from "../shared/canvas.mjs";
import { make, setStyle } from "../shared/elements.mjs";
import { fileUrl } from "../shared/runs.mjs";
import { TakesPlayer } from "./player.mjs";

export const HEIGHT = 150; // px
const SEEK = 2; // seconds of an arrow key
const STYLE = `
.sa3-compare { box-sizing: border-box; width: 100%; height: 100%; min-height: ${HEIGHT}px; display: flex;
  flex-direction: column; gap: 4px; padding: 4px; border-radius: 6px; color: var(--input-text);
  background: var(--comfy-input-bg); font: 12px sans-serif; outline-offset: -2px; }
.sa3-compare:focus-visible { outline: 2px solid var(--p-primary-color, #4aa3ff); }
.sa3-compare canvas { flex: 1 1 0; min-height: 40px; width: 100%; cursor: pointer; touch-action: none; }
.sa3-compare-row { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; }
.sa3-compare button { min-width: 28px; padding: 3px 8px; border-radius: 4px; cursor: pointer;
  border: 1px solid var(--border-color); color: inherit; background: transparent; font: inherit; }
.sa3-compare button[aria-checked="true"] { background: var(--p-primary-color, #2f7fd6); color: #fff; }
.sa3-compare button:disabled { opacity: .4; cursor: default; }
.sa3-compare-play::before { content: ""; display: block; width: 10px; height: 12px; margin: 1px auto;
  background: currentColor; clip-path: polygon(0 0, 100% 50%, 0 100%); }
.sa3-compare-play.sa3-playing::before { clip-path: polygon(0 0, 35% 0, 35% 100%, 65% 100%, 65% 0, 100% 0, 100% 100%, 0 100%); }
.sa3-compare label { display: flex; gap: 4px; align-items: center; }
.sa3-compare-time { margin-left: auto; font-variant-numeric: tabular-nums; }`;

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}.${Math.floor((seconds % 1) * 10)}`;
}

/** The widget's element and everything on it. */
export class CompareView {
  constructor(text) {
    setStyle("sa3-compare-style", STYLE);
    this.text = text;
    this.takes = [];
    this.regions = [];
    this.duration = 0;
    this.player = null;
    this.playButton = make("button", { type: "button", className: "sa3-compare-play", ariaLabel: text("play") });
    this.takeButtons = make("div", { className: "sa3-compare-row", role: "radiogroup", ariaLabel: text("takes") });
    this.match = make("input", { type: "checkbox", checked: true });
    this.time = make("span", { className: "sa3-compare-time" });
    this.status = make("span", { role: "status" });
    this.canvas = make("canvas", { role: "slider", ariaLabel: text("position"), ariaValueMin: "0" });
    const matchLabel = make("label", { title: text("matchLoudnessHelp") }, this.match, text("matchLoudness"));
    const row = make("div", { className: "sa3-compare-row" }, this.playButton, this.takeButtons, matchLabel, this.time);
    this.element = make("div", { className: "sa3-compare", tabIndex: 0, role: "group", ariaLabel: text("compare") });
    this.element.append(row, this.canvas, this.status);
    this.#listen();
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas);
    this.#showTakes();
  }

  #listen() {
    this.playButton.addEventListener("click", () => void this.toggle());
    this.match.addEventListener("change", () => this.player?.setMatched(this.match.checked));
    this.canvas.addEventListener("pointerdown", (event) => this.#drag(event));
    this.element.addEventListener("keydown", (event) => this.#onKey(event));
    // The canvas below must not take these for moving or deleting nodes.
    for (const name of ["pointerdown", "wheel", "keyup"]) {
      this.element.addEventListener(name, (event) => event.stopPropagation());
    }
  }

  /** Take over what a run made; the files are fetched when someone presses play. */
  setTakes(takes, regions, seconds) {
    this.player?.close();
    this.takes = takes;
    this.regions = regions ?? [];
    this.duration = seconds?.[0] ?? 0;
    const files = takes.map((take) => ({ url: fileUrl(take), level: take.level, gain: take.gain }));
    this.player = new TakesPlayer(files, () => this.#showState());
    this.player.setMatched(this.match.checked);
    this.status.textContent = "";
    this.#showTakes();
  }

  #showTakes() {
    const buttons = this.takes.map((take, index) => {
      const button = make("button", { type: "button", role: "radio" }, take.label);
      const loudness = take.lufs === null ? "" : `, ${take.lufs.toFixed(1)} LUFS`;
      button.title = `${take.label} (${index + 1}): ${take.seconds.toFixed(2)} s${loudness}`;
      button.addEventListener("click", () => this.choose(index));
      return button;
    });
    this.takeButtons.replaceChildren(...buttons);
    this.playButton.disabled = !this.takes.length;
    if (!this.takes.length) this.status.textContent = this.text("compareEmpty");
    this.#showState();
  }

  async toggle() {
    if (!this.player) return;
    try {
      if (this.player.playing) this.player.stop();
      else await this.player.play();
      this.status.textContent = "";
    } catch (error) {
      this.status.textContent = this.text("compareFailed", { error: String(error.message ?? error) });
    }
    this.#showState();
  }

  choose(index) {
    if (index >= this.takes.length) return;
    this.player.choose(index);
    this.#showState();
  }

  #seek(seconds) {
    if (!this.player) return;
    void this.player.seek(Math.min(Math.max(0, seconds), this.duration)).then(() => this.#showState());
    this.#showState();
  }

  #drag(event) {
    const { left, width } = this.canvas.getBoundingClientRect();
    this.#seek(((event.clientX - left) / width) * this.duration);
    this.element.focus({ preventScroll: true });
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const number = Number(event.key);
    const fromButton = event.target instanceof HTMLButtonElement || event.target === this.match;
    if (number >= 1 && number <= 4) this.choose(number - 1);
    else if (event.key === " " && !fromButton) void this.toggle();
    else if (event.key === "ArrowLeft") this.#seek(this.player?.position - SEEK);
    else if (event.key === "ArrowRight") this.#seek(this.player?.position + SEEK);
    else if (event.key === "Home") this.#seek(0);
    else {
      event.stopPropagation(); // Delete and the like are the graph's, not a player's
      return;
    }
    if (event.key !== " " || !fromButton) event.preventDefault();
    event.stopPropagation();
  }

  #showState() {
    const playing = Boolean(this.player?.playing);
    this.playButton.classList.toggle("sa3-playing", playing);
    this.playButton.setAttribute("aria-label", this.text(playing ? "pause" : "play"));
    for (const [index, button] of [...this.takeButtons.children].entries()) {
      button.setAttribute("aria-checked", String(index === this.player?.current));
    }
    this.draw();
    if (playing && !this.ticking) this.#tick();
  }

  #tick() {
    this.ticking = requestAnimationFrame(() => {
      this.ticking = null;
      if (!this.player?.playing || !this.element.isConnected) return;
      this.draw();
      this.#tick();
    });
  }

  draw() {
    const position = this.player?.position ?? 0;
    this.time.textContent = `${clock(position)} / ${clock(this.duration)}`;
    this.canvas.setAttribute("aria-valuemax", this.duration.toFixed(1));
    this.canvas.setAttribute("aria-valuenow", position.toFixed(1));
    const fitted = cleared(this.canvas);
    if (!fitted) return;
    const { context, width, height, ratio } = fitted;
    if (!this.duration) return;
    const style = getComputedStyle(this.element);
    context.fillStyle = "rgba(240, 160, 80, 0.28)";
    for (const [start, end] of this.regions) {
      context.fillRect((start / this.duration) * width, 0, ((end - start) / this.duration) * width, height);
    }
    this.#drawOutline(context, width, height, style.color);
    context.fillStyle = style.getPropertyValue("--p-primary-color") || "#4aa3ff";
    context.fillRect((position / this.duration) * width - ratio, 0, 2 * ratio, height);
  }

  #drawOutline(context, width, height, colour) {
    const outline = this.takes[this.player?.current ?? 0]?.outline ?? [];
    context.fillStyle = colour;
    context.globalAlpha = 0.7;
    const column = width / outline.length;
    for (const [index, [low, high]] of outline.entries()) {
      const top = ((1 - Math.min(1, high)) / 2) * height;
      const bottom = ((1 - Math.max(-1, low)) / 2) * height;
      context.fillRect(index * column, top, Math.max(1, column - 0.5), Math.max(1, bottom - top));
    }
    context.globalAlpha = 1;
  }

  close() {
    this.player?.close();
    this.observer.disconnect();
    if (this.ticking) cancelAnimationFrame(this.ticking);
  }
}
