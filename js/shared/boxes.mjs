// Boxes: nodes that hold a graph. What such a node shows stands for a widget inside.

/**
 * The node and the name of the widget that a node's widget stands for: itself, or one inside.
 *
 * @param {any} node
 * @param {string} name of the widget, or of the box's input.
 * @returns {{node: any, name: string} | undefined}
 */
export function sourceOf(node, name) {
  if (!node?.subgraph) return node && { node, name };
  const { inputs, links } = node.subgraph;
  const link = links.get(inputs.find((input) => input.name === name)?.linkIds[0]);
  const inside = link && node.subgraph.getNodeById(link.target_id);
  const { widget } = inside?.inputs[link.target_slot] ?? {};
  return widget && sourceOf(inside, widget.name);
}
