// The keyboard on the picture.

const ZOOM = 1.5;

/** Key -> what it does; true keeps the key from the rest of the page. */
const KEYS = {
  ArrowLeft: (editor, event) => nudge(editor, event, -1),
  ArrowRight: (editor, event) => nudge(editor, event, 1),
  ArrowUp: (editor) => editor.selectNext(-1),
  ArrowDown: (editor) => editor.selectNext(1),
  Home: (editor) => editor.setCursor(0),
  End: (editor) => editor.setCursor(editor.duration),
  Delete: (editor) => editor.removeSelected(),
  Backspace: (editor) => editor.removeSelected(),
  Enter: (editor) => editor.splitSelected(),
  Insert: (editor) => editor.addAtCursor(),
  n: (editor) => editor.addAtCursor(),
  l: (editor) => editor.toggleLoop(),
  " ": (editor, event) => editor.togglePlay(event.shiftKey),
  "+": (editor) => editor.zoomBy(ZOOM),
  "=": (editor) => editor.zoomBy(ZOOM),
  "-": (editor) => editor.zoomBy(1 / ZOOM),
  0: (editor) => editor.fit(),
};

/** Arrows move the region, with Shift its end, with Alt its start; without one, the cursor. */
function nudge(editor, event, direction) {
  const side = event.shiftKey ? "end" : event.altKey ? "start" : "both";
  editor.nudge(side, direction);
}

/** Listen on the picture. Keys with Ctrl or Cmd stay with the page: undo, copy, save. */
export function bindKeys(editor, element, cancel) {
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === "Escape") {
      cancel();
      editor.select(-1);
    } else if (KEYS[key]) KEYS[key](editor, event);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
