// The loaders say, before anything runs, whether the chosen model is there or will be downloaded.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addStatusLine } from "./shared/elements.mjs";
import { texts } from "./shared/texts.mjs";
import { after, valueOf } from "./shared/widgets.mjs";

// Node id -> the combo that names the model, and the list of the route's answer it stands in.
const LOADERS = {
  SA3LoadModel: { combo: "model", list: "models", needsText: true },
  SA3LoadSAME: { combo: "autoencoder", list: "autoencoders", needsText: false },
};
const PLACE = { widget: "status", className: "sa3-status", lines: 3, margin: 4 };

let states = null; // a promise of the route's answer, shared by all nodes until a run ends

function loadStates() {
  states ??= api.fetchApi("/sa3/models").then((answer) => answer.json());
  return states;
}

function gigabytes(bytes) {
  return `${(bytes / 1e9).toFixed(bytes < 1e9 ? 2 : 1)} GB`;
}

/** Sentences about a node's choice, one per line. */
async function describe(node, loader) {
  const [found, text] = await Promise.all([loadStates(), texts()]);
  const state = found[loader.list][valueOf(node, loader.combo)];
  if (!state) return text("modelUnknown");
  if (!state.download) {
    const lines = [text("modelOnDisk", { size: gigabytes(state.bytes) })];
    const chosen = valueOf(node, "text_encoder");
    if (loader.needsText && chosen === found.with_model && !found.text_encoders.length) {
      lines.push(text("textEncoderMissing"));
    }
    return lines.join("\n");
  }
  const source = valueOf(node, "download_from");
  const size = gigabytes(state.download[source] ?? state.download.upstream);
  return text("modelWillDownload", { size, source: source === "mirror" ? source : state.repo });
}

async function update(node) {
  const loader = LOADERS[node.comfyClass];
  try {
    node.sa3Status.textContent = await describe(node, loader);
  } catch (error) {
    node.sa3Status.textContent = String(error);
  }
}

function updateAll() {
  states = null;
  const graphs = [app.rootGraph, ...(app.rootGraph.subgraphs?.values() ?? [])];
  for (const node of graphs.flatMap((graph) => graph.nodes)) {
    if (node.sa3Status) void update(node);
  }
}

app.registerExtension({
  name: "SA3.ModelStatus",

  setup() {
    api.addEventListener("execution_success", updateAll); // a download may have brought a model
    api.addEventListener("execution_error", updateAll);
  },

  refreshComboInNodes: updateAll,

  nodeCreated(node) {
    if (!(node.comfyClass in LOADERS)) return;
    node.sa3Status = addStatusLine(node, PLACE);
    for (const widget of node.widgets) {
      if (widget.name !== PLACE.widget) after(widget, "callback", () => void update(node));
    }
    after(node, "onConfigure", () => void update(node)); // a loaded graph, undo, paste
    void update(node);
  },
});
