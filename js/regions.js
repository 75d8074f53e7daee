// Inpaint Mask: regions drawn over the sound. The truth is the text of the `regions` widget.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { RegionEditor } from "./regions/editor.mjs";
import { recall, remember } from "./regions/memory.mjs";
import { watchWidgets } from "./regions/text.mjs";
import { after, doNotSerialize, growToFit } from "./widgets.js";

const NODES = ["SA3InpaintMask"];
const WIDGET = "region_editor";
const HEIGHT = 200; // px
const WIDTH = 420;

const open = new Set(); // editors of nodes that stand in a graph

function updateAll(anew) {
  for (const editor of open) editor.update(anew);
}

function addEditor(node) {
  const editor = new RegionEditor(node);
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT };
  const widget = node.addDOMWidget(WIDGET, "sa3_regions", editor.panel.root, options);
  doNotSerialize(widget);
  node.sa3Regions = editor;
  node.setSize([Math.max(WIDTH, node.size[0]), node.size[1]]);
  growToFit(node);
  watchWidgets(node, () => editor.refresh());
  return editor;
}

app.registerExtension({
  name: "SA3.Regions",

  setup() {
    api.addEventListener("graphChanged", () => updateAll(false));
    // A frame later the page knows what the run put out.
    api.addEventListener("execution_success", () => setTimeout(() => updateAll(true)));
  },

  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const editor = addEditor(node);
    after(node, "onAdded", () => {
      open.add(editor);
      editor.open();
      recall(editor);
    });
    after(node, "onRemoved", () => {
      remember(editor);
      open.delete(editor);
      editor.close();
    });
    after(node, "onConfigure", () => {
      editor.lookChanged();
      editor.update();
    });
    after(node, "onConnectionsChange", () => editor.sound.look(false));
  },
});
