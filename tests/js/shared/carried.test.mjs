import assert from "node:assert/strict";
import { test } from "node:test";

import { carriedGraph } from "../../../js/shared/carried.mjs";

const UUID = "0b4c1718b51e5b77b8a2ac62439aab00";
const WORKFLOW = { nodes: [{ id: 1, title: "Bücher" }], links: [] };
const BODY = JSON.stringify({ prompt: '{"1": {}}', workflow: JSON.stringify(WORKFLOW) });

const bytes = (text) => new TextEncoder().encode(text);

function chunk(name, body) {
  const size = new Uint8Array(new Uint32Array([body.length]).buffer);
  return [bytes(name), size, body, new Uint8Array(body.length % 2)];
}

function wav(...chunks) {
  return new Blob([bytes("RIFF____WAVE"), ...chunks.flat()]);
}

function box(name, ...parts) {
  const body = parts.reduce((length, part) => length + part.length, 0);
  const size = new Uint8Array(4);
  new DataView(size.buffer).setUint32(0, 8 + body);
  return [size, bytes(name), ...parts];
}

const id = Uint8Array.from(UUID.match(/../g), (pair) => parseInt(pair, 16));

test("a chunk behind the sound of a WAV, also after one of odd length", async () => {
  const data = chunk("data", new Uint8Array(5));
  const found = await carriedGraph(wav(chunk("fmt ", bytes("x".repeat(16))), data, chunk("SA3g", bytes(BODY))));
  assert.deepEqual(found, { workflow: WORKFLOW, prompt: { 1: {} } });
});

test("a box behind the sound of an M4A", async () => {
  const parts = [box("ftyp", bytes("M4A ")), box("mdat", new Uint8Array(9)), box("uuid", id, bytes(BODY))];
  const found = await carriedGraph(new Blob(parts.flat()));
  assert.deepEqual(found.workflow, WORKFLOW);
});

test("files without a graph of ours", async () => {
  const foreign = box("uuid", new Uint8Array(16), bytes(BODY));
  for (const file of [
    new Blob([]),
    new Blob([bytes("fLaC")]),
    wav(chunk("data", new Uint8Array(4))),
    wav(chunk("SA3g", bytes("no JSON"))),
    wav(chunk("SA3g", bytes('{"workflow": "[]"}'))),
    new Blob([...box("ftyp", bytes("M4A ")), ...foreign]),
    new Blob([...box("ftyp", bytes("M4A ")), new Uint8Array(8)]),
  ])
    assert.equal(await carriedGraph(file), null);
});
