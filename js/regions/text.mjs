// The node's widgets that the editor reads, and the one it writes.

import { app } from "../../../scripts/app.js";

export const TEXT = "regions";
export const SETTINGS = ["bpm", "beats_per_bar", "rule", "invert", "one_list_per_line"];

function findWidget(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** Whether the text comes over a link, so that the widget does not count. */
export function isLinked(node) {
  return node.inputs?.some((input) => input.widget?.name === TEXT && input.link != null) ?? false;
}

/** The node's widgets as the editor needs them. */
export function readWidgets(node) {
  const value = (name) => findWidget(node, name)?.value;
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
    if (!widget) continue;
    const before = widget.callback;
    widget.callback = function (...args) {
      const result = before?.apply(this, args);
      then();
      return result;
    };
  }
}
