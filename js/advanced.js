// Fold advanced inputs away in the canvas renderer, as Nodes 2.0 does by itself.

import { app } from "../../scripts/app.js";
import "./model_status.js"; // registers first, so that the button stands below its text
import { texts } from "./shared/texts.mjs";
import { after, doNotSerialize, isLinked } from "./shared/widgets.mjs";

const BUTTON = "advanced";
const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets";

/** Hide advanced widgets unless they are asked for; a linked input stays in sight. */
function fold(node) {
  for (const widget of node.widgets) {
    if (!widget.options.advanced) continue;
    const hidden = !node.showAdvanced && !isLinked(node, widget.name);
    // Not in `options`: Nodes 2.0 reads only those, and folds in its own way.
    for (const part of [widget, ...(widget.linkedWidgets ?? [])]) part.hidden = hidden;
  }
}

function fitHeight(node) {
  node.setSize([node.size[0], node.computeSize()[1]]);
  node.setDirtyCanvas(true, true);
}

async function label(node, button) {
  const text = await texts();
  button.label = text(node.showAdvanced ? "hideAdvanced" : "showAdvanced");
  node.setDirtyCanvas(true, true);
}

function addButton(node) {
  // Nodes 2.0 has a button of its own, hence canvasOnly.
  const options = { canvasOnly: true, serialize: false };
  const button = node.addWidget("button", BUTTON, "", null, options);
  doNotSerialize(button);
  button.callback = () => {
    node.showAdvanced = !node.showAdvanced;
    fold(node);
    fitHeight(node);
    void label(node, button);
  };
  return button;
}

app.registerExtension({
  name: "SA3.Advanced",

  nodeCreated(node) {
    const isOurs = node.comfyClass?.startsWith("SA3");
    if (!isOurs || !node.widgets?.some((widget) => widget.options.advanced)) return;
    node.showAdvanced = Boolean(app.ui.settings.getSettingValue(ALWAYS));
    const button = addButton(node);
    fold(node);
    fitHeight(node);
    void label(node, button);
    after(node, "onConnectionsChange", () => fold(node));
    after(node, "onConfigure", () => {
      fold(node);
      void label(node, button);
    });
  },
});
