// Look at Audio and Measure Audio open large enough for their pictures to be read (nodes/bridge/work).

import { app } from "../../scripts/app.js";

const NODES = ["SA3LookAudio", "SA3MeasureAudio"];
const SIZE = [580, 420];

app.registerExtension({
  name: "SA3.Look",

  nodeCreated(node) {
    if (NODES.includes(node.comfyClass)) node.setSize(SIZE.map((side, axis) => Math.max(side, node.size[axis])));
  },
});
