// Inpaint Mask: regions drawn over the sound. The truth is the text of the `regions` widget.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { RegionEditor } from "./regions/editor.mjs";
import { recall, remember } from "./regions/memory.mjs";
import { makeRoot } from "./regions/panel.mjs";
import { watchWidgets } from "./regions/text.mjs";
import { followOutputs } from "./shared/outputs.mjs";
import { placeElement } from "./shared/places.mjs";
import { after, growToFit } from "./shared/widgets.mjs";

const NODES = ["SA3InpaintMask"];
const WIDGET = "region_editor";
const HEIGHT = 200; // px
const WIDTH = 420;

const open = new Set(); // editors of nodes that stand in a graph

function updateAll(anew) {
  for (const editor of open) editor.update(anew);
}

function addPlace(node) {
  const root = makeRoot();
  const options = { hideOnZoom: false, getMinHeight: () => HEIGHT };
  placeElement(node, WIDGET, root, options);
  node.setSize([Math.max(WIDTH, node.size[0]), node.size[1]]);
  growToFit(node);
  return root;
}

/** The picture of the mask is for callers without a page: the editor shows the same. */
function hidePicture(node) {
  node.hideOutputImages = true; // Nodes 2.0
  node.onDrawBackground = () => {}; // the canvas renderer would add the picture there
}

function openEditor(node, root) {
  closeEditor(node);
  const editor = new RegionEditor(node, root);
  node.sa3Regions = editor;
  open.add(editor);
  editor.open();
  recall(editor);
}

function closeEditor(node) {
  const editor = node.sa3Regions;
  if (!editor) return;
  remember(editor);
  open.delete(editor);
  editor.close();
  node.sa3Regions = null;
}

app.registerExtension({
  name: "SA3.Regions",

  setup() {
    api.addEventListener("graphChanged", () => updateAll(false));
    // A moment later the page knows what the run put out.
    api.addEventListener("execution_success", () => setTimeout(() => updateAll(true)));
  },

  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const root = addPlace(node);
    hidePicture(node);
    followOutputs(node, (output) => node.sa3Regions?.sound.offer(output.sa3_outline?.[0]));
    after(node, "onAdded", () => openEditor(node, root));
    after(node, "onRemoved", () => closeEditor(node));
    watchWidgets(node, () => node.sa3Regions?.refresh());
    after(node, "onConnectionsChange", () => node.sa3Regions?.sound.look(false));
    after(node, "onConfigure", () => {
      node.sa3Regions?.lookChanged();
      node.sa3Regions?.update();
    });
  },
});
