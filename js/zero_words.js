// Numbers whose 0 has a meaning, such as auto: the widget shows and takes the word. Graphs, links
// and the server keep the 0.

import { app } from "../../scripts/app.js";
import { setStyle } from "./shared/elements.mjs";
import { allNodes } from "./shared/names.mjs";
import { after, findWidget } from "./shared/widgets.mjs";

const OPTION = "sa3_zero"; // of an input: its word
const SHOWN = "_displayValue"; // what the canvas renderer writes into a widget
const STYLE_ID = "sa3-zero-words";

/** The words of a node's inputs by name. */
function wordsOf(node) {
  const { required, optional } = node.constructor.nodeData?.input ?? {};
  const words = new Map();
  for (const [name, spec] of Object.entries({ ...required, ...optional })) {
    if (spec[1]?.[OPTION]) words.set(name, spec[1][OPTION]);
  }
  return words;
}

/** What a user typed, as the number that the page expects. */
function asNumber(typed, word) {
  return String(typed).trim().toLowerCase() === word ? "0" : typed;
}

/** Canvas renderer: the widget paints its value and asks for another one in a prompt. */
function speak(widget, word) {
  const base = Object.getPrototypeOf(widget);
  Object.defineProperty(widget, SHOWN, {
    configurable: true,
    get() {
      const isWord = Number(this.value) === 0 && !this.computedDisabled;
      return isWord ? word : Reflect.get(base, SHOWN, this);
    },
  });
  const click = widget.onClick;
  widget.onClick = function (options) {
    const { canvas } = options;
    const { prompt } = canvas;
    canvas.prompt = (title, value, then, ...rest) =>
      prompt.call(
        canvas,
        title,
        Number(value) === 0 ? word : value,
        (typed) => then(asNumber(typed, word)),
        ...rest,
      );
    try {
      return click.call(this, options);
    } finally {
      canvas.prompt = prompt;
    }
  };
}

// Nodes 2.0 draws its own input fields; style rules survive its drawing anew.

/** Where Nodes 2.0 has the field of an input. */
function fieldOf(node, name) {
  return `[data-node-id="${node.id}"] [aria-label="${name}"]`;
}

function rulesOf(node) {
  const rest = '> input[aria-valuenow="0"]:not(:focus, :disabled)';
  return [...wordsOf(node)].map(([name, word]) => {
    const field = fieldOf(node, name);
    return `${field} div ${rest} { color: transparent; }
${field} div:has(${rest})::before { content: "${word}"; position: absolute; inset: 0; display: flex;
  align-items: center; padding: 4px; pointer-events: none; }`;
  });
}

let waiting = 0;

function styleSoon() {
  waiting ||= requestAnimationFrame(() => {
    waiting = 0;
    setStyle(STYLE_ID, allNodes(app.rootGraph).flatMap(rulesOf).join("\n"));
  });
}

/** The word of a field that has the focus, or loses it. */
function wordAt(input) {
  if (input?.getAttribute?.("role") !== "spinbutton") return undefined;
  const id = input.closest("[data-node-id]")?.getAttribute("data-node-id");
  const node = id && app.canvas.graph?.getNodeById(id);
  const name = input.closest("[aria-label]")?.getAttribute("aria-label");
  return node ? wordsOf(node).get(name) : undefined;
}

function showWord({ target }) {
  const word = wordAt(target);
  if (word && target.getAttribute("aria-valuenow") === "0") target.value = word;
}

/** Before the page reads the field. */
function takeWord({ target }) {
  const word = wordAt(target);
  if (word) target.value = asNumber(target.value, word);
}

app.registerExtension({
  name: "SA3.ZeroWords",

  setup() {
    document.addEventListener("focus", showWord, true);
    document.addEventListener("blur", takeWord, true);
    const onKey = (event) => event.key === "Enter" && takeWord(event);
    document.addEventListener("keyup", onKey, true);
  },

  nodeCreated(node) {
    const words = node.comfyClass?.startsWith("SA3") ? wordsOf(node) : new Map();
    if (!words.size) return;
    for (const [name, word] of words) {
      const widget = findWidget(node, name);
      if (widget) speak(widget, word);
    }
    after(node, "onAdded", styleSoon);
    after(node, "onRemoved", styleSoon);
  },
});
