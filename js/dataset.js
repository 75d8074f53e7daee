// Audio Dataset and Encode Dataset: a table of clips; captions edited there go into a widget.

import { app } from "../../scripts/app.js";
import { ClipTable, HEIGHT } from "./dataset/table.mjs";
import { followOutputs } from "./shared/outputs.mjs";
import { placeElement } from "./shared/places.mjs";
import { texts } from "./shared/texts.mjs";
import { after, findWidget } from "./shared/widgets.mjs";

const EDITED = "edited_captions";
const NODES = ["SA3AudioDataset", "SA3EncodeDataset"];
const MARGIN = 4;

/** Write an edited caption into the widget that keeps them. */
function keepCaption(node, clip, caption) {
  const widget = findWidget(node, EDITED);
  let edited = {};
  try {
    edited = JSON.parse(widget.value || "{}");
  } catch {
    // what cannot be read is replaced: the table is what the user sees
  }
  widget.value = JSON.stringify({ ...edited, [clip]: caption });
  widget.callback?.(widget.value);
}

app.registerExtension({
  name: "SA3.Dataset",

  async setup() {
    this.text = await texts();
  },

  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const onCaption = findWidget(node, EDITED) ? (clip, caption) => keepCaption(node, clip, caption) : null;
    const table = new ClipTable(this.text ?? ((key) => key), onCaption);
    node.sa3Clips = table;
    placeElement(node, "clips", table.element, { margin: MARGIN, hideOnZoom: false, getMinHeight: () => HEIGHT + 2 * MARGIN });
    node.setSize([Math.max(node.size[0], 420), Math.max(node.size[1], node.computeSize()[1])]);
    followOutputs(node, (output) => {
      if (output.sa3_clips) table.setRows(output.sa3_clips);
    });
    after(node, "onRemoved", () => table.close());
  },
});
