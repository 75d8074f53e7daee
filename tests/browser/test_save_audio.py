"""Save Audio in the page: its player, several files, and graphs back from saved files."""

from __future__ import annotations

import base64
import json

import pytest

from tests.helpers.frontend import RENDERERS
from tests.tools.example_inputs import page_form

GRAPH = json.loads(page_form("text_to_audio").read_text("utf-8"))
LOAD, EMPTY, SAVE = 1, 3, 6  # node ids in it
PLAYERS = """() => [...document.querySelectorAll('audio')].filter(audio => audio.src)
    .map(audio => [new URL(audio.src).searchParams.get('filename'), audio.duration])"""


def prepare(ui, seconds=1.0, items=1, file_format="flac-24"):
    ui.load(GRAPH)
    ui.set_widget(LOAD, "model", "tiny-s")
    ui.set_widget(EMPTY, "seconds", seconds)
    ui.set_widget(EMPTY, "batch_size", items)
    ui.set_widget(SAVE, "format", file_format)
    # Newer pages make a player only where its node can be seen.
    ui.page.evaluate("() => { app.canvas.ds.scale = 1; }")
    ui.page.evaluate("id => app.canvas.centerOnNode(app.graph.getNodeById(id))", SAVE)
    ui.settle()


def wait_for_players(ui, filename):
    script = f"name => ({PLAYERS})().some(([file, length]) => file === name && length > 0)"
    ui.page.wait_for_function(script, arg=filename, timeout=10_000)
    return ui.page.evaluate(PLAYERS)


@pytest.mark.smoke
@pytest.mark.parametrize("renderer", RENDERERS)
def test_every_file_of_a_batch_can_be_played(ui, comfy, renderer):
    ui.use_renderer(renderer)
    prepare(ui, items=3)
    files = ui.queue()["outputs"][str(SAVE)]["audio"]
    names = [file["filename"] for file in files]
    assert len(names) == 3
    ((playing, length),) = wait_for_players(ui, names[0])
    assert (playing, length) == (names[0], pytest.approx(1.0, abs=0.01))
    choices = ui.page.evaluate(
        "id => app.graph.getNodeById(id).widgets.find(w => w.name === 'play').options.values", SAVE
    )
    assert choices == [f"{number}: {name}" for number, name in enumerate(names, 1)]
    ui.set_widget(SAVE, "play", choices[2])
    assert [name for name, _ in wait_for_players(ui, names[2])] == [names[2]]
    ui.screenshot(f"save-audio-{renderer}")
    check_cards(ui, comfy, names)


def check_cards(ui, comfy, names):
    """Each file has a card: it plays, loops, becomes a source, and is made anew alone."""
    cards = ui.page.locator(".sa3-card")
    seeds = cards.locator(".sa3-seed").all_inner_texts()
    assert [int(seed) - int(seeds[0]) for seed in seeds] == [0, 1, 2]
    buttons = cards.nth(1).locator("button")  # play, loop, source, again
    buttons.nth(1).click()
    buttons.nth(0).click()
    ui.page.wait_for_function(
        "id => app.graph.getNodeById(id).sa3Cards.player.share > 0", arg=SAVE, timeout=10_000
    )
    pressed = [button.get_attribute("aria-pressed") for button in buttons.all()[:2]]
    assert pressed == ["true", "true"]
    buttons.nth(0).click()
    assert buttons.nth(0).get_attribute("aria-pressed") == "false"
    buttons.nth(2).click()
    chosen = "() => app.graph.nodes.find(node => node.type === 'LoadAudio')?.widgets[0].value"
    ui.page.wait_for_function(f"name => ({chosen})() === name", arg=names[1], timeout=10_000)
    assert (comfy.base / "input" / names[1]).is_file()
    buttons.nth(3).click()
    ui.page.wait_for_function(
        "seed => document.querySelectorAll('.sa3-seed')[1].textContent !== seed",
        arg=seeds[1],
        timeout=20_000,
    )
    again = cards.locator(".sa3-seed").all_inner_texts()
    assert [again[0], again[2]] == [seeds[0], seeds[2]]


