// The list below a prompt box that completes tags while one types.

import { make, setStyle } from "../shared/elements.mjs";
import { suggest } from "./tags.mjs";

const LIST_ID = "sa3-suggestions";
const STYLE_ID = "sa3-suggestions-style";
const STYLE = `
#${LIST_ID} { position: fixed; z-index: 10000; margin: 0; padding: 4px; list-style: none; max-width: 320px;
  border: 1px solid var(--border-color); border-radius: 6px; background: var(--comfy-menu-bg);
  color: var(--input-text); font: 12px sans-serif; box-shadow: 0 4px 12px #0008; }
#${LIST_ID}[hidden] { display: none; }
#${LIST_ID} li { padding: 3px 8px; border-radius: 4px; cursor: pointer; }
#${LIST_ID} li[aria-selected="true"] { background: var(--p-primary-color, #2f7fd6); color: #fff; }`;

/** One list for the page, because one box has the focus. */
export class Suggestions {
  /** @param {(element: Element) => boolean} isPromptBox whether tags may be offered there. */
  constructor(isPromptBox) {
    this.isPromptBox = isPromptBox;
    this.box = null;
    this.start = 0; // of what is typed, in the box's text
    this.options = [];
    this.selected = 0;
    this.accepting = false;
    this.list = make("ul", { id: LIST_ID, role: "listbox", hidden: true });
    setStyle(STYLE_ID, STYLE);
    document.body.append(this.list);
    document.addEventListener("input", (event) => this.#onInput(event), true);
    document.addEventListener("keydown", (event) => this.#onKey(event), true);
    document.addEventListener("focusout", () => this.close(), true);
    document.addEventListener("wheel", () => this.close(), { capture: true, passive: true });
    // The box keeps the focus, so that its focusout does not close the list before the click.
    this.list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const entry = event.target.closest("li");
      if (entry) this.#accept([...this.list.children].indexOf(entry));
    });
  }

  #onInput(event) {
    if (this.accepting || !this.isPromptBox(event.target)) return;
    const box = event.target;
    const { start, options } = suggest(box.value.slice(0, box.selectionStart));
    if (!options.length || box.selectionStart !== box.selectionEnd) {
      this.close();
      return;
    }
    Object.assign(this, { box, start, options });
    this.#show();
  }

  #show() {
    this.list.replaceChildren(
      ...this.options.map((option, index) => {
        const entry = document.createElement("li");
        entry.id = `${LIST_ID}-${index}`;
        entry.setAttribute("role", "option");
        entry.textContent = option;
        return entry;
      }),
    );
    const place = this.box.getBoundingClientRect();
    this.list.hidden = false;
    const below = place.bottom + this.list.offsetHeight < window.innerHeight;
    this.list.style.left = `${place.left}px`;
    this.list.style.top = `${below ? place.bottom : Math.max(0, place.top - this.list.offsetHeight)}px`;
    this.box.setAttribute("aria-controls", LIST_ID);
    this.box.setAttribute("aria-autocomplete", "list");
    this.#select(0);
  }

  #select(index) {
    this.selected = index;
    for (const [at, entry] of [...this.list.children].entries()) {
      entry.setAttribute("aria-selected", String(at === index));
    }
    this.box.setAttribute("aria-activedescendant", `${LIST_ID}-${index}`);
  }

  #onKey(event) {
    if (this.list.hidden || event.target !== this.box) return;
    const count = this.options.length;
    if (event.key === "ArrowDown") this.#select((this.selected + 1) % count);
    else if (event.key === "ArrowUp") this.#select((this.selected + count - 1) % count);
    else if (event.key === "Tab" && !event.shiftKey) this.#accept(this.selected);
    else if (event.key === "Escape") this.close();
    else {
      if (event.key === "Enter") this.close(); // a new line is a new line
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #accept(index) {
    const { box, start } = this;
    const rest = box.value.slice(box.selectionEnd);
    const option = this.options[index];
    const isOpen = option.endsWith(": "); // a tag that wants its value next
    const added = isOpen || /^\s*[,.;]/.test(rest) ? option : `${option}, `;
    this.close();
    this.accepting = true;
    box.setRangeText(added, start, box.selectionEnd, "end");
    box.dispatchEvent(new InputEvent("input", { bubbles: true }));
    this.accepting = false;
    if (isOpen) box.dispatchEvent(new InputEvent("input", { bubbles: true }));
  }

  close() {
    this.list.hidden = true;
    this.box?.removeAttribute("aria-activedescendant");
  }
}
