import assert from "node:assert/strict";
import { test } from "node:test";

import { suggest } from "../../../js/prompt/tags.mjs";

test("nothing is offered before two letters", () => {
  assert.deepEqual(suggest("h").options, []);
  assert.ok(suggest("ho").options.length > 0);
});

test("a tag's own values come first, at once", () => {
  assert.deepEqual(suggest("TrackType: ").options, ["Music", "Instrument", "SFX"]);
  assert.equal(suggest("TrackType: Music, Genre: Ho").options[0], "House");
  assert.equal(suggest("Instruments: Piano, Ba").options[0], "Bagpipes");
});

test("what is typed is replaced from its first letter on", () => {
  const text = "warm pads, deep ho";
  const { start, options } = suggest(text);
  assert.equal(text.slice(start), "deep ho");
  assert.deepEqual(options, ["Deep House"]);
});

test("a word that stands there whole is not offered, and never more than eight", () => {
  assert.ok(!suggest("House").options.includes("House"));
  assert.ok(suggest("Genre: ").options.length <= 8);
});
