import assert from "node:assert/strict";
import { test } from "node:test";

import { seedsOf } from "../../../js/takes/seeds.mjs";

test("items count on from one seed, beyond what a number holds", () => {
  assert.deepEqual(seedsOf({ seed: 7, seeds: "" }, 3), ["7", "8", "9"]);
  assert.deepEqual(seedsOf({ seed: "18446744073709551614", seeds: "" }, 2), [
    "18446744073709551614",
    "18446744073709551615",
  ]);
  assert.deepEqual(seedsOf({ seed: 1, seeds: "5" }, 2), ["5", "6"]);
});

test("a list has one seed for each item, ranges opened", () => {
  assert.deepEqual(seedsOf({ seed: 1, seeds: "7, 20-22" }, 4), ["7", "20", "21", "22"]);
});

test("where counts differ or nothing is known there is no seed", () => {
  assert.equal(seedsOf({ seed: 1, seeds: "7, 8" }, 3), null);
  assert.equal(seedsOf(undefined, 1), null);
});
