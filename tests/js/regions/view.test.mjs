import assert from "node:assert/strict";
import { test } from "node:test";

import { View } from "../../../js/regions/view.mjs";

function viewOf(total) {
  const view = new View();
  view.setTotal(total);
  view.width = 100;
  return view;
}

test("a view of the whole piece goes on showing all of it", () => {
  const view = viewOf(10);
  view.setTotal(20);
  assert.deepEqual([view.from, view.to], [0, 20]);
});

test("zooming leaves the time under the pointer where it is", () => {
  const view = viewOf(10);
  view.zoom(2, 4);
  assert.equal(view.span, 5);
  assert.equal(view.x(4), 40);
  assert.equal(view.time(40), 4);
});

test("a view never leaves the piece, and never shows less than a quarter of a second", () => {
  const view = viewOf(10);
  view.zoom(1000, 5);
  assert.equal(view.span, 0.25);
  view.scroll(100);
  assert.equal(view.to, 10);
  view.scroll(-100);
  assert.equal(view.from, 0);
});

test("revealing scrolls only to what is out of sight", () => {
  const view = viewOf(10);
  view.show(2, 2);
  view.reveal(3);
  assert.equal(view.from, 2);
  view.reveal(8);
  assert.ok(view.from <= 8 && view.to >= 8);
});
