// Train SA3 LoRA: the loss as a curve, and previews, while it runs and afterwards.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { followOutputs } from "./shared/outputs.mjs";
import { placeElement } from "./shared/places.mjs";
import { nodeAt } from "./shared/runs.mjs";
import { texts } from "./shared/texts.mjs";
import { after } from "./shared/widgets.mjs";
import { HEIGHT, LossView } from "./training/loss_view.mjs";

const NODE = "SA3TrainLora";
const EVENT = "sa3_training"; // of the server: {node, step, total, curve, validation, previews, text}
const MARGIN = 4;

app.registerExtension({
  name: "SA3.Training",

  async setup() {
    this.text = await texts();
    api.addEventListener(EVENT, ({ detail }) => nodeAt(detail.node)?.sa3Training?.setState(detail));
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const view = new LossView(this.text ?? ((key) => key));
    node.sa3Training = view;
    placeElement(node, "training", view.element, { margin: MARGIN, hideOnZoom: false, getMinHeight: () => HEIGHT + 2 * MARGIN });
    node.setSize([Math.max(node.size[0], 380), Math.max(node.size[1], node.computeSize()[1])]);
    followOutputs(node, (output) => {
      if (output.sa3_training?.length) view.setState(output.sa3_training[0]);
    });
    after(node, "onRemoved", () => view.close());
  },
});
