// What Train SA3 LoRA shows: the loss as a curve, and previews to hear.

import { cleared } from "../shared/canvas.mjs";
import { make, setStyle } from "../shared/elements.mjs";
import { fileUrl } from "../shared/runs.mjs";

export const HEIGHT = 190; // px
const STYLE = `
.sa3-training { box-sizing: border-box; width: 100%; height: 100%; min-height: ${HEIGHT}px; display: flex;
  flex-direction: column; gap: 4px; padding: 4px; border-radius: 6px; color: var(--input-text);
  background: var(--comfy-input-bg); font: 12px sans-serif; }
.sa3-training canvas { flex: 1 1 0; min-height: 60px; width: 100%; }
.sa3-training-heard { max-height: 84px; overflow-y: auto; }
.sa3-training-heard:empty { display: none; }
.sa3-training-heard div { display: flex; gap: 6px; align-items: center; }
.sa3-training-heard span { flex: 1 1 0; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
.sa3-training audio { height: 26px; width: 60%; }`;

/** The widget's element and what is on it. */
export class LossView {
  constructor(text) {
    setStyle("sa3-training-style", STYLE);
    this.text = text;
    this.state = null;
    this.status = make("span", { role: "status" }, text("trainingEmpty"));
    this.canvas = make("canvas", { role: "img", ariaLabel: text("lossCurve") });
    this.heard = make("div", { className: "sa3-training-heard", role: "list", ariaLabel: text("trainingPreviews") });
    this.element = make("div", { className: "sa3-training", role: "group", ariaLabel: text("training") });
    this.element.append(this.status, this.canvas, this.heard);
    for (const name of ["pointerdown", "wheel"]) {
      this.element.addEventListener(name, (event) => event.stopPropagation());
    }
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas);
  }

  /** Take over what a run tells: {step, total, curve, validation, previews, text?}. */
  setState(state) {
    const before = this.state?.previews?.length ?? 0;
    this.state = state;
    const values = { step: String(state.step), total: String(state.total) };
    this.status.textContent = state.text ?? this.text("trainingDone", values);
    if (state.previews.length !== before) this.#showPreviews();
    this.draw();
  }

  #showPreviews() {
    const rows = this.state.previews.toReversed().map((preview) => {
      const player = make("audio", { controls: true, preload: "none", src: fileUrl(preview) });
      return make("div", { role: "listitem" }, make("span", { title: preview.label }, preview.label), player);
    });
    this.heard.replaceChildren(...rows);
  }

  draw() {
    const fitted = cleared(this.canvas);
    if (!fitted) return;
    const { context, width, height, ratio } = fitted;
    const { curve = [], validation = [], step = 0 } = this.state ?? {};
    if (!curve.length) return;
    const losses = [...curve, ...validation.map(([, loss]) => loss)];
    const low = Math.min(...losses);
    const span = Math.max(...losses) - low || 1;
    const place = (share, loss) => [share * (width - 2) + 1, height - 2 - ((loss - low) / span) * (height - 4)];
    const style = getComputedStyle(this.element);
    context.lineWidth = 1.5 * ratio;
    const line = (points, colour) => {
      context.strokeStyle = colour;
      context.beginPath();
      for (const [x, y] of points) context.lineTo(x, y);
      context.stroke();
    };
    const last = Math.max(1, curve.length - 1);
    line(curve.map((loss, index) => place(index / last, loss)), style.getPropertyValue("--p-primary-color") || "#4aa3ff");
    line(validation.map(([at, loss]) => place(at / Math.max(1, step), loss)), "#f0a050");
    context.fillStyle = style.color;
    context.font = `${10 * ratio}px sans-serif`;
    context.fillText((low + span).toPrecision(3), 2 * ratio, 10 * ratio);
    context.fillText(low.toPrecision(3), 2 * ratio, height - 3 * ratio);
  }

  close() {
    this.observer.disconnect();
    for (const player of this.heard.querySelectorAll("audio")) player.pause();
  }
}
