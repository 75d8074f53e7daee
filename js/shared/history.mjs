// Which nodes of a graph put out what an earlier run left, also where they were moved since into a
// subgraph or out of one: the run knows them by where they stood then.

/** Where a node stands: the ids of the boxes around it and its own, "5:3". */
function placed(nodes, before = "") {
  return nodes.flatMap((node) => {
    const path = before + node.id;
    return [[path, node], ...placed(node.subgraph?.nodes ?? [], `${path}:`)];
  });
}

/** Likewise in a saved graph, where the boxes' insides lie beside it. */
function placedIn({ nodes, definitions }, before = "") {
  return nodes.flatMap((node) => {
    const path = before + node.id;
    const inside = definitions?.subgraphs?.find(({ id }) => id === node.type);
    return [[path, node], ...(inside ? placedIn({ nodes: inside.nodes, definitions }, `${path}:`) : [])];
  });
}

/** Whether a node has title and values of a saved one, but for those that the page draws by itself. */
function isLike(node, saved) {
  const drawn = (node.widgets ?? []).map((widget) => Boolean(widget.linkedWidgets?.length));
  const fixed = (values) => JSON.stringify([...(values ?? [])].map((value, at) => (drawn[at] ? 0 : value)));
  const data = node.serialize();
  return data.title === saved.title && fixed(data.widgets_values) === fixed(saved.widgets_values);
}

/**
 * What nodes put out in a run.
 *
 * A node that was moved keeps its id, or else, as after a box was unpacked, its title and values.
 *
 * @param {{outputs: Record<string, any>, workflow: any}} run outputs by place, and the graph as it was.
 * @param {any} graph as it is now.
 * @returns {Map<any, any>} outputs by node.
 */
export function outputsOf({ outputs, workflow }, graph) {
  const then = new Map(placedIn(workflow));
  const now = new Map(placed(graph.nodes));
  const stayed = (path) => now.has(path) && now.get(path).type === then.get(path)?.type;
  const found = new Map();
  const left = [];
  for (const [path, output] of Object.entries(outputs)) {
    if (stayed(path)) found.set(now.get(path), output);
    else if (then.has(path)) left.push([path, output]);
  }
  const came = [...now].filter(([path]) => !stayed(path)).map(([, node]) => node);
  for (const [path, output] of left) {
    const saved = then.get(path);
    const fitting = came.filter((node) => node.type === saved.type && !found.has(node));
    const same = fitting.find(({ id }) => id === saved.id) ?? fitting.find((node) => isLike(node, saved));
    if (same) found.set(same, output);
  }
  return found;
}
