// Widgets that count only in one mode of their node are in sight only in it.

import { app } from "../../scripts/app.js";
import "./advanced.js"; // it takes the height of what it folds first
import { after, findWidget, growToFit, isLinked, setHidden, valueOf } from "./shared/widgets.mjs";

const BARS = ["bars", "bpm", "beats_per_bar"];
const TEMPO = ["bpm", "beats_per_bar"];

const inBars = (node) => valueOf(node, "length_in") === "bars";
const inSeconds = (node) => valueOf(node, "length_in") === "seconds";
const byBeats = (node) => node.properties?.sa3Regions?.snap === "beats";
const namesBars = (node) => /\bbars?\b/i.test(valueOf(node, "regions") ?? "") || byBeats(node);

/** Node id -> [widgets, whether they count]. */
const MODES = {
  SA3EmptyLatent: [[BARS, inBars], [["seconds"], inSeconds]],
  SA3Loop: [[BARS, inBars], [["seconds"], inSeconds]],
  SA3InpaintMask: [[TEMPO, namesBars]],
  SA3PasteBack: [[TEMPO, namesBars]],
  SA3LookAudio: [[["filename_prefix"], (node) => Boolean(valueOf(node, "save_png"))]],
};
const opening = new WeakSet(); // nodes that take over what a graph holds of them
const CHOOSERS = ["length_in", "regions", "save_png"];

function apply(node) {
  for (const [names, counts] of MODES[node.comfyClass]) {
    const hidden = !counts(node);
    for (const name of names) {
      const widget = findWidget(node, name);
      // A linked input stays in sight, or its link would hang in the air.
      if (widget) setHidden(widget, hidden && !isLinked(node, name));
    }
  }
}

/** Show what counts now; the node grows and shrinks by what comes and goes. */
function change(node) {
  if (opening.has(node)) return; // it brings the size that fits what it will show
  const before = node.computeSize()[1];
  apply(node);
  const height = node.computeSize()[1];
  if (height === before) return;
  node.setSize([node.size[0], Math.max(height, node.size[1] + height - before)]);
  node.setDirtyCanvas(true, true);
}

app.registerExtension({
  name: "SA3.Modes",

  nodeCreated(node) {
    if (!MODES[node.comfyClass]) return;
    change(node);
    for (const name of CHOOSERS) {
      const widget = findWidget(node, name);
      if (widget) after(widget, "callback", () => change(node));
    }
    after(node, "onConnectionsChange", () => change(node));
    after(node, "onPropertyChanged", () => change(node));
    const { configure } = node;
    node.configure = function (...args) {
      opening.add(this);
      try {
        return configure.apply(this, args);
      } finally {
        opening.delete(this);
      }
    };
    after(node, "onConfigure", () => {
      apply(node);
      growToFit(node);
    });
  },
});
