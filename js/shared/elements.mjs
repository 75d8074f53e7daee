// Elements of the page that several of our nodes make.

import { fixHeight, placeElement } from "./places.mjs";

export const LINE_HEIGHT = 16; // px

/**
 * Make an element.
 *
 * @param {string} tag
 * @param {Record<string, unknown>} properties as scripts name them: className, ariaLabel, tabIndex.
 * @param {...(Node | string)} children
 * @returns {any} the element; which kind it is depends on the tag.
 */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Put style rules on the page, in place of what stood under this id. */
export function setStyle(id, rules) {
  let style = document.getElementById(id);
  if (!style) {
    style = make("style", { id });
    document.head.append(style);
  }
  if (style.textContent !== rules) style.textContent = rules;
}

/**
 * Add lines of text to a node that say how something stands.
 *
 * @param {any} node
 * @param {{widget: string, className: string, lines: number, margin: number}} place
 * @returns {HTMLElement}
 */
export function addStatusLine(node, { widget, className, lines, margin }) {
  const element = make("div", { className, role: "status" });
  element.style.cssText = `box-sizing: border-box; width: 100%; height: 100%;
    min-height: ${lines * LINE_HEIGHT}px; padding: 0 8px; overflow: hidden auto; white-space: pre-line;
    font: 12px/${LINE_HEIGHT}px sans-serif; color: var(--descrip-text);`;
  const height = lines * LINE_HEIGHT + 2 * margin;
  fixHeight(placeElement(node, widget, element, { margin }), () => height);
  return element;
}
