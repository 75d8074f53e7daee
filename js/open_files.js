// WAV and M4A files of Save Audio, dropped on the page or opened, bring their graph back.

import { app } from "../../scripts/app.js";
import { carriedGraph } from "./shared/carried.mjs";

app.registerExtension({
  name: "SA3.OpenFiles",

  setup() {
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
