// An error while a node of ours runs points at the input it names, as ComfyUI does before a run.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { setStyle } from "./shared/elements.mjs";
import { nodeAt } from "./shared/runs.mjs";
import { findWidget } from "./shared/widgets.mjs";

const STYLE_ID = "sa3-errors";
const SHORTEST = 3; // letters of a name; shorter ones are words of any sentence
const COLOUR = "var(--error-text, #ff4444)";
const PAINTED = "#ff4444"; // a canvas knows no variables
const OUTLINE = "outline_color"; // what the canvas renderer strokes a widget with

let marked = []; // {node, input} of the last error

/** Index of the input that a message names first, or -1. */
function namedInput(inputs, message) {
  let best = { at: Infinity, length: 0, index: -1 };
  for (const [index, { name }] of inputs.entries()) {
    if (name.length < SHORTEST) continue;
    const at = message.search(new RegExp(`(?<!\\w)${name.replace(/\W/g, "\\$&")}(?!\\w)`));
    if (at < 0) continue;
    if (at < best.at || (at === best.at && name.length > best.length)) {
      best = { at, length: name.length, index };
    }
  }
  return best.index;
}

/** Outline a widget of the canvas renderer: one that it paints, or an element that it places. */
function outline(widget, isOn) {
  if (!widget) return;
  if (widget.element) widget.element.style.outline = isOn ? `2px solid ${COLOUR}` : "";
  else if (isOn) Object.defineProperty(widget, OUTLINE, { value: PAINTED, configurable: true });
  else if (Object.getOwnPropertyDescriptor(widget, OUTLINE)?.value === PAINTED) delete widget[OUTLINE];
}

function mark(node, index) {
  const input = node.inputs[index];
  input.hasErrors = true; // what the canvas renderer draws a ring for
  outline(findWidget(node, input.widget?.name), true);
  const slot = `[data-slot-key="${node.id}-in-${index}"]`;
  // Nodes 2.0 draws inputs itself; a style rule survives its drawing anew.
  setStyle(STYLE_ID, `.lg-node-widget:has(${slot}), .lg-slot:has(${slot}) {
    outline: 2px solid ${COLOUR}; outline-offset: -1px; border-radius: 6px; }`);
  marked.push({ node, input });
  node.setDirtyCanvas(true, true);
}

function clear() {
  for (const { node, input } of marked) {
    input.hasErrors = false;
    outline(findWidget(node, input.widget?.name), false);
    node.setDirtyCanvas?.(true, true);
  }
  marked = [];
  setStyle(STYLE_ID, "");
}

app.registerExtension({
  name: "SA3.Errors",

  setup() {
    api.addEventListener("execution_start", clear);
    api.addEventListener("execution_error", ({ detail }) => {
      if (!detail?.node_type?.startsWith("SA3")) return;
      clear();
      const node = nodeAt(detail.node_id);
      const index = node?.inputs ? namedInput(node.inputs, detail.exception_message ?? "") : -1;
      if (index >= 0) mark(node, index);
    });
  },
});
