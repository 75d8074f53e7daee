// What several of our nodes do with widgets, in the canvas renderer and in Nodes 2.0.

export function findWidget(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** A widget's value; undefined where the node has no such widget. */
export function valueOf(node, name) {
  return findWidget(node, name)?.value;
}

/** Whether a widget's value comes over a link, so that what stands in the widget does not count. */
export function isLinked(node, name) {
  return node.inputs?.some((input) => input.widget?.name === name && input.link != null) ?? false;
}

/** Hide or show a widget. Nodes 2.0 watches the options object, so it is changed in place. */
export function setHidden(widget, hidden) {
  widget.hidden = hidden;
  widget.options.hidden = hidden;
}

/** Fold a widget with the advanced ones, or leave it in sight, in both renderers. */
export function setAdvanced(node, widget, isAdvanced) {
  widget.options.advanced = isAdvanced;
  widget.hidden = isAdvanced && !node.showAdvanced && !isLinked(node, widget.name);
  const { label } = widget;
  widget.label = `${label ?? widget.name} `; // Nodes 2.0 looks at the options when this changes
  widget.label = label;
}

/** Keep a widget's value out of saved graphs and out of what is queued. */
export function doNotSerialize(widget) {
  widget.serialize = false;
  widget.options.serialize = false;
}

/** Make a node tall enough for its widgets without narrowing it. */
export function growToFit(node) {
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])]);
  node.setDirtyCanvas(true, true);
}

/** Call `then` after a method of an object, with the same arguments. */
export function after(object, method, then) {
  const before = object[method];
  object[method] = function (...args) {
    const result = before?.apply(this, args);
    then.apply(this, args);
    return result;
  };
}
