// What undo must not forget: it builds the whole graph anew, and the editors with it.

const KEPT = 20; // editors
const TRIES = 30; // frames until the element is on the page

const kept = new Map();

/** Keep where a user was in an editor whose node goes. */
export function remember(editor) {
  const { node, view, cursor, selected, row } = editor;
  kept.delete(node.id);
  kept.set(node.id, {
    graphId: editor.graphId,
    view: { total: view.total, from: view.from, span: view.span },
    place: { cursor, selected, row },
    hadFocus: editor.panel.picture === document.activeElement,
  });
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
}

function focusSoon(element, tries) {
  requestAnimationFrame(() => {
    if (element.isConnected) element.focus({ preventScroll: true });
    else if (tries > 0) focusSoon(element, tries - 1);
  });
}

/** Go back there, if the node has come back to its graph. */
export function recall(editor) {
  const was = kept.get(editor.node.id);
  if (was?.graphId !== editor.node.graph.id) return;
  editor.view.setTotal(was.view.total);
  editor.view.show(was.view.from, was.view.span);
  Object.assign(editor, was.place);
  editor.stateKey = ""; // the text is still to come
  if (was.hadFocus) focusSoon(editor.panel.picture, TRIES);
}
