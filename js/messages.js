// Our nodes show what they say while they run and afterwards, until they run again.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { Message } from "./messages/message.mjs";
import { followOutputs } from "./shared/outputs.mjs";
import { nodeAt } from "./shared/runs.mjs";

const EVENT = "sa3_text"; // of the server: {node, text}

/** Every node of ours on the page that says something of a run that goes on. */
function liveNodes() {
  const graphs = [app.rootGraph, ...(app.rootGraph?.subgraphs?.values() ?? [])];
  return graphs.flatMap((graph) => graph.nodes).filter((node) => node.sa3Message?.isLive);
}

/** What a node said on its way is no longer true once its run has failed. */
function forgetLive() {
  for (const node of liveNodes()) node.sa3Message.say("");
}

/** What it said last, where it put out nothing, is how it ended. */
function keepLive() {
  for (const node of liveNodes()) node.sa3Message.say(node.sa3Message.text);
}

app.registerExtension({
  name: "SA3.Messages",

  setup() {
    api.addEventListener(EVENT, ({ detail }) => nodeAt(detail.node)?.sa3Message?.say(detail.text, true));
    api.addEventListener("execution_error", forgetLive);
    api.addEventListener("execution_interrupted", forgetLive);
    api.addEventListener("execution_success", keepLive);
  },

  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("SA3")) return;
    node.sa3Message = new Message(node);
    followOutputs(node, (output) => {
      if (output.text?.length) node.sa3Message.say([].concat(output.text).join("\n"));
    });
  },
});
