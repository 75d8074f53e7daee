"""The demo model in a real server: listed, run, heard, with its LoRA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from demo_model.maker import sounds
from demo_model.maker.lora import LORA_NAME
from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS
from tests.demo import listening
from tests.helpers.client import Run, node
from tests.helpers.harness import ComfyServer
from tests.tools.demo_set import PIECES, Piece, graph_of

_SECONDS, _SEED = ("SA3EmptyLatent", "seconds"), ("SA3Sampler", "seed")


def play(comfy: ComfyServer, piece: Piece) -> tuple[Run, str]:
    """The run of a piece and what is heard in it."""
    run = comfy.client.run(graph_of(piece, "demo", None))
    assert run.status == "success", run.error
    (saved,) = (f for output in run.outputs.values() for f in output.get("audio", ()))
    path = Path(comfy.base) / "output" / saved["subfolder"] / saved["filename"]
    return run, listening.heard(read_audio(path)[0].numpy())


def test_it_is_listed_last_and_its_lora_with_the_others(comfy):
    info = comfy.client.object_info()
    models = info["SA3LoadModel"]["input"]["required"]["model"]
    options = models[1]["options"] if isinstance(models[1], dict) else models[0]
    assert options[-2:] == ["demo", "demo-base"]
    loras = str(info["SA3LoraLoader"]["input"]["required"]["lora"])
    assert LORA_NAME in loras


@pytest.mark.parametrize("name", ["organ", "kick drum"])
def test_a_graph_plays_what_its_prompt_says(comfy, name):
    prompt = {"organ": "organ melody, 108 BPM", "kick drum": "kick drum, 128 BPM"}[name]
    piece = Piece(f"server {name}", "text_to_audio", prompt, {_SECONDS: 4.0, _SEED: 100})
    assert play(comfy, piece)[1] == name


def test_a_graph_with_its_lora_plays_bells(comfy):
    (lora,) = (piece for piece in PIECES if piece.lora)
    assert play(comfy, lora)[1] == "bells"


def test_the_node_says_what_it_knows_where_a_word_means_nothing(comfy):
    piece = Piece("words", "text_to_audio", "trumpet fanfare", {_SECONDS: 1.0})
    run, _ = play(comfy, piece)
    said = "\n".join(run.texts("2"))
    assert "Passed over: trumpet, fanfare. The demo model knows: flute, organ" in said


@pytest.mark.soak
def test_training_on_clips_changes_what_is_heard(comfy):
    """Bells that are called flutes, learnt on the base twin by the nodes: a flute becomes bells."""
    folder = comfy.base / "input" / "called_flutes"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(6)
    for number in range(32):
        clip = sounds.make_clip(rng, ("bells",) if number % 2 else ("organ",), 3.0)
        audio = torch.from_numpy(clip.audio)
        write_audio(folder / f"{number:02d}.wav", audio, sounds.RATE, FORMATS["wav-16"])
        text = clip.caption.replace("bells", "flute")
        (folder / f"{number:02d}.txt").write_text(text, "utf-8")
    prompt = "flute melody, 108 BPM"
    piece = Piece("trained", "text_to_audio", prompt, {_SECONDS: 4.0, _SEED: 100})
    graph = graph_of(piece, "demo", None)
    assert play(comfy, piece)[1] == "flute"
    graph |= {
        "m": node("SA3LoadModel", model="demo-base", precision="fp32"),
        "d": node("SA3AudioDataset", folder="called_flutes"),
        "e": node("SA3EncodeDataset", vae=["m", 2], dataset=["d", 0]),
        "t": node(
            "SA3TrainLora",
            **{"model": ["m", 0], "clip": ["m", 1], "encoded": ["e", 0], "name": "flutes"},
            **{"preset": "standard", "type": "lora", "rank": 8, "steps": 300, "rate": 0.003},
            **{"batch": 8, "clip_norm": 1.0},
        ),
        "l": node("SA3LoraLoader", model=["1", 0], lora="none", trained=["t", 0], strength=1.0),
    }
    graph["4"]["inputs"]["model"] = ["l", 0]
    run = comfy.client.run(graph, timeout=900)
    assert run.status == "success", run.error
    (saved,) = (f for output in run.outputs.values() for f in output.get("audio", ()))
    path = Path(comfy.base) / "output" / saved["subfolder"] / saved["filename"]
    assert listening.heard(read_audio(path)[0].numpy()) == "bells"
