// Nodes that save: tokens in their prefix are filled in when the graph is queued.

import { app } from "../../scripts/app.js";
import { allNodes, fillTokens } from "./shared/names.mjs";
import { findWidget } from "./shared/widgets.mjs";

const NODES = ["SA3SaveAudio", "SA3SaveLatents", "SA3SaveModel", "SA3SaveLora", "SA3LookAudio"];
const PREFIX = "filename_prefix";

app.registerExtension({
  name: "SA3.SaveNames",

  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const widget = findWidget(node, PREFIX);
    if (!widget) return;
    widget.serializeValue = () =>
      fillTokens(String(widget.value ?? ""), allNodes(app.rootGraph), new Date());
  },
});
