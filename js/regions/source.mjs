// Which file sounds at a node's inputs: found by walking the graph upstream.

import { app } from "../../../scripts/app.js";

const FIRST_INPUTS = ["audio", "latent"]; // of the node itself, best first
const TYPES = ["AUDIO", "LATENT"];
const FILE_WIDGETS = ["audio", "file"]; // of nodes that load audio
const MOST_NODES = 200;
const ANNOTATION = / \[(input|output|temp)\]$/;
const BYPASSED = 4;
const MUTED = 2;

function makeSource(filename, subfolder, type) {
  const file = { filename, subfolder, type };
  return { file, name: filename, key: `${type}/${subfolder}/${filename}` };
}

/** "folder/name.wav [output]", as the file widgets say it. */
function fromWidget(node) {
  const widget = node.widgets?.find(({ name }) => FILE_WIDGETS.includes(name));
  const makesAudio = node.outputs?.some(({ type }) => type === "AUDIO");
  if (!makesAudio || typeof widget?.value !== "string" || !widget.value) return null;
  const type = widget.value.match(ANNOTATION)?.[1] ?? "input";
  const path = widget.value.replace(ANNOTATION, "").split(/[/\\]/);
  return makeSource(path.pop(), path.join("/"), type);
}

/** The audio that a node showed in its last run. */
function fromOutput(node) {
  const locator = node.graph === app.rootGraph ? node.id : `${node.graph?.id}:${node.id}`;
  const shown = app.nodeOutputs?.[locator]?.audio?.[0];
  return shown?.filename
    ? makeSource(shown.filename, shown.subfolder ?? "", shown.type ?? "output")
    : null;
}

function linkOf(graph, id) {
  return id == null ? null : (graph.getLink?.(id) ?? graph.links?.[id] ?? null);
}

/** Nodes that read an output. */
function readers(node, slot) {
  const links = node.outputs?.[slot]?.links ?? [];
  return links
    .map((id) => node.graph.getNodeById(linkOf(node.graph, id)?.target_id))
    .filter(Boolean);
}

/** What players behind an output showed: of its audio, or of a latent once decoded. */
function fromReaders(node, slot) {
  const type = node.outputs?.[slot]?.type;
  if (!TYPES.includes(type)) return null;
  for (const reader of readers(node, slot)) {
    if (type === "AUDIO") {
      const shown = fromOutput(reader);
      if (shown) return shown;
      continue;
    }
    const audio = reader.outputs?.findIndex((output) => output.type === "AUDIO") ?? -1;
    const shown = audio < 0 ? null : fromReaders(reader, audio);
    if (shown) return shown;
  }
  return null;
}

/** The node and output behind a link; through the walls of subgraphs. */
function originOf(graph, link) {
  const origin = graph.getNodeById(link.origin_id);
  if (origin?.subgraph) {
    const { linkIds } = origin.subgraph.outputs?.[link.origin_slot] ?? {};
    const inner = linkOf(origin.subgraph, linkIds?.[0]);
    return inner ? originOf(origin.subgraph, inner) : null;
  }
  if (origin) return { node: origin, slot: link.origin_slot };
  const graphs = [app.rootGraph, ...(app.rootGraph?.subgraphs?.values() ?? [])];
  for (const outer of graphs) {
    const holder = outer.nodes.find((node) => node.subgraph === graph);
    const outside = holder && linkOf(outer, holder.inputs?.[link.origin_slot]?.link);
    if (outside) return originOf(outer, outside);
  }
  return null;
}

function origins(node, names = null) {
  const wanted = (input) =>
    names ? names.includes(input.name) : TYPES.includes(input.type) || node.type === "Reroute";
  const rank = (input) => (names ? names.indexOf(input.name) : TYPES.indexOf(input.type));
  return (node.inputs ?? [])
    .filter((input) => input.link != null && wanted(input))
    .sort((a, b) => rank(a) - rank(b))
    .map((input) => linkOf(node.graph, input.link))
    .map((link) => link && originOf(node.graph, link))
    .filter(Boolean);
}

/**
 * The audio that reaches a node, as far as it is known before the graph runs.
 *
 * @returns {{file: object, name: string, key: string} | null}
 */
export function findSource(node) {
  if (!node.graph) return null;
  const waiting = origins(node, FIRST_INPUTS);
  const seen = new Set();
  while (waiting.length && seen.size < MOST_NODES) {
    const { node: origin, slot } = waiting.shift();
    if (seen.has(origin) || origin.mode === MUTED) continue;
    seen.add(origin);
    const own = origin.mode === BYPASSED ? null : (fromWidget(origin) ?? fromOutput(origin));
    const found = own ?? fromReaders(origin, slot);
    if (found) return found;
    waiting.push(...origins(origin));
  }
  return null;
}
