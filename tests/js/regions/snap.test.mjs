import assert from "node:assert/strict";
import { test } from "node:test";

import { FRAME } from "../../../js/regions/masks.mjs";
import { gridStep, keyStep, snapTime } from "../../../js/regions/snap.mjs";

const BEAT = { seconds: 0.5, perBar: 4 };
const PIECE = { beat: BEAT, crossings: null, duration: 10.2 };

test("each grid has its step, and none without a tempo", () => {
  assert.equal(gridStep("frames", BEAT), FRAME);
  assert.equal(gridStep("seconds", BEAT), 1);
  assert.equal(gridStep("beats", BEAT), 0.5);
  assert.equal(gridStep("beats", { seconds: NaN }), 0);
  assert.equal(gridStep("off", BEAT), 0);
  assert.equal(keyStep("off", BEAT), 0.01);
});

test("round times have the finest step that a person can aim at", () => {
  assert.equal(gridStep("times", BEAT, 0.001), 0.01); // zoomed in: 4 ms are 4 pixels
  assert.equal(gridStep("times", BEAT, 0.02), 0.1); // 10 s over 500 pixels
  assert.equal(gridStep("times", BEAT, 100), 10);
  assert.equal(snapTime(3.13, "times", { ...PIECE, pixel: 0.02 }).toFixed(9), "3.100000000");
  assert.equal(keyStep("times", BEAT, 0.02), 0.1);
});

test("a time goes to the nearest line, or to the end of the piece", () => {
  assert.equal(snapTime(3.4, "seconds", PIECE), 3);
  assert.equal(snapTime(3.3, "beats", PIECE), 3.5);
  assert.equal(snapTime(3.3, "off", PIECE), 3.3);
  assert.equal(snapTime(10.15, "seconds", PIECE), 10.2);
});

test("the nearest zero crossing within reach is taken", () => {
  const [none, bin, rate] = [255, 100, 1000];
  const places = new Uint8Array(100).fill(none);
  places[20] = 30; // sample 2030
  const piece = { ...PIECE, crossings: { places, bin, rate, none } };
  assert.equal(snapTime(2.0, "zero", piece), 2.03);
  assert.equal(snapTime(7.0, "zero", piece), 7.0);
});
