// Numbers whose 0 has a meaning, such as auto: the widget shows and takes the word. Graphs, links
// and the server keep the 0.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { sourceOf } from "./shared/boxes.mjs";
import { setStyle } from "./shared/elements.mjs";
import { after, findWidget } from "./shared/widgets.mjs";

const OPTION = "sa3_zero"; // of an input: its word
const SHOWN = "_displayValue"; // what the canvas renderer writes into a widget
const STYLE_ID = "sa3-zero-words";

const known = new WeakMap(); // constructor of a node of ours -> its words by the input's name

/** The words of a node's own inputs by name. */
function wordsOf({ comfyClass, constructor }) {
  if (!comfyClass?.startsWith("SA3")) return new Map();
  if (!known.has(constructor)) {
    const { required, optional } = constructor.nodeData?.input ?? {};
    const words = new Map();
    for (const [name, spec] of Object.entries({ ...required, ...optional })) {
      if (spec[1]?.[OPTION]) words.set(name, spec[1][OPTION]);
    }
    known.set(constructor, words);
  }
  return known.get(constructor);
}

/** The word of a node's widget, which may be a box's that stands for one inside. */
function wordFor(node, name) {
  const source = sourceOf(node, name);
  return source && wordsOf(source.node).get(source.name);
}

/** What a user typed, as the number that the page expects. */
function asNumber(typed, word) {
  return String(typed).trim().toLowerCase() === word ? "0" : typed;
}

const taught = new Set(); // kinds of widgets of the canvas renderer that know of words

/**
 * Canvas renderer: a widget paints its value and asks for another one in a prompt. Its kind is
 * taught, not the widget: what a box shows is made anew for each drawing.
 */
function teach(kind) {
  if (taught.has(kind)) return;
  taught.add(kind);
  const own = Object.getOwnPropertyDescriptor(kind, SHOWN)?.get;
  Object.defineProperty(kind, SHOWN, {
    configurable: true,
    get() {
      const isZero = Number(this.value) === 0 && !this.computedDisabled;
      const word = isZero && wordFor(this.node, this.name);
      return word || (own ? own.call(this) : Reflect.get(Object.getPrototypeOf(kind), SHOWN, this));
    },
  });
  const click = kind.onClick;
  kind.onClick = function (options) {
    const word = wordFor(options.node, this.name);
    return word ? askByWord(this, { click, options, word }) : click.call(this, options);
  };
}

/** A click whose prompt shows and takes the word. */
function askByWord(widget, { click, options, word }) {
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
    return click.call(widget, options);
  } finally {
    canvas.prompt = prompt;
  }
}

// Nodes 2.0 draws its own input fields; style rules survive its drawing anew.

/** Where Nodes 2.0 has the field of an input. */
function fieldOf(node, name) {
  return `[data-node-id="${node.id}"] [aria-label="${CSS.escape(name)}"]`;
}

function rulesOf(node) {
  const names = node.subgraph ? node.inputs.map((input) => input.name) : [...wordsOf(node).keys()];
  const rest = '> input[aria-valuenow="0"]:not(:focus, :disabled)';
  return names.flatMap((name) => {
    const word = wordFor(node, name);
    if (!word) return [];
    const field = fieldOf(node, name);
    return `${field} div ${rest} { color: transparent; }
${field} div:has(${rest})::before { content: "${word}"; position: absolute; inset: 0; display: flex;
  align-items: center; padding: 4px; pointer-events: none; }`;
  });
}

let waiting = 0;

/** Rules for the graph in sight: inside of a box other nodes have the same ids. */
function styleSoon() {
  waiting ||= requestAnimationFrame(() => {
    waiting = 0;
    setStyle(STYLE_ID, (app.canvas.graph?.nodes ?? []).flatMap(rulesOf).join("\n"));
  });
}

/** The word of a field that has the focus, or loses it. */
function wordAt(input) {
  if (input?.getAttribute?.("role") !== "spinbutton") return undefined;
  const id = input.closest("[data-node-id]")?.getAttribute("data-node-id");
  const node = id && app.canvas.graph?.getNodeById(id);
  const name = input.closest("[aria-label]")?.getAttribute("aria-label");
  return node ? wordFor(node, name) : undefined;
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
    app.canvas.canvas.addEventListener("litegraph:set-graph", styleSoon); // into a box, and out
    api.addEventListener("graphChanged", styleSoon); // a box may show another input
  },

  nodeCreated(node) {
    for (const name of wordsOf(node).keys()) {
      const widget = findWidget(node, name);
      if (widget) teach(Object.getPrototypeOf(widget));
    }
    if (!wordsOf(node).size && !node.subgraph) return;
    after(node, "onAdded", styleSoon);
    after(node, "onRemoved", styleSoon);
  },

  afterConfigureGraph: styleSoon,
});
