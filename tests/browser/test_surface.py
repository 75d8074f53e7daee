"""What a person sees of our nodes before touching them: few widgets, words instead of codes."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator

import pytest

from tests.helpers.frontend import RENDERERS
from tests.helpers.support import ROOT
from tests.tools.example_inputs import page_form
from tests.tools.make_blueprints import Box, make_blueprint

GRAPH = json.loads(page_form("text_to_audio").read_text("utf-8"))
MODEL, LATENT, SAMPLER = 1, 3, 4  # node ids in it

# What stands in a node: texts that the canvas paints, or that the page's elements show.
PAINTED = """async id => {
    const texts = [], own = CanvasRenderingContext2D.prototype, { fillText } = own;
    own.fillText = function (text, ...rest) {
        texts.push(String(text));
        return fillText.call(this, text, ...rest);
    };
    app.canvas.setDirty(true, true);
    app.canvas.draw(true, true);
    own.fillText = fillText;
    return texts;
}"""
SHOWN = """async id => {
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const node = document.querySelector(`[data-node-id="${id}"]`);
    const fields = [...node.querySelectorAll("[role=spinbutton]")].map(field => {
        const word = getComputedStyle(field.parentElement, "::before").content;
        return word === "none" ? field.value : JSON.parse(word);
    });
    return [...node.innerText.split("\\n"), ...fields];
}"""

# Labels of what is outlined in red.
RED = {
    "litegraph": """() => {
    const calls = [], own = CanvasRenderingContext2D.prototype, { fillText, stroke } = own;
    own.fillText = function (text, ...rest) {
        calls.push(String(text));
        return fillText.call(this, text, ...rest);
    };
    own.stroke = function (...rest) {
        if (this.strokeStyle === "#ff4444") calls.push("RED");
        return stroke.apply(this, rest);
    };
    app.canvas.draw(true, true);
    Object.assign(own, { fillText, stroke });
    return calls.filter((text, index) => calls[index - 1] === "RED");
}""",
    "vue": """() => [...document.querySelectorAll(".lg-node-widget, .lg-slot")]
    .filter(element => getComputedStyle(element).outlineStyle === "solid")
    .map(element => element.innerText).filter(text => text)""",
}

SAYS = """text => [...document.querySelectorAll(".sa3-message")]
    .some(element => element.textContent.startsWith(text))"""


def seen(ui, renderer: str, node: int) -> list[str]:
    """Texts in a node that stands alone on the page."""
    return ui.page.evaluate(PAINTED if renderer == "litegraph" else SHOWN, node)


def alone(ui, kind: str) -> int:
    """One node of a kind, at full size in the middle of the page."""
    # The page keeps values by graph and node: without an id every graph is the same one.
    ui.page.evaluate("() => { app.graph.clear(); app.graph.id = crypto.randomUUID(); }")
    node = ui.add_node(kind)
    ui.page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [200, 100]; }")
    ui.settle(200)
    return node


def hears_silence(ui, kind: str) -> int:
    """One node of a kind, with 2 s of silence connected to its first input."""
    node = alone(ui, kind)
    source = ui.add_node("EmptyAudio", 900, 100)
    ui.page.evaluate(
        "([a, b]) => app.graph.getNodeById(a).connect(0, app.graph.getNodeById(b), 0)",
        [source, node],
    )
    ui.set_widget(source, "duration", 2)
    return node


def type_into(ui, renderer: str, node: int, name: str, text: str) -> None:
    """Write into a number's field as a person does."""
    if renderer == "vue":
        field = ui.page.locator(f'[data-node-id="{node}"] [aria-label="{name}"]')
        field.locator("div.cursor-ew-resize").click()
        field.locator("input").fill(text)
        ui.page.keyboard.press("Enter")
        ui.page.evaluate("() => document.activeElement.blur()")
    else:
        place = ui.page.evaluate(
            """([id, name]) => {
                const node = app.graph.getNodeById(id);
                const { y } = node.widgets.find(widget => widget.name === name);
                const { left, top } = app.canvas.canvas.getBoundingClientRect();
                const at = [node.pos[0] + node.size[0] / 2, node.pos[1] + y + 10];
                const [x, z] = app.canvas.ds.convertOffsetToCanvas(at);
                return [left + x, top + z];
            }""",
            [node, name],
        )
        ui.page.mouse.click(*place)
        ui.page.locator(".graphdialog input.value").fill(text)
        ui.page.keyboard.press("Enter")
    ui.settle(150)


