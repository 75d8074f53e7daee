// Elements of ours in nodes: which one stands for which widget, and that it is the one on the page.
//
// Nodes 2.0 puts a widget's element into its node once. When a graph is built anew (undo, redo,
// another tab), it goes on showing the elements of the nodes that were there before under the same
// ids, and the new nodes' elements stay nowhere.

import { app } from "../../../scripts/app.js";
import { after, doNotSerialize } from "./widgets.mjs";

const NAME = "data-sa3-widget"; // attribute of our elements: their widget's name
const NODE = "data-node-id"; // attribute of nodes in Nodes 2.0
const WAIT = 250; // ms after which the page has drawn what it builds slowly

const placed = new Set(); // widgets of nodes that stand in a graph

/** The widget of a node, or of one inside it where the node is a subgraph, that an element is of. */
function widgetFor(node, name) {
  const own = node?.widgets?.find((widget) => widget.name === name && placed.has(widget));
  if (own || !node?.subgraph) return own;
  for (const inner of node.subgraph.nodes) {
    const found = widgetFor(inner, name);
    if (found && !found.element.isConnected) return found;
  }
  return undefined;
}

/** Put the widgets' elements where elements of earlier nodes still stand. */
function replaceStale() {
  const live = new Set([...placed].map((widget) => widget.element));
  for (const element of document.querySelectorAll(`[${NODE}] [${NAME}]`)) {
    if (live.has(element)) continue;
    const id = element.closest(`[${NODE}]`).getAttribute(NODE);
    const widget = widgetFor(app.canvas.graph?.getNodeById(id), element.getAttribute(NAME));
    if (widget) element.replaceWith(widget.element);
  }
}

let frame = 0;

function replaceSoon() {
  // One frame later than the page's own drawing.
  frame ||= requestAnimationFrame(() =>
    requestAnimationFrame(() => {
      frame = 0;
      replaceStale();
      setTimeout(replaceStale, WAIT);
    }),
  );
}

/**
 * Add an element to a node as a widget that is neither saved nor sent.
 *
 * @param {any} node
 * @param {string} name of the widget.
 * @param {HTMLElement} element
 * @param {object} options of the page's addDOMWidget.
 * @returns {any} the widget.
 */
export function placeElement(node, name, element, options) {
  element.setAttribute(NAME, name);
  const widget = node.addDOMWidget(name, `sa3_${name}`, element, options);
  doNotSerialize(widget);
  const enter = () => {
    placed.add(widget);
    replaceSoon();
  };
  if (node.graph) enter();
  after(node, "onAdded", enter);
  after(node, "onRemoved", () => placed.delete(widget));
  return widget;
}

/** Give a widget a height that neither it nor a taller node changes. */
export function fixHeight(widget, height) {
  widget.computeSize = (width) => [width ?? 0, height()];
  widget.computeLayoutSize = undefined; // else Nodes 2.0 gives it a share of what is left over
  const widgets = widget.node?.widgets;
  if (widgets?.at(-1) === widget) widgets.push(widgets.pop()); // which it may have read before
}
