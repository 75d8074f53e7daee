// The node's widgets that the editor reads, and the one it writes.

import { app } from "../../../scripts/app.js";
import { after, findWidget, valueOf } from "../shared/widgets.mjs";

export const TEXT = "regions";
export const SETTINGS = ["bpm", "beats_per_bar", "rule", "invert", "one_list_per_line"];

/** The node's widgets as the editor needs them. */
export function readWidgets(node) {
  const value = (name) => valueOf(node, name);
  const bpm = Number(value("bpm"));
  return {
    text: String(value(TEXT) ?? ""),
    beat: { seconds: bpm > 0 ? 60 / bpm : NaN, perBar: Number(value("beats_per_bar")) || 4 },
    rule: value("rule"),
    invert: Boolean(value("invert")),
    perLine: Boolean(value("one_list_per_line")),
  };
}

/** Change the text as one step of the frontend's undo. */
export function writeText(node, text) {
  const widget = findWidget(node, TEXT);
  app.canvas?.emitBeforeChange?.();
  try {
    widget.value = text;
    widget.callback?.(text, app.canvas, node);
  } finally {
    app.canvas?.emitAfterChange?.();
  }
  node.setDirtyCanvas?.(true, true);
}

/** Call `then` whenever a user changes one of these widgets. */
export function watchWidgets(node, then) {
  for (const name of [TEXT, ...SETTINGS]) {
    const widget = findWidget(node, name);
    if (widget) after(widget, "callback", () => then());
  }
}
