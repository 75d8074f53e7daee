// LoRA Loader says, while one types, what its file is and how many layers the filter leaves on.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addStatusLine } from "./shared/elements.mjs";
import { texts } from "./shared/texts.mjs";
import { after, valueOf } from "./shared/widgets.mjs";

const NODE = "SA3LoraLoader";
const PLACE = { widget: "lora_status", className: "sa3-lora-status", lines: 2, margin: 4 };
const NONE = "none"; // no file
const PAUSE = 150; // ms without typing before the server is asked

/** The sentence about a node's file and filter. */
async function describe(node) {
  const query = new URLSearchParams({
    name: valueOf(node, "lora") ?? "",
    filter: valueOf(node, "layer_filter") ?? "",
  });
  const [answer, text] = await Promise.all([api.fetchApi(`/sa3/lora?${query}`), texts()]);
  const info = await answer.json();
  if (info.error) return info.error;
  const layers = text(info.rank ? "loraLayers" : "loraKind", info);
  return info.unused ? `${layers} ${text("loraUnused", info)}` : layers;
}

function update(node) {
  clearTimeout(node.sa3LoraTimer);
  node.sa3LoraTimer = setTimeout(async () => {
    const lora = valueOf(node, "lora");
    if (!lora || lora === NONE) {
      node.sa3LoraStatus.textContent = "";
      return;
    }
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
    node.sa3LoraStatus = addStatusLine(node, PLACE);
    for (const widget of node.widgets) {
      if (widget.name !== PLACE.widget) after(widget, "callback", () => update(node));
    }
    after(node, "onConfigure", () => update(node));
    after(node, "onRemoved", () => clearTimeout(node.sa3LoraTimer));
    update(node);
  },
});
