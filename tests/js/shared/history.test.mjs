import assert from "node:assert/strict";
import { test } from "node:test";

import { outputsOf } from "../../../js/shared/history.mjs";

const SAVE = { id: 6, type: "Save", widgets_values: ["audio/a", "flac"] };
const SAMPLER = { id: 4, type: "Sampler", widgets_values: [11, "randomize", 8] };
const RAN = {
  workflow: { nodes: [SAVE, SAMPLER] },
  outputs: { 6: { audio: ["a.flac"] }, 4: { text: ["8 steps"] } },
};

/** A node as the page has it. */
function live({ id, type, title, widgets_values }, more = {}) {
  return { id, type, serialize: () => ({ title, widgets_values }), ...more };
}

function box(id, ...nodes) {
  return { id, type: "box", serialize: () => ({}), subgraph: { nodes } };
}

function texts(run, nodes) {
  const found = outputsOf(run, { nodes });
  return Object.fromEntries([...found].map(([node, output]) => [node.id, JSON.stringify(output)]));
}

test("nodes that stand where they stood", () => {
  const found = texts(RAN, [live(SAVE), live(SAMPLER)]);
  assert.deepEqual(found, { 6: '{"audio":["a.flac"]}', 4: '{"text":["8 steps"]}' });
});

test("another type at the same place put out nothing", () => {
  assert.deepEqual(texts(RAN, [live({ ...SAVE, type: "Preview" })]), {});
});

test("nodes moved into a box, and into a box in it, keep their id", () => {
  const changed = { ...SAVE, widgets_values: ["audio/b", "wav"] };
  const found = texts(RAN, [box(9, live(changed), box(7, live(SAMPLER)))]);
  assert.deepEqual(found, { 6: '{"audio":["a.flac"]}', 4: '{"text":["8 steps"]}' });
});

test("nodes moved out of a box are known by their values, not by the seed that the page has drawn", () => {
  const inside = [{ id: 9, type: "box" }];
  const definitions = { subgraphs: [{ id: "box", nodes: [SAVE, SAMPLER] }] };
  const run = { workflow: { nodes: inside, definitions }, outputs: { "9:6": { a: 1 }, "9:4": { b: 2 } } };
  const widgets = [{ linkedWidgets: [{}] }, {}, {}];
  const drawn = live({ ...SAMPLER, id: 21, widgets_values: [77, "randomize", 8] }, { widgets });
  assert.deepEqual(texts(run, [live({ ...SAVE, id: 20 }), drawn]), { 20: '{"a":1}', 21: '{"b":2}' });
  const other = live({ ...SAMPLER, id: 21, widgets_values: [11, "randomize", 50] }, { widgets });
  assert.deepEqual(texts(run, [other]), {});
});

test("a box that was made and unpacked after the run leaves new ids", () => {
  assert.deepEqual(texts(RAN, [live({ ...SAVE, id: 20 })]), { 20: '{"audio":["a.flac"]}' });
  assert.deepEqual(texts(RAN, [live({ ...SAVE, id: 20, title: "Another" })]), {});
});

test("a node that was there and put out nothing takes nothing over", () => {
  const idle = { ...SAVE, id: 5 };
  const run = { ...RAN, workflow: { nodes: [SAVE, SAMPLER, idle] } };
  assert.deepEqual(texts(run, [live(idle)]), {});
});
