// The editor's elements: toolbar, picture, scroll bar and what it says.

import { make, setStyle } from "../shared/elements.mjs";
import { SNAPS } from "./snap.mjs";

const STYLE_ID = "sa3-regions-style";
const STYLE = `
.sa3-regions { --sa3-region: #e8830c; --sa3-cursor: #2b8ae2; display: flex; flex-direction: column;
  gap: 4px; box-sizing: border-box; width: 100%; height: 100%; min-height: 190px; padding: 4px;
  border-radius: 6px; background: var(--comfy-input-bg, #222); color: var(--input-text, #ddd);
  font: 12px/16px sans-serif; }
.sa3-regions .sa3-tools { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; }
.sa3-regions button, .sa3-regions select { min-width: 26px; height: 24px; padding: 0 6px;
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; font: inherit;
  cursor: pointer;
  background: var(--comfy-menu-bg, #353535); color: inherit; }
.sa3-regions button[aria-pressed="true"] { border-color: var(--sa3-region);
  color: var(--sa3-region); }
.sa3-regions button:disabled { opacity: 0.4; cursor: default; }
.sa3-regions :focus-visible { outline: 2px solid var(--sa3-cursor); outline-offset: -1px; }
.sa3-regions .sa3-gap { flex: 1; }
.sa3-regions .sa3-stage { position: relative; flex: 1; min-height: 90px; overflow: hidden;
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; }
.sa3-regions canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.sa3-regions .sa3-picture { position: absolute; inset: 0; touch-action: none; user-select: none;
  cursor: crosshair; }
.sa3-regions .sa3-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.sa3-regions .sa3-scroll { position: relative; height: 8px; border-radius: 4px; touch-action: none;
  background: color-mix(in srgb, var(--border-color, #4e4e4e) 50%, transparent); }
.sa3-regions .sa3-thumb { position: absolute; top: 0; bottom: 0; min-width: 8px; border-radius: 4px;
  background: var(--descrip-text, #999); }
.sa3-regions .sa3-says { min-height: 16px; overflow: hidden; white-space: nowrap;
  text-overflow: ellipsis; color: var(--descrip-text, #999); }
`;

/** The place of the widget; it stays with the node, what is in it comes and goes. */
export function makeRoot() {
  setStyle(STYLE_ID, STYLE);
  return make("div", { className: "sa3-regions" });
}

/**
 * Build the elements into their place.
 *
 * @returns {Record<string, any>} root, play, playRegion, loop, snap, spectrogram, split,
 *   remove, zoomOut, zoomIn, fit, item, stage, sound, marks, picture, options, scroll, thumb,
 *   says, status
 */
export function buildPanel(root) {
  const button = (text) => make("button", { type: "button", textContent: text });
  const panel = {
    root,
    play: button("\u25b6"),
    playRegion: button("[\u25b6]"),
    loop: button("\u21bb"),
    snap: make("select", {}, ...SNAPS.map((value) => make("option", { value }))),
    spectrogram: button("\u2592"),
    item: make("select", { hidden: true }),
    split: button("\u2702"),
    remove: button("\u2715"),
    zoomOut: button("\u2212"),
    zoomIn: button("+"),
    fit: button("\u2194"),
    sound: make("canvas"),
    marks: make("canvas"),
    options: make("div", { className: "sa3-hidden" }),
    thumb: make("div", { className: "sa3-thumb" }),
    says: make("div", { className: "sa3-says" }),
    status: make("div", { className: "sa3-hidden" }),
  };
  const gap = make("span", { className: "sa3-gap" });
  const left = [panel.play, panel.playRegion, panel.loop, panel.snap, panel.spectrogram];
  const right = [panel.split, panel.remove, panel.zoomOut, panel.zoomIn, panel.fit];
  const tools = make("div", { className: "sa3-tools" }, ...left, panel.item, gap, ...right);
  panel.picture = make("div", { className: "sa3-picture", tabIndex: 0 }, panel.options);
  panel.stage = make("div", { className: "sa3-stage" }, panel.sound, panel.marks, panel.picture);
  panel.scroll = make("div", { className: "sa3-scroll" }, panel.thumb);
  panel.tools = tools;
  root.replaceChildren(tools, panel.stage, panel.scroll, panel.says, panel.status);
  setRoles(panel);
  return panel;
}

function setRoles(panel) {
  panel.root.role = "group";
  panel.tools.role = "toolbar";
  panel.picture.role = "listbox";
  panel.status.role = "status";
  panel.says.ariaHidden = panel.scroll.ariaHidden = "true"; // the status says it, keys do it
  panel.loop.ariaPressed = panel.spectrogram.ariaPressed = "false";
  panel.picture.dataset.captureWheel = "true"; // Nodes 2.0: the wheel is ours while focused
}

/** "play" -> "regionsPlay", as locales have it. */
function keyOf(name) {
  return `regions_${name}`.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
}

/** Put names and hints in the language of the interface. */
export function namePanel(panel, text) {
  const named = ["play", "playRegion", "loop", "snap", "spectrogram", "item", "split", "remove"];
  for (const name of [...named, "zoomOut", "zoomIn", "fit"]) {
    const label = text(keyOf(name));
    panel[name].title = panel[name].ariaLabel = label;
  }
  for (const option of panel.snap.options) option.textContent = text(keyOf(`by_${option.value}`));
  panel.root.ariaLabel = panel.tools.ariaLabel = text("regionsEditor");
  panel.picture.ariaLabel = text("regionsList");
  panel.picture.title = text("regionsKeys");
  panel.picture.ariaDescription = text("regionsKeys");
}

/** One option per region, for screen readers; returns the selected one's id. */
export function listRegions(panel, labels, selected, prefix) {
  const options = labels.map((label, index) => {
    const option = make("div", { id: `${prefix}-${index}`, textContent: label });
    option.role = "option";
    option.ariaSelected = String(index === selected);
    return option;
  });
  panel.options.replaceChildren(...options);
  if (selected >= 0) panel.picture.setAttribute("aria-activedescendant", options[selected].id);
  else panel.picture.removeAttribute("aria-activedescendant");
}

/** Drag the scroll bar's thumb, or click beside it. */
export function bindScroll(panel, view, changed) {
  const scrollTo = (event) => {
    const box = panel.scroll.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    view.show(share * view.total - view.span / 2, view.span);
    changed();
  };
  panel.scroll.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    panel.scroll.setPointerCapture(event.pointerId);
    scrollTo(event);
  });
  panel.scroll.addEventListener("pointermove", (event) => {
    if (panel.scroll.hasPointerCapture(event.pointerId)) scrollTo(event);
  });
}
