// The table of Audio Dataset and Encode Dataset: clips, whether they are used, captions, playing.

import { make, setStyle } from "../shared/elements.mjs";
import { fileUrl } from "../shared/runs.mjs";

export const HEIGHT = 170; // px
const STYLE = `
.sa3-clips { box-sizing: border-box; width: 100%; height: 100%; min-height: ${HEIGHT}px; overflow: auto;
  padding: 4px; border-radius: 6px; color: var(--input-text); background: var(--comfy-input-bg);
  font: 12px sans-serif; }
.sa3-clips table { width: 100%; border-collapse: collapse; }
.sa3-clips th { text-align: left; font-weight: normal; color: var(--descrip-text); }
.sa3-clips td { padding: 1px 4px 1px 0; vertical-align: top; }
.sa3-clips tr.sa3-refused { opacity: .65; }
.sa3-clips input { width: 100%; box-sizing: border-box; border: 1px solid transparent; border-radius: 3px;
  color: inherit; background: transparent; font: inherit; }
.sa3-clips input:focus, .sa3-clips input:hover { border-color: var(--border-color); }
.sa3-clips button { border: 0; padding: 0 4px; color: inherit; background: transparent; cursor: pointer; }`;

/** The widget's element and what is on it. */
export class ClipTable {
  /**
   * @param {(key: string, values?: Record<string, string>) => string} text
   * @param {((clip: string, caption: string) => void) | null} onCaption told of edits; null = none.
   */
  constructor(text, onCaption) {
    setStyle("sa3-clips-style", STYLE);
    this.text = text;
    this.onCaption = onCaption;
    this.player = new Audio();
    this.element = make("div", { className: "sa3-clips", role: "group", ariaLabel: text("clips") });
    this.element.append(text("clipsEmpty"));
    for (const name of ["pointerdown", "wheel", "keydown", "keyup"]) {
      this.element.addEventListener(name, (event) => event.stopPropagation());
    }
  }

  /** Show what a run found: [{clip, seconds, caption?, note, accepted, file?}]. */
  setRows(rows) {
    this.player.pause();
    const heads = ["", "clip", "clipSeconds", "clipCaption", "clipState"];
    const head = make("tr", {}, ...heads.map((key) => make("th", { scope: "col" }, key && this.text(key))));
    const body = rows.map((row) => this.#row(row));
    this.element.replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
  }

  #row(row) {
    const state = row.accepted ? (row.note || this.text("clipAccepted")) : row.note;
    const cells = [
      row.file ? this.#playButton(row) : "",
      row.clip,
      row.seconds.toFixed(1),
      row.caption === undefined ? "" : this.#caption(row),
      state,
    ];
    const className = row.accepted ? "" : "sa3-refused";
    return make("tr", { className }, ...cells.map((cell) => make("td", {}, cell)));
  }

  #playButton(row) {
    const button = make("button", { type: "button", ariaLabel: this.text("play"), title: row.clip }, "▶");
    button.addEventListener("click", () => {
      const url = fileUrl(row.file);
      const isPlaying = !this.player.paused && this.player.src.endsWith(url);
      if (isPlaying) {
        this.player.pause();
        return;
      }
      this.player.src = url;
      void this.player.play().catch(() => {}); // the row says what the server found
    });
    return button;
  }

  #caption(row) {
    if (!this.onCaption) return row.caption;
    const input = make("input", { value: row.caption, ariaLabel: `${this.text("clipCaption")}: ${row.clip}` });
    input.addEventListener("change", () => this.onCaption(row.clip, input.value.trim()));
    return input;
  }

  close() {
    this.player.pause();
  }
}
