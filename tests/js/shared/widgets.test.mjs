import assert from "node:assert/strict";
import { test } from "node:test";

import {
  after,
  doNotSerialize,
  findWidget,
  growToFit,
  isLinked,
  setHidden,
  valueOf,
} from "../../../js/shared/widgets.mjs";

const NODE = {
  widgets: [{ name: "steps", value: 8, options: {} }],
  inputs: [{ name: "steps", widget: { name: "steps" }, link: 3 }, { name: "latent", link: 4 }],
};

test("widgets are found by name, on nodes without any too", () => {
  assert.equal(findWidget(NODE, "steps"), NODE.widgets[0]);
  assert.equal(valueOf(NODE, "steps"), 8);
  assert.equal(valueOf(NODE, "seed"), undefined);
  assert.equal(findWidget({}, "steps"), undefined);
});

test("a link counts for the widget of its name only", () => {
  assert.equal(isLinked(NODE, "steps"), true);
  assert.equal(isLinked(NODE, "latent"), false);
  assert.equal(isLinked({}, "steps"), false);
});

test("what is hidden or not saved is so for both renderers", () => {
  const widget = { options: {} };
  setHidden(widget, true);
  doNotSerialize(widget);
  assert.deepEqual(widget, {
    options: { hidden: true, serialize: false },
    hidden: true,
    serialize: false,
  });
});

test("a node grows and never shrinks", () => {
  const node = {
    size: [300, 50],
    computeSize: () => [200, 120],
    setSize(size) {
      this.size = size;
    },
    setDirtyCanvas() {},
  };
  growToFit(node);
  assert.deepEqual(node.size, [300, 120]);
});

test("a method that is followed still gives its own result", () => {
  const seen = [];
  const object = { double: (value) => 2 * value };
  after(object, "double", (value) => seen.push(value));
  after(object, "fresh", (value) => seen.push(value));
  assert.equal(object.double(4), 8);
  assert.equal(object.fresh(5), undefined);
  assert.deepEqual(seen, [4, 5]);
});
