// Compare Audio: a player that switches between takes while they play.

import { app } from "../../scripts/app.js";
import { CompareView, HEIGHT } from "./compare/view.mjs";
import { nodeOf } from "./shared/runs.mjs";
import { texts } from "./shared/texts.mjs";
import { after, doNotSerialize } from "./shared/widgets.mjs";

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
    doNotSerialize(
      node.addDOMWidget("player", "sa3_compare", view.element, { margin: MARGIN, getMinHeight: height }),
    );
    node.setSize([Math.max(node.size[0], 340), Math.max(node.size[1], node.computeSize()[1])]);
    after(node, "onExecuted", (output) => setOutput(node, output));
    after(node, "onRemoved", () => view.close());
  },

  // Outputs of earlier runs, as when a graph is opened from the history.
  onNodeOutputsUpdated(outputs) {
    for (const [locator, output] of Object.entries(outputs)) {
      const node = output.sa3_takes && nodeOf(locator);
      if (node?.comfyClass === NODE && !node.sa3Compare.takes.length) setOutput(node, output);
    }
  },
});
