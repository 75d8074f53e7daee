import assert from "node:assert/strict";
import { test } from "node:test";

import {
  addRegion,
  formatHalves,
  formatRegion,
  formatSeconds,
  readLines,
  readRegions,
  removeRegion,
  replaceRegion,
} from "../../../js/regions/grammar.mjs";

const PIECE = { duration: 60, beat: { seconds: 0.5, perBar: 4 } };

const times = (text, piece = PIECE) => readRegions(text, piece).map(({ start, end }) => [start, end]);

test("every way to write a time is read", () => {
  assert.deepEqual(times("1-2.5"), [[1, 2.5]]);
  assert.deepEqual(times("0:04-0:08.5"), [[4, 8.5]]);
  assert.deepEqual(times("50%-75%"), [[30, 45]]);
  assert.deepEqual(times("1 \u2013 2"), [[1, 2]]);
  assert.deepEqual(times("bar 3"), [[4, 6]]);
  assert.deepEqual(times("Bars 1-5"), [[0, 8]]);
});

test("what cannot be used is kept and marked", () => {
  const valid = (text) => readRegions(text, PIECE).map((region) => region.valid);
  assert.deepEqual(valid("1-2, soon, 3-4"), [true, false, true]);
  assert.deepEqual(valid("5-5"), [false]);
  assert.deepEqual(valid("61-62"), [false]); // behind the end
  assert.deepEqual(valid("0:75-0:80"), [false]); // no such second
  assert.deepEqual(valid("1-2-3"), [false]);
});

test("an unknown length and tempo forbid nothing but what needs them", () => {
  const unknown = { duration: NaN, beat: { seconds: NaN, perBar: 4 } };
  const valid = (text) => readRegions(text, unknown)[0].valid;
  assert.equal(valid("100-200"), true);
  assert.equal(valid("10%-20%"), false);
  assert.equal(valid("bar 2"), false);
});

test("places in the text are those of the regions", () => {
  const text = "1-2;  3-4";
  const places = readRegions(text, PIECE).map(({ from, to }) => text.slice(from, to));
  assert.deepEqual(places, ["1-2", "3-4"]);
});

test("blank lines are no lines", () => {
  const text = "1-2\n\n  \n3-4";
  assert.deepEqual(
    readLines(text).map(({ from, to }) => text.slice(from, to)),
    ["1-2", "3-4"],
  );
});

test("a region is rounded inwards, so that no frame more is touched", () => {
  assert.equal(formatRegion({ start: 1.000001, end: 2.000009 }), "1.00001-2");
  assert.equal(formatHalves({ start: 1, end: 3 }, 2), "1-2, 2-3");
  assert.equal(formatSeconds(1.23456), "1.235");
});

test("editing leaves the rest of the text alone", () => {
  const text = "1-2, bar 3,\n7-8";
  const [first, second, third] = readRegions(text, PIECE);
  assert.equal(replaceRegion(text, first, { start: 1, end: 3 }), "1-3, bar 3,\n7-8");
  assert.equal(removeRegion(text, second), "1-2, \n7-8");
  assert.equal(removeRegion(text, third), "1-2, bar 3,\n");
  assert.equal(addRegion("", { start: 1, end: 2 }), "1-2");
  assert.equal(addRegion("1-2", { start: 3, end: 4 }), "1-2, 3-4");
  assert.equal(addRegion("1-2\n5-6", { start: 3, end: 4 }, 3), "1-2, 3-4\n5-6");
});
