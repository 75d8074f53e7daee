import assert from "node:assert/strict";
import { test } from "node:test";

import { allNodes, fillTokens } from "../../../js/shared/names.mjs";

const NOW = new Date(2026, 2, 4, 5, 6, 7);
const INNER = { title: "Inner", widgets: [{ name: "seed", value: 5 }] };
const GRAPH = {
  nodes: [
    {
      title: "First take",
      properties: { "Node name for S&R": "SA3Sampler" },
      widgets: [
        { name: "seed", value: 12 },
        { name: "shift", value: 2.5 },
        { name: "empty", value: null },
      ],
    },
    { title: "SA3Sampler", widgets: [{ name: "seed", value: 99 }] },
    { title: "Prompt", widgets: [{ name: "text", value: `a/b: "c"\n${"long ".repeat(40)}` }] },
    { title: "Box", subgraph: { nodes: [INNER] } },
  ],
};

function filled(prefix) {
  return fillTokens(prefix, allNodes(GRAPH), NOW);
}

test("dates are written as the page writes them", () => {
  assert.equal(filled("%date:yyyy-MM-dd%/a"), "2026-03-04/a");
  assert.equal(filled("%date:yy.M.d h_m_s%"), "26.3.4 5_6_7");
  assert.equal(filled("%date:hh:mm:ss%"), "05_06_07");
});

test("a widget is found by the node's name, then by its title, in subgraphs too", () => {
  assert.equal(filled("a/%SA3Sampler.seed%"), "a/12");
  assert.equal(filled("%First take.shift%"), "2.5");
  assert.equal(filled("x%First take.empty%y"), "xy");
  assert.equal(filled("%Inner.seed%"), "5");
});

test("a value opens no folder and stays short", () => {
  const name = filled("%Prompt.text%");
  assert.ok(name.startsWith("a_b_ _c__long long"));
  assert.ok(name.length <= 60);
});

test("what is no token of the page is left to the server", () => {
  for (const text of ["%year%-%batch_num%", "%width%", "50%-60%", "%Nobody.seed%", "%Prompt.a.b%"])
    assert.equal(filled(text), text);
});
