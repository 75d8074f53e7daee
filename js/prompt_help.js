// The prompt box of Text Encode T5Gemma: tags are completed, and tokens counted below it.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { suggest } from "./prompt_tags.js";
import { texts } from "./texts.js";
import { after, doNotSerialize } from "./widgets.js";

const NODE = "SA3TextEncode";
const PROMPT = "text";
const PER_LINE = "one_prompt_per_line";
const COUNTER = "tokens";
const WAIT = 250; // ms without a key before tokens are counted
const LINE_HEIGHT = 16; // px
const LIST_ID = "sa3-suggestions";
const STYLE = `
#${LIST_ID} { position: fixed; z-index: 10000; margin: 0; padding: 4px; list-style: none; max-width: 320px;
  border: 1px solid var(--border-color); border-radius: 6px; background: var(--comfy-menu-bg);
  color: var(--input-text); font: 12px sans-serif; box-shadow: 0 4px 12px #0008; }
#${LIST_ID}[hidden] { display: none; }
#${LIST_ID} li { padding: 3px 8px; border-radius: 4px; cursor: pointer; }
#${LIST_ID} li[aria-selected="true"] { background: var(--p-primary-color, #2f7fd6); color: #fff; }`;

function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

// --- tokens ---------------------------------------------------------------------------------------
async function count(node) {
  const asked = { text: String(widgetOf(node, PROMPT).value ?? ""), lines: Boolean(widgetOf(node, PER_LINE)?.value) };
  const answer = await api.fetchApi("/sa3/tokens", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(asked),
  });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer.json();
}

async function describe({ counts, limit, exact }) {
  const text = await texts();
  const longest = Math.max(...counts);
  const values = { count: counts.join(" + "), limit: String(limit) };
  if (!exact) return text("tokensEstimated", values);
  return text(longest > limit ? "tokensCut" : "tokensCounted", values);
}

async function update(node) {
  const counter = node.sa3Tokens;
  const asked = (counter.asked = (counter.asked ?? 0) + 1);
  let text = "";
  let isTooLong = false;
  if (node.inputs.some((input) => input.widget?.name === PROMPT && input.link != null)) {
    text = (await texts())("tokensLinked");
  } else {
    try {
      const found = await count(node);
      isTooLong = Math.max(...found.counts) > found.limit;
      text = await describe(found);
    } catch (error) {
      text = String(error.message ?? error);
    }
  }
  if (asked !== counter.asked) return; // a later answer is on its way
  counter.textContent = text;
  counter.style.color = isTooLong ? "var(--error-text, #f55)" : "var(--descrip-text)";
}

function updateSoon(node) {
  clearTimeout(node.sa3TokensTimer);
  node.sa3TokensTimer = setTimeout(() => void update(node), WAIT);
}

function addCounter(node) {
  const element = document.createElement("div");
  element.className = "sa3-tokens";
  element.setAttribute("role", "status");
  element.style.cssText = `box-sizing: border-box; width: 100%; min-height: ${LINE_HEIGHT}px; padding: 0 8px;
    overflow: hidden; font: 12px/${LINE_HEIGHT}px sans-serif;`;
  node.sa3Tokens = element;
  const height = () => LINE_HEIGHT + 4;
  const options = { margin: 2, getMinHeight: height, getMaxHeight: height };
  doNotSerialize(node.addDOMWidget(COUNTER, "sa3_tokens", element, options));
}

// --- completion -----------------------------------------------------------------------------------
/** The list below a prompt box; one for the page, because one box has the focus. */
class Suggestions {
  constructor() {
    this.list = document.createElement("ul");
    this.list.id = LIST_ID;
    this.list.setAttribute("role", "listbox");
    this.list.hidden = true;
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
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
    const node = promptNode(event.target);
    if (node) updateSoon(node); // not every renderer tells the widget of each key
    if (!node || this.accepting) return;
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

/** The node of ours whose prompt box an element is, in either renderer; or undefined. */
function promptNode(element) {
  if (!(element instanceof HTMLTextAreaElement)) return undefined;
  const graph = app.canvas.graph;
  const id = element.closest("[data-node-id]")?.dataset.nodeId;
  const nodes = id === undefined ? (graph?.nodes ?? []) : [graph?.getNodeById(id)];
  return nodes.find((node) => {
    if (node?.comfyClass !== NODE) return false;
    return id !== undefined || widgetOf(node, PROMPT)?.element === element;
  });
}

app.registerExtension({
  name: "SA3.PromptHelp",

  setup() {
    new Suggestions();
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    addCounter(node);
    for (const name of [PROMPT, PER_LINE]) {
      const widget = widgetOf(node, name);
      if (widget) after(widget, "callback", () => updateSoon(node));
    }
    after(node, "onConfigure", () => updateSoon(node)); // a loaded graph, undo, paste
    after(node, "onConnectionsChange", () => updateSoon(node));
    after(node, "onRemoved", () => clearTimeout(node.sa3TokensTimer));
    updateSoon(node);
  },
});
