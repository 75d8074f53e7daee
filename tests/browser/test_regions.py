"""The region editor of Inpaint Mask: what is drawn is what the widget says and what runs."""

from __future__ import annotations

import random
import re

import pytest

from sa3_core.editing.masks import keep_mask, masked_spans
from sa3_core.editing.regions import invert_regions, parse_regions
from sa3_core.errors import SA3Error
from tests.helpers.frontend import RENDERERS
from tests.helpers.region_editor import EDITOR, MASK, EditorPage, graph, write_tone

SECONDS = 12.0
FRAME = 4096 / 44100
TONE = "sa3_tone.flac"
MODULES = "/extensions/ComfyUI-SA3/regions"


@pytest.fixture(scope="session")
def tone(comfy):
    """A file of 12 s in the input folder."""
    write_tone(comfy.base / "input" / TONE, SECONDS)
    return TONE


@pytest.fixture
def editor(tone, ui):
    """An editor without regions, in the canvas renderer."""
    page = EditorPage(ui)
    page.load(graph(tone))
    return page


def near(*pairs, within=0.03):
    return [pytest.approx(pair, abs=within) for pair in pairs]


@pytest.mark.parametrize("renderer", RENDERERS)
def test_regions_drawn_by_mouse_are_in_the_text_and_in_the_mask_that_runs(tone, ui, renderer):
    ui.use_renderer(renderer)
    editor = EditorPage(ui)
    editor.load(graph(tone))
    editor.choose("frames")
    editor.drag(2, 3)
    editor.drag(8.5, 7.25)
    assert re.fullmatch(r"[\d.]+-[\d.]+, [\d.]+-[\d.]+", editor.text)
    assert editor.regions == near((2, 3), (7.25, 8.5), within=FRAME)
    assert editor.spans == near(*editor.regions, within=2e-5)  # on frames: nothing is added
    ui.screenshot(f"regions-{renderer}")

    saved, drawn = ui.workflow(), editor.text
    editor.load(saved)
    assert editor.text == drawn
    assert editor.regions == near((2, 3), (7.25, 8.5), within=FRAME)

    box = ui.page.locator("textarea").first
    box.fill("1-1.5, 50%-100%")
    ui.settle(100)
    assert editor.regions == near((1, 1.5), (6, 12), within=1e-9)

    outputs = ui.queue()["outputs"]
    made = re.match(r"made anew (.*?) s of", outputs[str(MASK)]["text"][0]).group(1)
    ran = [tuple(map(float, span.split("-"))) for span in made.split(", ")]
    assert editor.spans == near(*ran, within=1e-3)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_undo_and_redo_of_the_page_take_regions_back(tone, ui, renderer):
    ui.use_renderer(renderer)
    editor = EditorPage(ui)
    editor.load(graph(tone))
    editor.drag(1, 2)
    first = editor.text
    editor.drag(4, 5)
    both = editor.text
    assert both.startswith(f"{first}, ")
    for keys, expected in (("z", first), ("z", ""), ("y", first), ("y", both)):
        editor.press(f"Control+{keys}")
        ui.settle(400)
        assert (editor.text, len(editor.regions)) == (expected, expected.count("-"))


def test_moving_resizing_and_removing_leave_the_other_words_alone(tone, ui):
    editor = EditorPage(ui)
    editor.load(graph(tone, "bar 1, 4-5\n80%-90%  nonsense", bpm=240))
    assert editor.regions[:3] == near((0, 1), (4, 5), (9.6, 10.8), within=1e-9)
    assert "nonsense" in editor.get("panel.says.textContent")
    editor.choose("seconds")
    editor.drag(4.5, 6.6)
    assert editor.text == "bar 1, 6-7\n80%-90%  nonsense"
    editor.drag(7, 7.9)
    assert editor.text == "bar 1, 6-8\n80%-90%  nonsense"
    editor.drag(6, 5.1)
    assert editor.text == "bar 1, 5-8\n80%-90%  nonsense"
    editor.press("Delete")
    assert editor.text == "bar 1\n80%-90%  nonsense"


