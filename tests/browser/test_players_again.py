"""Players of Compare Audio and Save Audio, built anew by the page: what ran is there and plays."""

from __future__ import annotations

import uuid

import pytest

from tests.helpers.region_editor import write_tone

CONNECT = """([from, to, input]) => {
    const target = app.graph.getNodeById(to);
    app.graph.getNodeById(from).connect(0, target, target.inputs.findIndex(i => i.name === input));
}"""
# What can be seen: the takes that each player offers, and the files that are ready to play.
TAKES = """() => [...document.querySelectorAll('.sa3-compare')].filter(e => e.checkVisibility())
    .map(e => [...e.querySelectorAll('[role=radio]')].map(r => r.textContent).join(' '))"""
FILES = """() => [...document.querySelectorAll('audio')]
    .filter(e => e.src && e.duration > 0 && e.parentElement.checkVisibility())
    .map(e => new URL(e.src).searchParams.get('filename'))"""
CARDS = """() => [...document.querySelectorAll('.sa3-card')].filter(e => e.checkVisibility())
    .map(e => e.ariaLabel)"""


@pytest.fixture(scope="module", autouse=True)
def tones(comfy, frontend) -> None:
    for name in ("again_a.wav", "again_b.wav"):
        write_tone(comfy.base / "input" / name, 60.0)  # it plays on while a slow page answers
    frontend.open()


def graph(ui) -> tuple[int, int]:
    """Two takes compared, one of them saved; ids of the player's nodes."""
    compare, save = ui.add_node("SA3CompareAudio", 360, 60), ui.add_node("SA3SaveAudio", 760, 60)
    for index, name in enumerate("ab"):
        load = ui.add_node("LoadAudio", 0, 60 + 260 * index)
        ui.set_widget(load, "audio", f"again_{name}.wav")
        ui.page.evaluate(CONNECT, [load, compare, name])
    ui.page.evaluate(CONNECT, [load, save, "audio"])
    workflow = {**ui.workflow(), "id": str(uuid.uuid4())}  # one that never ran
    ui.load(workflow)
    look(ui)
    ui.record_change()
    return int(compare), int(save)


def look(ui) -> None:
    ui.page.evaluate("() => { app.canvas.ds.scale = 0.8; app.canvas.ds.offset = [100, 60]; }")
    ui.settle(400)


def assert_shown(ui, saved: str, players: int = 1) -> None:
    takes = f"count => ({TAKES})().filter(labels => labels === 'A B').length === count"
    ui.page.wait_for_function(takes, arg=1, timeout=60_000)
    assert len(ui.page.evaluate(TAKES)) == players
    files = f"name => ({FILES})().includes(name)"
    ui.page.wait_for_function(files, arg=saved, timeout=60_000)
    cards = f"name => ({CARDS})().join() === name"
    ui.page.wait_for_function(cards, arg=saved, timeout=60_000)


def assert_plays(ui) -> None:
    """The player that is seen answers: it plays, the other take is chosen, it stops."""
    player = ui.page.locator(".sa3-compare:visible", has=ui.page.get_by_role("radio")).first
    player.get_by_role("button", name="Play").click()
    player.get_by_role("button", name="Pause").wait_for(timeout=10_000)
    player.get_by_role("radio", name="B").click()
    assert player.get_by_role("radio", name="B").get_attribute("aria-checked") == "true"
    player.get_by_role("button", name="Pause").click()
    player.get_by_role("button", name="Play").wait_for(timeout=10_000)


@pytest.mark.parametrize("renderer", ["vue", pytest.param("litegraph", marks=pytest.mark.soak)])
def test_players_come_back_with_what_ran(ui, renderer):
    ui.use_renderer(renderer)
    compare, save = graph(ui)
    (file,) = ui.queue()["outputs"][str(save)]["audio"]
    saved = file["filename"]
    assert_shown(ui, saved)
    ui.set_widget(save, "format", "wav-24")
    ui.record_change()
    for name in ("Comfy.Undo", "Comfy.Redo"):
        ui.command(name)
        assert_shown(ui, saved)
        assert_plays(ui)
    ui.command("Comfy.NewBlankWorkflow")
    assert (ui.page.evaluate(TAKES), ui.page.evaluate(FILES)) == ([], [])
    assert ui.page.evaluate(CARDS) == []
    ui.command("Workspace.PreviousOpenedWorkflow")
    look(ui)
    assert_shown(ui, saved)
    assert_plays(ui)
    ui.page.evaluate(
        """ids => {
            app.canvas.deselectAll();
            app.canvas.selectItems(ids.map(id => app.graph.getNodeById(id)));
            app.canvas.copyToClipboard();
            app.canvas.pasteFromClipboard({ position: [360, 460] });
        }""",
        [compare, save],
    )
    ui.settle(600)
    assert_shown(ui, saved, players=2)  # the copy has run nothing and says so
    assert "" in ui.page.evaluate(TAKES)
    ui.command("Comfy.Undo")
    assert_shown(ui, saved)
    workflow = ui.workflow()
    ui.open()  # only the server's history knows of the run now
    ui.use_renderer(renderer)
    ui.load(workflow)
    look(ui)
    assert_shown(ui, saved)
    assert_plays(ui)
    ui.screenshot(f"players-again-{renderer}")
