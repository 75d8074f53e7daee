// What a node of ours says about its run: lines of text below its widgets, in both renderers.

import { LINE_HEIGHT, make, setStyle } from "../shared/elements.mjs";
import { fixHeight, placeElement } from "../shared/places.mjs";
import { after, setHidden } from "../shared/widgets.mjs";

const WIDGET = "message";
const MOST_LINES = 6; // in sight; the rest is scrolled to
const MARGIN = 4;
const PADDING = 8; // px left and right of the text
const GAP = 4; // px that both renderers leave below a widget
const STYLE_ID = "sa3-message-style";
const STYLE = `
.sa3-message { box-sizing: border-box; width: 100%; padding: 0 ${PADDING}px; overflow: hidden auto;
  overflow-wrap: anywhere; white-space: pre-wrap; user-select: text; cursor: text;
  font: 12px/${LINE_HEIGHT}px sans-serif; color: var(--descrip-text, #999); }
.sa3-message:focus-visible { outline: 1px solid var(--p-primary-color, #4aa3ff); outline-offset: -1px; }
.sa3-measure { position: fixed; left: 0; top: 0; visibility: hidden; pointer-events: none; }`;

let measure = null; // one element for the page

/** Lines that a text takes at a width. */
function linesOf(text, width) {
  if (!measure) {
    setStyle(STYLE_ID, STYLE);
    measure = make("div", { className: "sa3-message sa3-measure", ariaHidden: "true" });
    document.body.append(measure);
  }
  measure.style.width = `${width}px`;
  measure.textContent = text;
  return Math.round(measure.scrollHeight / LINE_HEIGHT);
}

export class Message {
  /** @param {any} node */
  constructor(node) {
    this.node = node;
    this.text = "";
    this.isLive = false; // said while the node runs, and true only until it ends
    this.lines = 0; // the height that is shown
    this.width = 0; // px that the lines were counted for
    this.widget = null; // made with the first text, so that it stands last
    after(node, "onRemoved", () => this.widths?.disconnect());
    // A saved graph knows nothing of what a run said.
    after(node, "onSerialize", (data) => {
      if (this.lines) data.size = [data.size[0], data.size[1] - this.height - GAP];
    });
  }

  get height() {
    return this.lines * LINE_HEIGHT + 2 * MARGIN;
  }

  /** Say something; `isLive`: until the node ends. */
  say(text, isLive = false) {
    this.isLive = isLive;
    if (text !== this.text) this.#show(text);
    this.fit(); // also the same text: what held the height while it ran is over
  }

  #show(text) {
    this.text = text;
    if (text) this.#place();
    if (!this.widget) return;
    this.element.textContent = text;
    setHidden(this.widget, !text);
  }

  #place() {
    if (this.widget) return;
    setStyle(STYLE_ID, STYLE);
    this.element = make("div", { className: "sa3-message", role: "status", tabIndex: 0 });
    this.element.addEventListener("wheel", (event) => {
      if (this.element.scrollHeight > this.element.clientHeight) event.stopPropagation();
    });
    this.element.dataset.captureWheel = "true"; // Nodes 2.0: the wheel is ours while focused
    const options = { margin: MARGIN, hideOnZoom: false };
    this.widget = placeElement(this.node, WIDGET, this.element, options);
    fixHeight(this.widget, () => this.height);
    // Its width follows the node's, in each renderer in another way.
    this.widths = new ResizeObserver(() => {
      if (this.element.clientWidth && this.element.clientWidth !== this.width) this.fit();
    });
    this.widths.observe(this.element);
  }

  /** Take the room that the text needs; the node grows by it, so that no other widget shrinks. */
  fit() {
    if (!this.widget) return;
    const before = this.lines ? this.height + GAP : 0;
    const width = this.element.clientWidth || this.node.size[0] - 2 * MARGIN;
    const wanted = this.text ? Math.min(linesOf(this.text, width), MOST_LINES) : 0;
    // While it runs, the text changes every moment: the node must not jump. What was counted for
    // another width, as of an element that the page had not yet laid out, counts no more.
    const least = this.isLive && width === this.width ? this.lines : 0;
    this.width = width;
    const lines = Math.max(wanted, least);
    if (lines === this.lines) return;
    this.lines = lines;
    const pixels = `${lines * LINE_HEIGHT}px`;
    this.element.style.minHeight = this.element.style.maxHeight = pixels;
    const grown = (lines ? this.height + GAP : 0) - before;
    const [wide, high] = this.node.size;
    this.node.setSize([wide, high + grown]);
    this.node.setDirtyCanvas(true, true);
  }
}
