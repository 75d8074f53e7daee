// Save Audio: a player in the node, a selector of the file it plays, and a card for each take.

import { app } from "../../scripts/app.js";
import { followOutputs } from "./shared/outputs.mjs";
import { fixHeight, placeElement } from "./shared/places.mjs";
import { fileUrl } from "./shared/runs.mjs";
import { texts } from "./shared/texts.mjs";
import { after, doNotSerialize, findWidget, growToFit, setHidden } from "./shared/widgets.mjs";
import { TakeCards } from "./takes/cards.mjs";

const NODES = ["SA3SaveAudio"]; // node ids whose `audio` output names saved files
const PLAYER = "audioUI";
const SELECTOR = "play";
const CARDS = "takes";
const MARGIN = 4; // px around the cards

/** Names of the choices: numbered, because a list of runs may save one name into many folders. */
function labels(files) {
  return files.map((file, index) => `${index + 1}: ${file.filename}`);
}

function play(node, file) {
  const player = findWidget(node, PLAYER);
  if (!player || !file) return;
  const url = fileUrl(file);
  player.element.src = url;
  player.element.classList.remove("empty-audio-widget");
  player.value = url; // what Nodes 2.0 shows
}

/** The place of the cards; made with the first run, so that a new node is no taller. */
function showCards(node, files, made, text) {
  if (!node.sa3Cards) {
    if (!files.length) return;
    node.sa3Cards = new TakeCards(node, text);
    const options = { margin: MARGIN, hideOnZoom: false };
    const widget = placeElement(node, CARDS, node.sa3Cards.element, options);
    fixHeight(widget, () => node.sa3Cards.height + 2 * MARGIN);
  }
  node.sa3Cards.setFiles(files, made);
  node.sa3Cards.element.style.minHeight = `${node.sa3Cards.height}px`;
}

/** Take over a run's files: the first one is ready to play. */
function setFiles(node, files) {
  const selector = findWidget(node, SELECTOR);
  if (!selector) return;
  const names = labels(files);
  node.sa3Files = Object.fromEntries(names.map((name, index) => [name, files[index]]));
  selector.options.values = names;
  selector.value = names[0] ?? "";
  setHidden(selector, names.length < 2);
  play(node, files[0]);
  growToFit(node);
}

/** A removed node's player gives its decoder back; browsers allow a page only so many. */
function release(node) {
  const element = findWidget(node, PLAYER)?.element;
  element?.removeAttribute("src");
  element?.load();
}

function addSelector(node) {
  const choose = (name) => play(node, node.sa3Files?.[name]);
  const selector = node.addWidget("combo", SELECTOR, "", choose, { values: [] });
  doNotSerialize(selector);
  setHidden(selector, true);
}

app.registerExtension({
  name: "SA3.SaveAudio",

  async setup() {
    this.text = await texts();
  },

  beforeRegisterNodeDef(_nodeType, nodeData) {
    if (!NODES.includes(nodeData.name)) return;
    nodeData.input.required[PLAYER] = ["AUDIO_UI", {}];
  },

  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    addSelector(node);
    followOutputs(node, (output) => {
      const files = output.audio ?? [];
      showCards(node, files, output.sa3_made?.[0], this.text ?? ((key) => key));
      setFiles(node, files);
    });
    after(node, "onRemoved", () => {
      release(node);
      node.sa3Cards?.close();
    });
  },
});
