// Look at Audio opens large enough for its picture to be read (nodes/bridge/work/look.py draws it).

import { app } from "../../scripts/app.js";

const NODE = "SA3LookAudio";
const SIZE = [580, 420];

app.registerExtension({
  name: "SA3.Look",

  nodeCreated(node) {
    if (node.comfyClass === NODE) node.setSize(SIZE.map((side, axis) => Math.max(side, node.size[axis])));
  },
});