WATCH = """id => {
    const { player } = app.graph.getNodeById(id).sa3Cards;
    window.sa3Rounds = 0;
    let last = 0;
    const timer = setInterval(() => {
        if (player.url && player.share < last) window.sa3Rounds += 1;
        last = player.share;
        if (window.sa3Rounds > 1) clearInterval(timer);
    }, 20);
}"""
OPAQUE = """() => {
    const canvas = document.querySelector(".sa3-card canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((value, index) => index % 4 === 3 && value).length;
}"""


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_loop_is_heard_again_and_again_until_it_is_stopped(ui, renderer):
    ui.use_renderer(renderer)
    prepare(ui, seconds=0.5)
    ui.queue()
    card = ui.page.locator(".sa3-card").first
    play, loop = card.locator("button").nth(0), card.locator("button").nth(1)
    loop.click(timeout=60_000)
    play.click()
    ui.page.evaluate(WATCH, SAVE)
    ui.page.wait_for_function("() => window.sa3Rounds > 1", timeout=60_000)
    assert play.get_attribute("aria-pressed") == "true"
    assert ui.page.evaluate(OPAQUE) > 0  # its waveform is drawn
    loop.click()  # what plays goes on to its end, and stops there
    ended = "() => document.querySelector('.sa3-card button').ariaPressed === 'false'"
    ui.page.wait_for_function(ended, timeout=60_000)


def test_one_file_has_a_player_and_no_selector(ui):
    prepare(ui)
    (saved,) = ui.queue()["outputs"][str(SAVE)]["audio"]
    wait_for_players(ui, saved["filename"])
    hidden = "id => app.graph.getNodeById(id).widgets.find(w => w.name === 'play').options.hidden"
    assert ui.page.evaluate(hidden, SAVE)


def test_player_and_selector_are_in_no_saved_graph(ui):
    prepare(ui, items=2)
    ui.queue()
    (node,) = [node for node in ui.workflow()["nodes"] if node["id"] == SAVE]
    assert node["widgets_values"][:2] == ["audio/sa3", "flac-24"]
    assert not any("sa3_0" in str(value) for value in node["widgets_values"])
    assert not {"audioUI", "play"} & set(ui.api_graph()[str(SAVE)]["inputs"])


@pytest.mark.parametrize("file_format", ["flac-16", "mp3-V0", "wav-16", "m4a-192k"])
def test_a_dropped_file_brings_its_graph_back(ui, comfy, file_format):
    prepare(ui, file_format=file_format)
    before = ui.api_graph()  # the seed changes after queueing
    (saved,) = ui.queue()["outputs"][str(SAVE)]["audio"]
    ui.page.evaluate("() => app.graph.clear()")
    types = ui.drop(comfy.base / "output" / saved["subfolder"] / saved["filename"])
    assert sorted(types) == sorted(node["type"] for node in GRAPH["nodes"])
    assert ui.api_graph() == before


def test_a_wav_is_dropped_with_the_mouse_and_offered_in_the_dialog(ui, comfy):
    prepare(ui, file_format="wav-16")
    before = ui.api_graph()
    (saved,) = ui.queue()["outputs"][str(SAVE)]["audio"]
    ui.page.evaluate("() => app.graph.clear()")
    data = (comfy.base / "output" / saved["subfolder"] / saved["filename"]).read_bytes()
    script = """([text, name]) => {
        const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], name, { type: 'audio/wav' }));
        const canvas = document.getElementById('graph-canvas');
        canvas.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true }));
    }"""
    ui.page.evaluate(script, [base64.b64encode(data).decode(), saved["filename"]])
    count = len(GRAPH["nodes"])
    ui.page.wait_for_function("n => app.graph.nodes.length === n", arg=count, timeout=10_000)
    ui.settle()
    assert ui.api_graph() == before
    accepted = ui.page.evaluate("() => document.getElementById('comfy-file-input').accept")
    assert {".wav", ".m4a"} <= set(accepted.split(","))


@pytest.mark.parametrize("renderer", RENDERERS)
def test_tokens_are_filled_in_when_the_graph_is_queued(ui, renderer):
    ui.use_renderer(renderer)
    prepare(ui, seconds=1.5)
    prefix = "tokens/%date:yyyy%-%SA3EmptyLatent.seconds%-%Save Audio.format%"
    ui.set_widget(SAVE, "filename_prefix", prefix)
    (saved,) = ui.queue()["outputs"][str(SAVE)]["audio"]
    year = ui.page.evaluate("() => new Date().getFullYear()")
    assert saved["filename"].startswith(f"{year}-1.5-flac-24_0000")
    (node,) = [node for node in ui.workflow()["nodes"] if node["id"] == SAVE]
    assert node["widgets_values"][0] == prefix  # the graph keeps the tokens


def test_every_prefix_is_filled_in(ui):
    for name in ("SA3SaveAudio", "SA3SaveLatents", "SA3SaveModel", "SA3SaveLora", "SA3LookAudio"):
        node = ui.add_node(name)
        ui.set_widget(node, "filename_prefix", "a/%date:MM%")
        script = """id => app.graph.getNodeById(id).widgets
            .find(widget => widget.name === 'filename_prefix').serializeValue()"""
        assert ui.page.evaluate(script, node) == ui.page.evaluate(
            "() => 'a/' + String(new Date().getMonth() + 1).padStart(2, '0')"
        )
