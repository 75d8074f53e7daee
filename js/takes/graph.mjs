// What a take's buttons do with the graph: its sound becomes a source, its seed is drawn anew.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { fileUrl, nodeAt } from "../shared/runs.mjs";
import { findWidget, isLinked } from "../shared/widgets.mjs";

const LOADER = "LoadAudio"; // ComfyUI's own node
const GAP = 40; // px between the node and a loader that is added
const SEEDS = 2 ** 32;

/** The sampler that a run names, where its seeds can be written. */
export function samplerOf(made) {
  const sampler = made && nodeAt(made.node);
  const isFree = (name) => findWidget(sampler, name) && !isLinked(sampler, name);
  return sampler && isFree("seed") && (isFree("seeds") || !findWidget(sampler, "seeds")) ? sampler : null;
}

function write(node, name, value) {
  const widget = findWidget(node, name);
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
}

/** Run again with another seed for one take; the others stay as they are. */
export function rollAgain(sampler, seeds, index) {
  const drawn = String(Math.floor(Math.random() * SEEDS));
  if (seeds.length === 1 || !findWidget(sampler, "seeds")) {
    if (findWidget(sampler, "seeds")) write(sampler, "seeds", "");
    write(sampler, "seed", Number(drawn));
  } else {
    write(sampler, "seeds", seeds.with(index, drawn).join(", "));
  }
  return app.queuePrompt(0);
}

function addLoader(node) {
  const loader = globalThis.LiteGraph.createNode(LOADER);
  loader.pos = [node.pos[0], node.pos[1] + node.size[1] + GAP + globalThis.LiteGraph.NODE_TITLE_HEIGHT];
  node.graph.add(loader);
  return loader;
}

/**
 * Copy a take into the input folder and choose it in a Load Audio: the selected one, else the
 * graph's first, else a new one.
 *
 * @returns {Promise<string>} the name of the copy.
 */
export async function useAsSource(node, file) {
  const answer = await fetch(fileUrl(file));
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  const body = new FormData();
  body.append("image", new File([await answer.blob()], file.filename)); // the route's name for any file
  const stored = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!stored.ok) throw new Error(`${stored.status} ${stored.statusText}`);
  const { name } = await stored.json();
  const selected = Object.values(app.canvas.selected_nodes ?? {});
  const isLoader = (other) => other.comfyClass === LOADER && other.graph === node.graph;
  const loader = selected.find(isLoader) ?? node.graph.nodes.find(isLoader) ?? addLoader(node);
  const { values } = findWidget(loader, "audio").options;
  if (Array.isArray(values) && !values.includes(name)) values.push(name);
  write(loader, "audio", name);
  loader.setDirtyCanvas?.(true, true);
  return name;
}
