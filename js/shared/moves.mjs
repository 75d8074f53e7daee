// What a node put out goes with it when the page moves it into a subgraph or out of one.
//
// The page removes the node and builds another one in the other graph, under another name for its
// outputs and, on the way out, another id.

import { app } from "../../../scripts/app.js";

const MOMENT = 1000; // ms in which a node that left one graph can turn up in another

const lastOf = new WeakMap(); // node -> what it put out, and in which workflow
const left = new Map(); // node that has just left its graph -> what is known of it

/** Remember what a node put out last. */
export function remember(node, output) {
  lastOf.set(node, { output, root: app.rootGraph.id });
}

/** A node leaves its graph; call while it still knows which one. */
export function leave(node) {
  const last = lastOf.get(node);
  if (!last || left.has(node)) return;
  left.set(node, { ...last, graph: node.graph?.id, id: node.id, type: node.type });
  setTimeout(() => left.delete(node), MOMENT);
}

/** What the node put out that this one was a moment ago, in another graph of the same workflow. */
export function broughtAlong(node) {
  const known = lastOf.get(node);
  if (known) return known.root === app.rootGraph.id ? known.output : undefined;
  const fitting = [...left].filter(
    ([, one]) => one.type === node.type && one.root === app.rootGraph.id && one.graph !== node.graph?.id,
  );
  const found = fitting.find(([, one]) => one.id === node.id) ?? fitting[0];
  if (!found) return undefined;
  left.delete(found[0]);
  remember(node, found[1].output);
  return found[1].output;
}
