import assert from "node:assert/strict";
import { test } from "node:test";

import { FRAME, invertSpans, maskedSpans, mergeSpans } from "../../../js/regions/masks.mjs";

test("spans that overlap or touch become one", () => {
  const spans = [
    { start: 4, end: 5 },
    { start: 0, end: 2 },
    { start: 1, end: 3 },
    { start: 3, end: 3.5 },
  ];
  assert.deepEqual(mergeSpans(spans), [
    { start: 0, end: 3.5 },
    { start: 4, end: 5 },
  ]);
});

test("the inverse is what is between, before and after", () => {
  assert.deepEqual(invertSpans([{ start: 1, end: 2 }], 4), [
    { start: 0, end: 1 },
    { start: 2, end: 4 },
  ]);
  assert.deepEqual(invertSpans([{ start: 0, end: 4 }], 4), []);
});

test("cover takes every frame that is touched, upstream rounds both ends up", () => {
  const region = [{ start: 1.5 * FRAME, end: 2.5 * FRAME }];
  const frames = (rule) =>
    maskedSpans(region, { duration: 10, rule, invert: false }).map(({ start, end }) => [
      Math.round(start / FRAME),
      Math.round(end / FRAME),
    ]);
  assert.deepEqual(frames("cover"), [[1, 3]]);
  assert.deepEqual(frames("upstream"), [[2, 3]]);
});

test("nothing is made anew behind the end of the piece", () => {
  const [span] = maskedSpans([{ start: 9, end: 10 }], { duration: 10, rule: "cover", invert: false });
  assert.equal(span.end, 10);
});