@pytest.mark.smoke
@pytest.mark.parametrize("renderer", RENDERERS)
def test_zero_is_a_word_where_it_has_a_meaning(ui, renderer):
    ui.use_renderer(renderer)
    node = alone(ui, "SA3Sampler")
    assert seen(ui, renderer, node).count("auto") == 2  # steps and cfg
    for typed, value, words in (("12", 12, 1), ("Auto", 0, 2)):
        type_into(ui, renderer, node, "steps", typed)
        assert ui.widgets(node)["steps"] == value
        assert seen(ui, renderer, node).count("auto") == words
    assert ui.api_graph()[str(node)]["inputs"]["steps"] == 0
    for value, words in ((4.5, 1), (0.0, 2)):
        ui.set_widget(node, "cfg", value)
        assert seen(ui, renderer, node).count("auto") == words


BOXED = Box(
    "Boxed",
    "text_to_audio",
    "A box that shows two numbers of the sampler.",
    (),
    (("steps", "SA3Sampler", "steps"), ("strength of the prompt", "SA3Sampler", "cfg")),
)
TYPES = {("SA3Sampler", "steps"): "INT", ("SA3Sampler", "cfg"): "FLOAT"}


@pytest.mark.smoke
@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_box_says_and_takes_the_words_of_what_it_shows(ui, renderer):
    ui.use_renderer(renderer)
    ui.load({**make_blueprint(BOXED, TYPES), "id": str(uuid.uuid4())})
    ui.page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [200, 100]; }")
    ui.settle(400)
    (box,) = [node["id"] for node in ui.workflow()["nodes"]]
    assert seen(ui, renderer, box).count("auto") == 2
    name = "strength of the prompt"
    for typed, value, words in (("4.5", 4.5, 1), ("Auto", 0, 2)):
        type_into(ui, renderer, box, name, typed)
        assert ui.widgets(box)[name] == value
        assert seen(ui, renderer, box).count("auto") == words
    (queued,) = [n for n in ui.api_graph().values() if n["class_type"] == "SA3Sampler"]
    assert (queued["inputs"]["steps"], queued["inputs"]["cfg"]) == (0, 0)
    # A node of another kind that has the id of the sampler inside does not say them.
    inside = ui.page.evaluate(
        """() => app.graph.nodes[0].subgraph.nodes
            .find((node) => node.type === "SA3Sampler").id"""
    )
    ui.page.evaluate("() => app.graph.clear()")
    stock = ui.page.evaluate(
        """id => {
            const node = LiteGraph.createNode("KSampler");
            node.id = id;
            app.graph.add(node);
            node.widgets.find((widget) => widget.name === "cfg").value = 0;
            return node.id;
        }""",
        inside,
    )
    ui.page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [200, 100]; }")
    ui.settle(400)
    assert "auto" not in seen(ui, renderer, stock)


@pytest.mark.smoke
@pytest.mark.parametrize("renderer", RENDERERS)
def test_only_what_counts_is_in_sight(ui, renderer):
    ui.use_renderer(renderer)
    node = alone(ui, "SA3EmptyLatent")
    bars = {"bars", "bpm", "beats_per_bar"}
    assert {"seconds", "batch_size", "length_in"} <= set(seen(ui, renderer, node))
    assert not {*bars, "durations", "headroom"} & set(seen(ui, renderer, node))
    height = ui.page.evaluate("id => app.graph.getNodeById(id).size[1]", node)
    ui.set_widget(node, "length_in", "bars")
    assert bars <= set(seen(ui, renderer, node))
    assert "seconds" not in seen(ui, renderer, node)
    saved = ui.workflow()
    ui.load(saved)
    assert bars <= set(seen(ui, renderer, node))
    ui.set_widget(node, "length_in", "seconds")
    assert not bars & set(seen(ui, renderer, node))
    again = ui.page.evaluate("id => app.graph.getNodeById(id).size[1]", node)
    assert abs(again - height) < 12  # less than a widget

    mask = alone(ui, "SA3InpaintMask")
    assert not {"bpm", "beats_per_bar"} & set(seen(ui, renderer, mask))
    ui.set_widget(mask, "regions", "bar 3-5")
    assert {"bpm", "beats_per_bar", "off"} <= set(seen(ui, renderer, mask))
    height = ui.page.evaluate("id => app.graph.getNodeById(id).size[1]", mask)
    for _ in range(2):
        ui.load(ui.workflow())
        assert ui.page.evaluate("id => app.graph.getNodeById(id).size[1]", mask) == height


