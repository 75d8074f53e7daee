// Compare Audio: a player that switches between takes while they play.

import { app } from "../../scripts/app.js";
import { CompareView, HEIGHT } from "./compare/view.mjs";
import { followOutputs } from "./shared/outputs.mjs";
import { placeElement } from "./shared/places.mjs";
import { texts } from "./shared/texts.mjs";
import { after } from "./shared/widgets.mjs";

const NODE = "SA3CompareAudio";
const MARGIN = 4;

function setOutput(node, output) {
  if (output?.sa3_takes) {
    node.sa3Compare?.setTakes(output.sa3_takes, output.sa3_regions, output.sa3_seconds);
  }
}

app.registerExtension({
  name: "SA3.Compare",

  async setup() {
    this.text = await texts();
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const view = new CompareView(this.text ?? ((key) => key));
    node.sa3Compare = view;
    const height = () => HEIGHT + 2 * MARGIN;
    placeElement(node, "player", view.element, { margin: MARGIN, getMinHeight: height });
    node.setSize([Math.max(node.size[0], 340), Math.max(node.size[1], node.computeSize()[1])]);
    followOutputs(node, (output) => setOutput(node, output));
    after(node, "onRemoved", () => view.close());
  },
});
