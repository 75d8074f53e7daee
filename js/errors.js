// An error while a node of ours runs stands in the node, and points at the widget that it names: of
// the node itself or of one before it, such as the seconds of an empty latent in the sampler.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { setStyle } from "./shared/elements.mjs";
import { nodeAt } from "./shared/runs.mjs";
import { findWidget } from "./shared/widgets.mjs";

const STYLE_ID = "sa3-errors";
const SHORTEST = 3; // letters of a name; shorter ones are words of any sentence
const COLOUR = "var(--error-text, #ff4444)";
const PAINTED = "#ff4444"; // a canvas knows no variables
const OUTLINE = "getOutlineColor"; // tells the canvas renderer what it strokes a widget with

const PATH = /(?<![\w/\\])(?:[A-Za-z]:)?[/\\](?:[^/\\:\n]+[/\\])+/g; // of a folder, up to the file's name

let marked = []; // {node, input} of the last error

/** Inputs of a node that a message can mean: those with a widget in sight come first. */
function candidatesOf(node, distance) {
  const isOurs = node.comfyClass?.startsWith("SA3");
  return (node.inputs ?? []).flatMap((input, index) => {
    const widget = findWidget(node, input.widget?.name);
    const isFolded = widget?.hidden && !widget.options.advanced; // not in this mode
    const counts = widget ? isOurs && !isFolded && input.link == null : distance === 0;
    return counts && input.name.length >= SHORTEST ? [{ node, index, input, distance }] : [];
  });
}

/** The node and those before it, nearest first. */
function withOrigins(node) {
  const found = [{ node, distance: 0 }];
  for (const { node: at, distance } of found) {
    for (const { link } of at.inputs ?? []) {
      const origin = link == null ? null : at.graph.getNodeById(at.graph.links.get(link)?.origin_id);
      if (origin && !found.some((known) => known.node === origin)) {
        found.push({ node: origin, distance: distance + 1 });
      }
    }
  }
  return found;
}

/** Where a message names an input; "the model's" names none. */
function placeIn(message, { name }) {
  const place = message.search(new RegExp(`(?<![\\w'])${name.replace(/\W/g, "\\$&")}(?!\\w|'s)`));
  return place < 0 ? Infinity : place;
}

/** The input that a message means: the one it names first, of a widget rather than of a socket. */
function meantInput(node, message) {
  const all = withOrigins(node).flatMap((known) => candidatesOf(known.node, known.distance));
  const ranked = all
    .map((one) => ({ ...one, at: placeIn(message, one.input), isSocket: !one.input.widget }))
    .filter(({ at }) => at < Infinity)
    .sort(
      (a, b) =>
        a.isSocket - b.isSocket ||
        a.at - b.at ||
        a.distance - b.distance ||
        b.input.name.length - a.input.name.length,
    );
  return ranked[0];
}

/** Outline a widget of the canvas renderer: one that it paints, or an element that it places. */
function outline(widget, isOn) {
  if (!widget) return;
  if (widget.element) widget.element.style.outline = isOn ? `2px solid ${COLOUR}` : "";
  else if (isOn) widget[OUTLINE] = () => PAINTED;
  else delete widget[OUTLINE]; // the class has its own
}

function mark({ node, index, input }) {
  if (!node.showAdvanced && findWidget(node, input.widget?.name)?.options.advanced) {
    findWidget(node, "advanced")?.callback();
  }
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
      const message = String(detail.exception_message ?? "").trim();
      if (!node || !message) return;
      // After the page has ended what the nodes said while they ran.
      setTimeout(() => node.sa3Message?.say(message.replace(PATH, "")));
      const meant = meantInput(node, message);
      if (meant) mark(meant);
    });
  },
});
