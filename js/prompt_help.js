// The prompt box of Text Encode T5Gemma: tags are completed, and tokens counted below it.

import { app } from "../../scripts/app.js";
import { addCounter, countSoon, PROMPT } from "./prompt/counter.mjs";
import { Suggestions } from "./prompt/suggestions.mjs";
import { findWidget } from "./shared/widgets.mjs";

const NODE = "SA3TextEncode";

/** The node of ours whose prompt box an element is, in either renderer; or undefined. */
function promptNode(element) {
  if (!(element instanceof HTMLTextAreaElement)) return undefined;
  const graph = app.canvas.graph;
  const id = element.closest("[data-node-id]")?.getAttribute("data-node-id") ?? undefined;
  const nodes = id === undefined ? (graph?.nodes ?? []) : [graph?.getNodeById(id)];
  return nodes.find((node) => {
    if (node?.comfyClass !== NODE) return false;
    return id !== undefined || findWidget(node, PROMPT)?.element === element;
  });
}

app.registerExtension({
  name: "SA3.PromptHelp",

  setup() {
    new Suggestions((element) => promptNode(element) !== undefined);
    const onInput = (event) => {
      const node = promptNode(event.target);
      if (node) countSoon(node); // not every renderer tells the widget of each key
    };
    document.addEventListener("input", onInput, true);
  },

  nodeCreated(node) {
    if (node.comfyClass === NODE) addCounter(node);
  },
});