def test_the_keyboard_does_everything(editor, ui):
    editor.choose("seconds")
    editor.click(3)
    editor.press("n")
    assert editor.text == "3-4"
    editor.press("ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight", "Alt+ArrowLeft")
    assert editor.text == "3-7"
    editor.press("Enter")
    assert editor.text == "3-5, 5-7"
    editor.press("ArrowDown", "Delete")
    assert editor.text == "3-5"
    editor.press("Escape")
    assert editor.get("selected") == -1
    editor.press("Home", "ArrowRight")
    assert editor.get("cursor") == 1
    editor.press("+", "+")
    assert editor.get("view.span") < SECONDS / 2
    editor.press("0")
    assert editor.get("view.span") == SECONDS
    scale = ui.page.evaluate("() => app.canvas.ds.scale")
    ui.page.mouse.wheel(0, -300)  # it has the focus: the picture zooms, not the graph
    ui.settle(100)
    assert editor.get("view.span") < SECONDS
    assert ui.page.evaluate("() => app.canvas.ds.scale") == scale
    assert ui.page.evaluate("() => app.graph.nodes.length") == 5  # Delete stayed in the editor


def test_snapping(tone, ui):
    editor = EditorPage(ui)
    editor.load(graph(tone, bpm=100))
    landings = {}
    editor.drag(3.13, 4.02)  # as a new node has it: times that read well, whatever is rounded
    assert re.fullmatch(r"3\.1-4(\.0[0-9])?", editor.text)
    assert editor.spans != editor.regions
    editor.press("Delete")
    for snap in ("beats", "zero", "off", "frames"):
        editor.choose(snap)
        editor.drag(3.13, 4.02)
        landings[snap] = editor.regions[0]
        editor.press("Delete")
    assert landings["beats"] == near((3.0, 4.2), within=1e-5)[0]
    for time in landings["zero"]:  # of a sine of 220 Hz
        assert (time * 440 + 0.5) % 1 - 0.5 == pytest.approx(0, abs=0.02)
    for time, dragged in zip(landings["off"], (3.13, 4.02), strict=True):
        assert time == pytest.approx(dragged, abs=0.03)
    for time in landings["frames"]:
        assert (time / FRAME + 0.5) % 1 - 0.5 == pytest.approx(0, abs=1e-3)