@pytest.mark.smoke
@pytest.mark.parametrize("renderer", RENDERERS)
def test_an_error_points_at_the_widget_that_caused_it(ui, renderer):
    ui.use_renderer(renderer)
    ui.load(GRAPH)
    ui.page.evaluate("() => { app.canvas.ds.scale = 0.7; app.canvas.ds.offset = [500, 100]; }")
    ui.set_widget(MODEL, "model", "tiny-s")
    for changes, cause, sentence in (
        (
            {"length_in": "bars", "bars": 100.0},
            "bars",
            "bars is 100, which lasts 200 s; at most 60 ",
        ),
        ({"length_in": "seconds", "seconds": 200.0}, "seconds", "seconds is 200.0; it must be "),
    ):
        for name, value in changes.items():
            ui.set_widget(LATENT, name, value)
        ui.queue()
        ui.page.wait_for_function(SAYS, arg=sentence, timeout=10_000)
        assert ui.page.evaluate(RED[renderer]) == [cause]
    ui.screenshot(f"error-{renderer}")
    ui.page.keyboard.press("Escape")
    ui.set_widget(LATENT, "seconds", 0.5)
    ui.queue()
    assert ui.page.evaluate(RED[renderer]) == []
    ui.errors.clear()  # the frontend logs the failed runs


LOOK = (ROOT / "nodes" / "bridge" / "work" / "look.py").read_text("utf-8")
LETTERS = int(re.findall(r"^FONT, .* = (\d+),", LOOK, re.MULTILINE)[0])
READABLE = 9  # pixels
# How large a node's picture is shown, as a share of its own size; 0 before it is there.
SHARE = {
    "vue": """id => {
        const image = document.querySelector(`[data-node-id="${id}"] img`);
        if (!image?.naturalWidth) return 0;
        const { width, height } = image.getBoundingClientRect();
        return Math.min(width / image.naturalWidth, height / image.naturalHeight);
    }""",
    "litegraph": """() => {
        app.canvas.setDirty(true, true);
        return sa3Drawn.at(-1) ?? 0;
    }""",
}
# Note each picture that is drawn on the canvas; the page does it later than the node around it.
RECORD = """() => {
    const own = CanvasRenderingContext2D.prototype, { drawImage } = own;
    window.sa3Drawn = []; // shares of the pictures' own size
    own.drawImage = function (image, ...place) {
        if (image instanceof HTMLImageElement && image.naturalWidth > 200) {
            const [width, height] = place.slice(-2), { a, d } = this.getTransform();
            const sides = [width * a / image.naturalWidth, height * d / image.naturalHeight];
            sa3Drawn.push(Math.min(...sides) / devicePixelRatio);
        }
        return drawImage.call(this, image, ...place);
    };
    window.sa3Unrecord = () => { own.drawImage = drawImage; };
}"""


@pytest.fixture
def drawn(ui) -> Iterator[None]:
    """The page notes the pictures that it draws."""
    ui.page.evaluate(RECORD)
    yield
    ui.page.evaluate("() => sa3Unrecord()")


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_numbers_of_a_look_can_be_read_in_a_new_node(ui, renderer):
    ui.use_renderer(renderer)
    look = hears_silence(ui, "SA3LookAudio")
    ui.queue()
    ui.page.wait_for_function(f"id => ({SHARE[renderer]})(id) > 0", arg=look, timeout=60_000)
    ui.settle(500)
    ui.screenshot(f"look-{renderer}")
    assert ui.page.evaluate(SHARE[renderer], look) * LETTERS >= READABLE


@pytest.mark.parametrize("renderer", RENDERERS)
def test_what_was_measured_stands_in_the_node(ui, renderer):
    """2 s of silence where 3 s were asked for."""
    ui.use_renderer(renderer)
    measure = hears_silence(ui, "SA3MeasureAudio")
    ui.set_widget(measure, "seconds", 3)
    ui.queue()
    said = "2.00 s, -1.00 s against what was asked"
    ui.page.wait_for_function(SAYS, arg=said, timeout=60_000)
    ui.screenshot(f"measure-{renderer}")


MASK, MASK_SAMPLER = 5, 6  # node ids in the example of one region
PICTURES = "() => sa3Drawn.length + document.querySelectorAll('[data-node-id] img').length"
EDITORS = """() => [...document.querySelectorAll(".sa3-regions .sa3-stage")]
    .filter((stage) => stage.checkVisibility()).length"""


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_mask_that_ran_shows_one_waveform(ui, renderer):
    ui.use_renderer(renderer)
    graph = json.loads(page_form("inpaint_one_region").read_text("utf-8"))
    ui.load({**graph, "id": str(uuid.uuid4())})
    ui.set_widget(MODEL, "model", "tiny-s")
    ui.set_widget(MASK_SAMPLER, "steps", 1)
    history = ui.queue()
    assert history["outputs"][str(MASK)]["images"]  # the picture for callers without a page
    ui.page.evaluate("() => { app.canvas.ds.scale = 0.8; app.canvas.ds.offset = [100, 100]; }")
    ui.page.wait_for_function(SAYS, arg="made anew", timeout=60_000)
    ui.page.evaluate("() => app.canvas.setDirty(true, true)")
    ui.settle(500)
    assert ui.page.evaluate(EDITORS) == 1
    assert ui.page.evaluate(PICTURES) == 0
