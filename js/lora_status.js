// LoRA Loader says, while one types, what its file is and how many layers the filter leaves on.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { texts } from "./texts.js";
import { after, doNotSerialize } from "./widgets.js";

const NODE = "SA3LoraLoader";
const STATUS = "lora_status";
const LINES = 2;
const LINE_HEIGHT = 16; // px
const MARGIN = 4;
const PAUSE = 150; // ms without typing before the server is asked
const STYLE = `box-sizing: border-box; width: 100%; height: 100%;
  min-height: ${LINES * LINE_HEIGHT}px; padding: 0 8px; overflow: hidden;
  font: 12px/${LINE_HEIGHT}px sans-serif; color: var(--descrip-text);`;

function valueOf(node, name) {
  return node.widgets.find((widget) => widget.name === name)?.value ?? "";
}

/** The sentence about a node's file and filter. */
async function describe(node) {
  const query = new URLSearchParams({
    name: valueOf(node, "lora"),
    filter: valueOf(node, "layer_filter"),
  });
  const [answer, text] = await Promise.all([api.fetchApi(`/sa3/lora?${query}`), texts()]);
  const info = await answer.json();
  return info.error ?? text("loraLayers", info);
}

function update(node) {
  clearTimeout(node.sa3LoraTimer);
  node.sa3LoraTimer = setTimeout(async () => {
    if (!valueOf(node, "lora")) return;
    try {
      node.sa3LoraStatus.textContent = await describe(node);
    } catch (error) {
      node.sa3LoraStatus.textContent = String(error);
    }
  }, PAUSE);
}

app.registerExtension({
  name: "SA3.LoraStatus",

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    node.sa3LoraStatus = document.createElement("div");
    node.sa3LoraStatus.className = "sa3-lora-status";
    node.sa3LoraStatus.setAttribute("role", "status");
    node.sa3LoraStatus.style.cssText = STYLE;
    const height = () => LINES * LINE_HEIGHT + 2 * MARGIN;
    const options = { margin: MARGIN, getMinHeight: height, getMaxHeight: height };
    doNotSerialize(node.addDOMWidget(STATUS, "sa3_lora_status", node.sa3LoraStatus, options));
    for (const widget of node.widgets) {
      if (widget.name !== STATUS) after(widget, "callback", () => update(node));
    }
    after(node, "onConfigure", () => update(node));
    after(node, "onRemoved", () => clearTimeout(node.sa3LoraTimer));
    update(node);
  },
});