def test_a_finger_draws_and_two_zoom(editor, ui):
    session = ui.page.context.new_cdp_session(ui.page)

    def touch(kind, *times):
        points = [dict(zip("xy", editor.place(time), strict=True)) for time in times]
        touches = [{**point, "id": number} for number, point in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    touch("touchStart", 2)
    touch("touchMove", 3)
    touch("touchMove", 4)
    touch("touchEnd")
    ui.settle(100)
    assert editor.regions == near((2, 4), within=FRAME)
    touch("touchStart", 5)
    touch("touchStart", 5, 7)
    touch("touchMove", 4, 8)
    touch("touchEnd")
    ui.settle(100)
    session.detach()
    assert editor.get("view.span") == pytest.approx(SECONDS / 2, rel=0.05)
    assert len(editor.regions) == 1


def test_the_source_plays_and_a_region_loops(editor, ui):
    editor.drag(2, 2.6)
    ui.page.locator(".sa3-tools button").nth(1).click()
    ui.page.wait_for_function(f"() => {EDITOR}.player.time > 2.1", timeout=5000)
    ui.page.wait_for_function(f"() => !{EDITOR}.player.isPlaying", timeout=5000)
    ui.page.locator(".sa3-tools button").nth(2).click()
    ui.page.locator(".sa3-tools button").nth(1).click()
    heard = f"() => {{ window.sa3Last = 0; const timer = setInterval(() => {{ \
        const now = {EDITOR}.player.time; if (now < window.sa3Last) window.sa3Looped = true; \
        window.sa3Last = now; if (window.sa3Looped) clearInterval(timer); }}, 20); }}"
    ui.page.evaluate(heard)
    ui.page.wait_for_function("() => window.sa3Looped", timeout=5000)
    ui.page.locator(".sa3-tools button").first.click()
    assert not editor.get("player.isPlaying")


def test_spectrogram_and_light_theme(editor, ui):
    editor.drag(2, 4)
    dark = editor.get("screen.theme.text")
    ui.page.locator(".sa3-tools button").nth(3).click()
    ui.page.wait_for_function(f"() => {EDITOR}.sound.image")
    ui.set_setting("Comfy.ColorPalette", "light")
    ui.screenshot("regions-light-spectrogram")
    light = editor.get("screen.theme.text")
    ui.set_setting("Comfy.ColorPalette", "dark")
    assert dark != light
    saved = next(node for node in ui.workflow()["nodes"] if node["id"] == MASK)
    assert saved["properties"]["sa3Regions"] == {"spectrogram": True}


def test_the_sound_of_the_last_run_is_shown_where_there_is_no_file(ui):
    ids = [ui.add_node(kind) for kind in ("EmptyAudio", "PreviewAudio", "SA3InpaintMask")]
    ui.set_widget(ids[0], "duration", 3)
    ui.page.evaluate(
        """([empty, preview, mask]) => {
            const node = id => app.graph.getNodeById(id);
            node(empty).connect(0, node(preview), 0);
            node(empty).connect(0, node(mask), node(mask).findInputSlot("audio"));
            node(mask).mode = 2;  // not run: there is no VAE
        }""",
        ids,
    )
    ui.queue()
    found = "id => app.graph.getNodeById(id).sa3Regions.duration === 3"
    ui.page.wait_for_function(found, arg=ids[2], timeout=5000)


def test_lines_are_batch_items(tone, ui):
    editor = EditorPage(ui)
    editor.load(graph(tone, "1-2\n\n5-6, 8-9", per_line=True))
    assert [region["isOther"] for region in editor.get("regions")] == [False, True, True]
    editor.choose("seconds")
    editor.drag(3, 4)
    assert editor.text == "1-2, 3-4\n\n5-6, 8-9"
    ui.page.locator(".sa3-tools select").nth(1).select_option(index=2)
    editor.drag(10, 11)
    assert editor.text == "1-2, 3-4\n\n5-6, 8-9\n10-11"


WORDS = (
    "4",
    "0:16.5",
    "0:01:03",
    "90%",
    "-2",
    ".5",
    "3.",
    "1:75",
    "x",
    "",
    "100%",
    "12",
    "0",
    "7.25",
)


def random_text(rng):
    def token():
        kind = rng.random()
        dash = rng.choice(("-", " - ", "\u2013", "- "))
        if kind < 0.2:
            return rng.choice(("bar ", "Bars", "bar")) + rng.choice(("2", "2-3", "1.5 - 2", "0-2"))
        return rng.choice(WORDS) + dash + rng.choice(WORDS) if kind < 0.95 else "oops"

    separator = rng.choice((", ", "; ", "\n", " ", ","))
    return separator.join(token() for _ in range(rng.randint(0, 4)))


def test_the_page_reads_and_rounds_regions_as_the_server_does(ui):
    rng = random.Random(0)
    cases = [
        {"text": random_text(rng), "rule": rule, "invert": rng.random() < 0.3}
        for rule in ("cover", "upstream")
        for _ in range(400)
    ]
    cases += [
        {"text": f"{a:.5f}-{a + b:.5f}", "rule": rule, "invert": False}
        for rule in ("cover", "upstream")
        for _ in range(100)
        for a, b in [(rng.uniform(0, 9), rng.uniform(0.01, 2))]
    ]
    script = """async ([modules, cases, duration]) => {
        const { readRegions } = await import(`${modules}/grammar.mjs`);
        const { maskedSpans } = await import(`${modules}/masks.mjs`);
        const piece = { duration, beat: { seconds: 0.5, perBar: 4 } };
        return cases.map(({ text, rule, invert }) => {
            const regions = readRegions(text, piece);
            const isRight = regions.length > 0 && regions.every(({ valid }) => valid);
            return isRight ? maskedSpans(regions, { duration, rule, invert }) : null;
        });
    }"""
    answers = ui.page.evaluate(script, [MODULES, cases, SECONDS])
    usable = 0
    for case, answer in zip(cases, answers, strict=True):
        expected = server_spans(case)
        if expected is None:
            assert answer is None, case
            continue
        usable += 1
        assert answer is not None, case
        assert [(s["start"], s["end"]) for s in answer] == near(*expected, within=1e-9), case
    assert usable > 200


def server_spans(case):
    """What the server masks; None where it refuses."""
    try:
        regions = parse_regions(case["text"], SECONDS, 120)
        longer = max(SECONDS, *(end for _, end in regions), SECONDS)
        if case["invert"]:
            try:
                regions = invert_regions(regions, SECONDS)
            except SA3Error:
                return []  # the node says so; there is nothing to draw
            longer = SECONDS
    except SA3Error:
        return None
    return masked_spans(keep_mask(regions, 1200, longer, case["rule"]), longer)
