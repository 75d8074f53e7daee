// What the server says about a run, and the nodes and files of the page that it means.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

/** The node that a message names; inside subgraphs the ids stand behind one another: "5:3". */
export function nodeAt(path) {
  let graph = app.rootGraph;
  let node = null;
  for (const id of String(path).split(":")) {
    node = graph?.getNodeById(id);
    graph = node?.subgraph;
  }
  return node;
}

/** Where the server hands out a file of its input, output or temporary folder. */
export function fileUrl({ filename, subfolder, type }) {
  const query = new URLSearchParams({ filename, subfolder: subfolder ?? "", type });
  return api.apiURL(`/view?${query}`);
}
