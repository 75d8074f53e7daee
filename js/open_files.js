// WAV and M4A files of Save Audio, dropped on the page or opened, bring their graph back.

import { app } from "../../scripts/app.js";
import { carriedGraph } from "./shared/carried.mjs";

const KINDS = [".wav", ".m4a"];

/** Let the page's dialog for opening files show these kinds, too. */
function offer() {
  const picker = document.getElementById("comfy-file-input");
  if (!(picker instanceof HTMLInputElement)) return;
  const more = KINDS.filter((kind) => !picker.accept.split(",").includes(kind));
  if (picker.accept && more.length) picker.accept = [picker.accept, ...more].join(",");
}

app.registerExtension({
  name: "SA3.OpenFiles",

  setup() {
    offer();
    const stock = app.handleFile;
    // All other files, and those without a graph of ours, are the page's own business.
    app.handleFile = async function (file, ...rest) {
      const carried = file instanceof Blob ? await carriedGraph(file) : null;
      if (!carried) return stock.call(this, file, ...rest);
      const name = file.name.replace(/\.\w+$/, "");
      if (carried.workflow) return app.loadGraphData(carried.workflow, true, true, name);
      return app.loadApiJson(carried.prompt, name);
    };
  },
});
