// Mouse, pen and fingers on the picture: draw, move and resize regions; zoom and scroll.

const NEAR = { mouse: 6, pen: 8, touch: 16 }; // px that count as on an edge
const CLICK = 3; // px that a click may move
const WHEEL_ZOOM = 0.002; // per unit of deltaY
const LINE_HEIGHT = 16; // px of a wheel's line

const CURSORS = { start: "ew-resize", end: "ew-resize", move: "grab", draw: "crosshair" };

/** What lies under a place: an edge, a region or nothing. The selected region comes first. */
function hit(editor, x, pointerType) {
  const near = NEAR[pointerType] ?? NEAR.mouse;
  const indices = [...editor.regions.keys()].reverse();
  const first = editor.selected;
  const order = first >= 0 ? [first, ...indices.filter((index) => index !== first)] : indices;
  const own = order.filter((index) => editor.isOwn(index));
  for (const index of own) {
    const { start, end } = editor.regions[index];
    const [left, right] = [editor.view.x(start), editor.view.x(end)];
    // Inside a narrow region there must be room left to take hold of it.
    const inside = Math.min(near, (right - left) / 3);
    if (x >= right - inside && x <= right + near) return { kind: "end", index };
    if (x >= left - near && x <= left + inside) return { kind: "start", index };
  }
  for (const index of own) {
    const { start, end } = editor.regions[index];
    const time = editor.view.time(x);
    if (time > start && time < end) return { kind: "move", index };
  }
  return { kind: "draw", index: -1 };
}

/** The region as it is after a gesture has come to a time. */
function dragged(editor, gesture, time) {
  const { kind, from, original } = gesture;
  const snap = (value) => editor.snapTime(value);
  if (kind === "draw") return ordered(snap(from), snap(time));
  if (kind === "move") return editor.movedTo(original.start + time - from, original);
  const moved = snap(original[kind] + time - from);
  return ordered(moved, kind === "start" ? original.end : original.start);
}

function ordered(a, b) {
  return { start: Math.max(0, Math.min(a, b)), end: Math.max(a, b) };
}

class Gestures {
  constructor(editor, element) {
    this.editor = editor;
    this.element = element;
    this.pointers = new Map(); // id -> x
    this.gesture = null;
    this.pinch = null;
  }

  place(event) {
    const box = this.element.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * this.editor.view.width;
  }

  down(event) {
    if (event.button !== 0) return; // the canvas below pans with the middle button
    event.stopPropagation();
    this.element.focus({ preventScroll: true });
    this.element.setPointerCapture(event.pointerId);
    const x = this.place(event);
    this.pointers.set(event.pointerId, x);
    if (this.pointers.size === 2) this.startPinch();
    else if (this.pointers.size === 1) this.startGesture(event, x);
  }

  startGesture(event, x) {
    const { editor } = this;
    const { kind, index } = hit(editor, x, event.pointerType);
    const { start, end } = editor.regions[index] ?? {};
    const from = editor.view.time(x);
    this.gesture = { kind, index, x, from, original: { start, end }, hasMoved: false };
    if (index >= 0) editor.select(index);
  }

  startPinch() {
    this.cancel();
    const [a, b] = [...this.pointers.values()];
    const { view } = this.editor;
    const gap = Math.max(1, Math.abs(a - b));
    this.pinch = { gap, span: view.span, time: view.time((a + b) / 2) };
  }

  move(event) {
    const x = this.place(event);
    if (!this.pointers.has(event.pointerId)) {
      const { kind } = hit(this.editor, x, event.pointerType);
      const cursor = this.editor.isLocked ? "default" : CURSORS[kind];
      if (this.element.style.cursor !== cursor) this.element.style.cursor = cursor;
      return;
    }
    event.stopPropagation();
    this.pointers.set(event.pointerId, x);
    if (this.pinch) this.movePinch();
    else if (this.gesture) this.moveGesture(x);
  }

  movePinch() {
    const [a, b] = [...this.pointers.values()];
    if (b === undefined) return;
    const { view } = this.editor;
    const span = (this.pinch.span * this.pinch.gap) / Math.max(1, Math.abs(a - b));
    view.show(this.pinch.time - ((a + b) / 2 / view.width) * span, span);
    this.editor.screen.draw(true);
  }

  moveGesture(x) {
    const { editor, gesture } = this;
    gesture.hasMoved ||= Math.abs(x - gesture.x) > CLICK;
    if (!gesture.hasMoved || editor.isLocked) return;
    const time = Math.min(Math.max(editor.view.time(x), 0), editor.view.total);
    editor.preview(gesture.index, dragged(editor, gesture, time));
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    event.stopPropagation();
    if (!this.pointers.size) this.pinch = null;
    const { editor, gesture } = this;
    this.gesture = null;
    if (!gesture) return;
    if (gesture.hasMoved) editor.commitPreview();
    else {
      editor.setCursor(gesture.from);
      if (gesture.index < 0) editor.select(-1);
    }
  }

  cancel() {
    this.gesture = null;
    this.editor.dropPreview();
  }

  wheel(event) {
    const { editor } = this;
    const isFocused = this.element === document.activeElement;
    const isSideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    // Unless it was clicked, the wheel belongs to the graph under it.
    if (!isFocused || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_HEIGHT : 1;
    if (isSideways) {
      const pixels = (event.deltaX || event.deltaY) * unit;
      editor.view.scroll((pixels / editor.view.width) * editor.view.span);
    } else {
      const factor = Math.exp(-event.deltaY * unit * WHEEL_ZOOM);
      editor.view.zoom(factor, editor.view.time(this.place(event)));
    }
    editor.screen.draw(true);
  }
}

/** Make an element take part; returns a function that cancels what is going on. */
export function bindPointer(editor, element) {
  const gestures = new Gestures(editor, element);
  element.addEventListener("pointerdown", (event) => gestures.down(event));
  element.addEventListener("pointermove", (event) => gestures.move(event));
  element.addEventListener("pointerup", (event) => gestures.up(event));
  element.addEventListener("pointercancel", (event) => {
    gestures.pointers.delete(event.pointerId);
    gestures.cancel();
  });
  element.addEventListener("wheel", (event) => gestures.wheel(event), { passive: false });
  return () => gestures.cancel();
}
