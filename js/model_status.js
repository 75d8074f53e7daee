// The loaders say, before anything runs, whether the chosen model is there or will be downloaded.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addStatusLine, make } from "./shared/elements.mjs";
import { texts } from "./shared/texts.mjs";
import { after, findWidget, growToFit, setAdvanced, valueOf } from "./shared/widgets.mjs";

// Node id -> the combo that names the model, and the list of the route's answer it stands in.
const LOADERS = {
  SA3LoadModel: { combo: "model", list: "models", needsText: true },
  SA3LoadSAME: { combo: "autoencoder", list: "autoencoders", needsText: false },
};
const SOURCE = "download_from"; // the widget that chooses where a download comes from
const PLACE = { widget: "status", className: "sa3-status", lines: 5, margin: 4 };

let states = null; // a promise of the route's answer, shared by all nodes until a run ends

function loadStates() {
  states ??= api.fetchApi("/sa3/models").then((answer) => answer.json());
  return states;
}

function sizeOf(bytes) {
  if (bytes < 1e8) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(bytes < 1e9 ? 2 : 1)} GB`;
}

/** How a source of a download stands: size, precision, and whether one has to log in for it. */
function sourceFacts(source, isLoggedIn, text) {
  const access = source.gated ? (isLoggedIn ? "modelGatedKnown" : "modelGated") : "modelOpen";
  return { size: sizeOf(source.bytes), precision: source.precision, access: text(access) };
}

/** A sentence whose name of a source leads to its files; where they belong is said at the link. */
function withLink(sentence, name, url, folder) {
  const [before, ...rest] = sentence.split(name);
  const link = make("a", { href: url, target: "_blank", rel: "noopener", title: `${url} → ${folder}` }, name);
  link.style.cssText = "color: inherit; text-decoration: underline;";
  link.addEventListener("pointerdown", (event) => event.stopPropagation()); // else it drags the node
  return [before, link, rest.join(name)];
}

/** What a run will download, and what the other sources would bring, the best of them first. */
function describeDownload(state, chosen, found, text) {
  const { [chosen]: taken = state.sources.upstream, ...others } = state.sources;
  const name = chosen === "mirror" ? chosen : state.repo;
  const facts = (source) => sourceFacts(source, found.logged_in, text);
  const names = Object.keys(others).sort((a) => (a === state.preferred ? -1 : 1));
  const linked = (key, source, of) => withLink(text(key, { source, ...facts(of) }), source, of.url, state.folder);
  return [
    ...linked("modelWillDownload", name, taken),
    ...names.flatMap((other) => ["\n", ...linked("modelOtherSource", other, others[other])]),
  ];
}

/** Sentences about a node's choice, one per line, as text and links. */
function describe(node, loader, found, text) {
  const state = found[loader.list][valueOf(node, loader.combo)];
  if (!state) return [text("modelUnknown")];
  if (state.sources) return describeDownload(state, valueOf(node, SOURCE), found, text);
  if (state.bundled) return [text("modelBundled", { size: sizeOf(state.bytes) })];
  const lines = [text("modelOnDisk", { size: sizeOf(state.bytes) })];
  const chosen = valueOf(node, "text_encoder");
  if (loader.needsText && chosen === found.with_model && !found.text_encoders.length) {
    lines.push(text("textEncoderMissing"));
  }
  return [lines.join("\n")];
}

/** The choice of the source is in sight where something will be downloaded, else advanced. */
function showSource(node, isWanted) {
  const widget = findWidget(node, SOURCE);
  if (!widget || widget.options.advanced === !isWanted) return;
  setAdvanced(node, widget, !isWanted);
  // Only what does not fit makes the node taller: a graph that is loaded again, by undo too, holds
  // the size that this gave it, and must not change.
  if (isWanted) growToFit(node);
}

async function update(node) {
  const loader = LOADERS[node.comfyClass];
  try {
    const [found, text] = await Promise.all([loadStates(), texts()]);
    node.sa3Status.replaceChildren(...describe(node, loader, found, text));
    showSource(node, Boolean(found[loader.list][valueOf(node, loader.combo)]?.sources));
  } catch (error) {
    node.sa3Status.textContent = String(error);
  }
}

function updateAll() {
  states = null;
  const graphs = [app.rootGraph, ...(app.rootGraph.subgraphs?.values() ?? [])];
  for (const node of graphs.flatMap((graph) => graph.nodes)) {
    if (node.sa3Status) void update(node);
  }
}

app.registerExtension({
  name: "SA3.ModelStatus",

  setup() {
    api.addEventListener("execution_success", updateAll); // a download may have brought a model
    api.addEventListener("execution_error", updateAll);
  },

  refreshComboInNodes: updateAll,

  nodeCreated(node) {
    if (!(node.comfyClass in LOADERS)) return;
    node.sa3Status = addStatusLine(node, PLACE);
    for (const widget of node.widgets) {
      if (widget.name !== PLACE.widget) after(widget, "callback", () => void update(node));
    }
    after(node, "onConfigure", () => void update(node)); // a loaded graph, undo, paste
    void update(node);
  },
});
