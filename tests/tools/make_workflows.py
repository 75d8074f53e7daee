"""Make the UI form of the example workflows, and their thumbnails, in the real frontend.

    python -m tests.tools.make_workflows [NAME ...]

Reads example_workflows/api/NAME.json (default: all) and writes example_workflows/NAME.json and
NAME.jpg. Run it after an API workflow or a node's inputs changed; the tests compare the two forms.
"""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.helpers.chromium import find_browser, launch_options
from tests.helpers.frontend import Frontend
from tests.helpers.harness import ComfyServer
from tests.helpers.support import comfyui_root
from tests.tools.example_inputs import (
    api_workflow,
    page_form,
    with_defaults,
    workflow_names,
    write_example_inputs,
)
from tests.tools.layout import IN_COLUMNS, LOWEST_END
from tests.tools.template_columns import columns_of
from tests.tools.thumbnails import draw_thumbnail
from tests.tools.workflow_forms import form_of
from tests.tools.workflow_notes import NOTES

FOLDED = 30  # height of a folded node; some pages fit the view to what it would take unfolded
GROUP_END = 10  # below the lowest node of a group
VIEWPORT = {"width": 1800, "height": 800}
HUB = "https://huggingface.co/Comfy-Org/stable-audio-3/resolve/main"
TEXT_ENCODER = ("t5gemma_b_b_ul2.safetensors", "text_encoders")

PREPARE = f"""([note, modelsOf, columns]) => {{
    {IN_COLUMNS}
    const graph = app.graph;
    const nodes = [...graph.nodes].sort((a, b) => a.id - b.id);
    for (const node of nodes) {{
        // Unfold where an advanced input matters: one that is not as in a fresh node.
        const fresh = LiteGraph.createNode(node.type);
        const differs = (widget) => widget.options.advanced &&
            widget.value !== fresh.widgets.find((other) => other.name === widget.name)?.value;
        if (node.widgets?.some(differs)) {{
            node.widgets.find((widget) => widget.name === "advanced").callback();
        }}
        const models = modelsOf[node.widgets?.find((widget) => widget.name === "model")?.value];
        if (node.type === "SA3LoadModel" && models) node.properties.models = models;
        for (const {{ name, linkedWidgets = [] }} of node.widgets ?? []) {{
            // Decoder noise belongs to a take: a new one at every run decodes anew for nothing.
            for (const control of linkedWidgets) {{
                control.value = name === "noise_seed" ? "fixed" : "randomize";
            }}
        }}
    }}
    const text = LiteGraph.createNode("MarkdownNote");
    graph.add(text);
    text.title = "Read me";
    text.widgets[0].value = note;
    inColumns([...nodes, text], columns);
}}"""


def model_links() -> dict[str, list[dict[str, str]]]:
    """`properties.models` of a loader by the variant it names: ComfyUI's single files."""
    names = ("small-music", "small-sfx", "medium")
    variants = [*names, *(f"{name}-base" for name in names)]
    return {
        variant: [
            {"name": file, "url": f"{HUB}/{folder}/{file}", "directory": folder}
            for file, folder in (
                (f"stable_audio_3_{variant.replace('-', '_')}.safetensors", "checkpoints"),
                TEXT_ENCODER,
            )
        ]
        for variant in variants
    }


def make(ui: Frontend, name: str) -> None:
    """Write the UI form and the thumbnail of one API workflow."""
    ui.reset()
    # The page keeps values by graph and node, and takes every graph of this form for the same
    # one: what is not said would be as in the graph before.
    graph = with_defaults(api_workflow(name), ui.server.client.object_info())
    script = "([graph, name]) => window.app.loadApiJson(graph, name)"
    ui.page.evaluate(script, [graph, name])
    ui.settle(500)
    ui.load(ui.workflow())  # nodes fold and unfold by the values that they are opened with
    ui.settle(500)
    ui.page.evaluate(PREPARE, [NOTES[name], model_links(), columns_of(name)])
    ui.settle(500)
    workflow = tidy(ui.workflow(), name)
    write(name, workflow)
    draw_thumbnail(name, page_form(name, ".jpg"))


def write(name: str, workflow: dict[str, Any]) -> None:
    text = json.dumps(workflow, indent=1, ensure_ascii=False)
    page_form(name).write_text(text + "\n", encoding="utf-8")


def hold_tall_nodes(ui: Frontend, name: str) -> None:
    """Let the groups that reach to the lower edge hold their nodes in Nodes 2.0, too."""
    workflow = json.loads(page_form(name).read_text("utf-8"))
    ui.load(workflow)
    ui.fit()
    nodes = [node["pos"][1] + node["size"][1] for node in workflow["nodes"]]
    end = max(ui.steady(LOWEST_END), *nodes)
    edges = [group["bounding"] for group in workflow["groups"]]
    lowest = max(top + height for _, top, _, height in edges)
    for edge in edges:
        if edge[1] + edge[3] == lowest:
            edge[3] = round(end) + GROUP_END - edge[1]
    write(name, workflow)


def tidy(workflow: dict[str, Any], name: str) -> dict[str, Any]:
    """Leave out what differs from run to run or says nothing, so that changes show in a diff."""
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"ComfyUI-SA3/{name}"))
    workflow["extra"] = {"linearData": form_of(name, workflow)}  # app mode's form
    for node in workflow["nodes"]:
        node["pos"] = [round(value) for value in node["pos"]]
        node["size"] = [round(value) for value in node["size"]]
        if node["flags"].get("collapsed"):
            node["size"][1] = FOLDED
        for slots, link in (("inputs", "link"), ("outputs", "links")):
            node[slots] = [
                {key: value for key, value in slot.items() if value is not None or key == link}
                for slot in node.get(slots) or []
            ]
    return workflow


def show_graph_only(ui: Frontend) -> None:
    """No side bars, and text however small."""
    ui.set_setting("LiteGraph.Canvas.MinFontSizeForLOD", 0)
    ui.set_setting("Comfy.Minimap.Visible", False)
    ui.set_setting("Comfy.Graph.CanvasInfo", False)
    ui.set_setting("Comfy.Graph.CanvasMenu", False)
    ui.page.evaluate("() => app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
    ui.settle(500)


def main(names: list[str]) -> int:
    names = names or workflow_names()
    unknown = [name for name in names if name not in NOTES]
    if unknown:
        print(f"write a note for {', '.join(unknown)} in {Path(__file__).parent}/workflow_notes.py")
        return 1
    browser = find_browser()
    if browser is None:
        print("no Chrome, Chromium or Edge; set SA3_BROWSER")
        return 1
    with (
        tempfile.TemporaryDirectory() as base,
        ComfyServer(comfyui_root(), Path(base)) as server,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(**launch_options(browser))
        page = chromium.new_page(viewport=VIEWPORT, reduced_motion="reduce")
        ui = Frontend(page, server)
        write_example_inputs(server)
        ui.open()
        show_graph_only(ui)
        for name in names:
            make(ui, name)
        ui.reset()
        ui.use_renderer("vue")
        for name in names:
            hold_tall_nodes(ui, name)
            print(f"{name}: {page_form(name)}, .jpg")
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
