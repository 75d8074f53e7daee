// What a node put out in its last run, given to it again when the page builds the node anew.
//
// The page keeps outputs while it is open, and gives them back a moment after a graph is loaded;
// after a reload only the server's history has them.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { outputsOf } from "./history.mjs";
import { broughtAlong, leave, remember } from "./moves.mjs";
import { nodeAt } from "./runs.mjs";
import { after } from "./widgets.mjs";

const TRIES = [0, 200, 800, 2000]; // ms after a node was loaded
const RUNS = 20; // of the history that are looked through

const fromHistory = new Map(); // graph's id -> Map of outputs by locator
const asked = new Map(); // graph's id -> promise of its entry in `fromHistory`
const waiting = new Set(); // {node, end} of nodes that were loaded and wait for their last output

// A node that runs has something newer to say, before it puts anything out, or an error instead.
function endWaiting(id) {
  const node = id == null ? null : nodeAt(id);
  for (const one of waiting) if (one.node === node) one.end();
}
api.addEventListener("executing", ({ detail }) => endWaiting(detail?.node ?? detail));
api.addEventListener("execution_error", ({ detail }) => endWaiting(detail?.node_id));

/** How the page names a node's output: "graph:node", in the outermost graph the node's id alone. */
export function locatorOf(node) {
  return node.graph === app.rootGraph ? String(node.id) : `${node.graph?.id}:${node.id}`;
}

function knownOutput(node) {
  const locator = locatorOf(node);
  return app.nodeOutputs?.[locator] ?? fromHistory.get(app.rootGraph.id)?.get(locator);
}

/** Keep, under its new name, what a node put out before it was moved into a subgraph or out of one. */
function movedOutput(node) {
  const output = broughtAlong(node);
  if (!output) return undefined;
  const { id } = app.rootGraph;
  if (!fromHistory.has(id)) fromHistory.set(id, new Map());
  fromHistory.get(id).set(locatorOf(node), output);
  return output;
}

/** The outputs of the newest run of this graph that the server remembers. */
async function readHistory(graphId) {
  const answer = await api.fetchApi(`/history?max_items=${RUNS}`);
  const runs = Object.values(await answer.json()).reverse();
  const workflowOf = ({ prompt }) => prompt?.[3]?.extra_pnginfo?.workflow;
  const own = runs.filter((run) => workflowOf(run)?.id === graphId);
  if (app.rootGraph.id !== graphId) return; // another one was opened meanwhile
  const found = new Map();
  for (const run of own) {
    const known = { outputs: run.outputs ?? {}, workflow: workflowOf(run) };
    for (const [node, output] of outputsOf(known, app.rootGraph)) {
      if (!found.has(locatorOf(node))) found.set(locatorOf(node), output);
    }
  }
  fromHistory.set(graphId, new Map([...(fromHistory.get(graphId) ?? []), ...found]));
}

function askHistory() {
  const { id } = app.rootGraph;
  if (!asked.has(id)) {
    const answer = readHistory(id).catch(() => {}); // without a history nothing is restored
    asked.set(id, answer.finally(() => asked.delete(id)));
  }
  return asked.get(id);
}

/**
 * Call `then` with what a node puts out: when it runs, and when it is loaded again after a run.
 *
 * @param {any} node
 * @param {(output: any) => void} then
 */
export function followOutputs(node, then) {
  let isKnown = false;
  const timers = new Set();
  const entry = { node, end: () => {} };
  const stop = () => {
    waiting.delete(entry);
    timers.forEach(clearTimeout);
    timers.clear();
  };
  const end = () => {
    isKnown = true;
    stop();
  };
  entry.end = end;
  const give = () => {
    if (isKnown || !node.graph) return;
    const output = knownOutput(node) ?? movedOutput(node);
    if (!output) return;
    end();
    remember(node, output);
    then(output);
  };
  after(node, "onExecuted", (output) => {
    end();
    if (output) remember(node, output);
    then(output ?? {});
  });
  after(node, "onConfigure", () => {
    waiting.add(entry);
    for (const wait of TRIES) timers.add(setTimeout(give, wait));
    const last = () => {
      if (!isKnown && node.graph) void askHistory().then(give).finally(stop);
    };
    timers.add(setTimeout(last, TRIES.at(-1)));
  });
  after(node, "onRemoved", () => {
    leave(node);
    stop();
  });
}
