"""Learning in a real server: recordings, encoding, training, stopping, going on, using."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from sa3_core.adapters.file import read_adapter
from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from tests.helpers.client import node
from tests.helpers.graphs import base_graph, failure, read, results, sampler, saved
from tests.helpers.support import rel_l2

RATE = 44100


def tone(path: Path, hertz: float, seconds: float = 1.0) -> None:
    time = torch.arange(int(seconds * RATE)) / RATE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(
        path, (0.4 * (2 * math.pi * hertz * time).sin()).repeat(2, 1), RATE, FORMATS["wav-16"]
    )


@pytest.fixture(scope="module", autouse=True)
def sounds(comfy) -> Path:
    """Two captioned tones, one without a caption, and a silent one."""
    folder = comfy.base / "input" / "tones"
    for name, hertz in (("low", 220.0), ("high", 880.0), ("bare", 440.0), ("still", 0.0)):
        tone(folder / f"{name}.wav", hertz)
    for name in ("low", "high", "still"):
        (folder / f"{name}.txt").write_text(f"{name} tone", encoding="utf-8")
    return folder


def training_graph(name: str, **train: Any) -> dict[str, Any]:
    """Loader `m`, dataset `d`, encoder `e` and trainer `t`."""
    wanted = {"steps": 3, "rank": 2, "rate": 0.01, "allow_post_trained": True, **train}
    return {
        "m": node("SA3LoadModel", model="tiny-s", precision="fp32"),
        "d": node("SA3AudioDataset", folder="tones"),
        "e": node("SA3EncodeDataset", vae=["m", 2], dataset=["d", 0], piece_seconds=1.0),
        "t": node(
            "SA3TrainLora",
            model=["m", 0],
            clip=["m", 1],
            encoded=["e", 0],
            name=name,
            preset="standard",
            **wanted,
        ),
        "w": node("SA3SaveLora", lora=["t", 0], filename_prefix=f"trained/{name}"),
    }


def test_recordings_become_a_lora_that_every_loader_takes(comfy):
    before = base_graph(seconds=1.5)
    before["o"] = sampler(steps=2)
    (first,) = results(comfy.client, before | saved("o", "o"), "os")
    graph = training_graph("whole") | base_graph(seconds=1.5)
    graph["v"] = node("LossGraphNode", loss=["t", 1], filename_prefix="loss")
    graph["a"] = node("SA3LoraLoader", model=["m", 0], lora="none", trained=["t", 0])
    graph["b"] = node(
        "LoraModelLoader", model=["m", 0], lora=["t", 0], strength_model=1.0, bypass=False
    )
    graph["s"] = node("SaveLoRA", lora=["t", 0], prefix="loras/stock")
    graph["o"], graph["x"] = sampler(steps=2), sampler(steps=2, model=["a", 0])
    graph["y"] = sampler(steps=2, model=["b", 0])
    graph |= saved("o", "o") | saved("x", "x") | saved("y", "y")
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    clips = {row["clip"]: row for row in run.outputs["d"]["sa3_clips"]}
    assert clips["low.wav"]["caption"] == "low tone"
    assert clips["bare.wav"]["note"] == "no caption"
    encoded = {row["clip"]: row["status"] for row in run.outputs["e"]["sa3_clips"]}
    assert encoded == {
        "low.wav": "encoded",
        "high.wav": "encoded",
        "bare.wav": "rejected",
        "still.wav": "rejected",
    }
    (told,) = run.outputs["t"]["sa3_training"]
    assert (told["step"], told["total"], len(told["curve"])) == (3, 3, 3)
    assert run.outputs["v"]["images"]
    file = comfy.models("loras") / "trained" / "whole_00001.safetensors"
    assert (read_adapter(file).adapter_type, read_adapter(file).rank) == ("dora-rows", 2)
    with safe_open(file, "pt") as tensors:
        config = json.loads(tensors.metadata()["lora_config"])
    assert (config["step"], config["base_model"]) == (3, "tiny-s")
    same, ours, stock = (read(comfy.client, run, f"{name}s") for name in "oxy")
    assert torch.equal(same, first)  # the MODEL is as it was, bit for bit
    assert rel_l2(ours, same) > 1e-3
    # ComfyUI's own loader knows no change of the duration embedding, and our file is float16.
    assert rel_l2(stock, ours) < 0.5 * rel_l2(ours, same)
    graph["e"]["inputs"]["batch"] = 2
    again = comfy.client.run({name: graph[name] for name in "mde"})
    statuses = [row["status"] for row in again.outputs["e"]["sa3_clips"]]
    assert sorted(statuses) == ["kept", "kept", "rejected", "rejected"]


def test_cancel_saves_and_the_next_run_goes_on(comfy):
    seen: list[int] = []

    def cancel(event: Any) -> bool:
        if event.type == "sa3_training":
            seen.append(event.data["step"])
        return bool(seen)

    graph = training_graph("stopped", steps=100_000, save_every=100_000)
    run = comfy.client.run(graph, interrupt_when=cancel)
    assert run.status == "interrupted"
    (folder,) = (comfy.base / "output" / "sa3_training").glob("stopped-*")
    done = len((folder / "log.csv").read_text("utf-8").splitlines()) - 1
    assert done >= seen[0] >= 1
    graph["t"]["inputs"]["steps"] = done + 2
    graph["t"]["inputs"]["preview_prompts"] = "low tone"
    graph["t"]["inputs"] |= {"vae": ["m", 2], "preview_seconds": 1.0, "save_every": done + 1}
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    (told,) = run.outputs["t"]["sa3_training"]
    assert told["step"] == done + 2
    (heard,) = told["previews"]
    assert comfy.client.view(heard).startswith(b"fLaC")


def test_audio_is_learnt_from_with_its_captions(comfy):
    graph = training_graph("audio", steps=1)
    graph["l"] = node("LoadAudio", audio="tones/low.wav")
    graph["d"] = node(
        "SA3AudioDataset",
        folder=".",
        captions="a low tone",
        audio_1=["l", 0],
        trigger="zork",
        edited_captions=json.dumps({"clip 1": "a very low tone"}),
    )
    run = comfy.client.run(graph)
    assert run.status == "success", run.error
    (row,) = run.outputs["d"]["sa3_clips"]
    assert (row["caption"], row["accepted"]) == ("a very low tone", True)
    assert comfy.client.view(row["file"])[:4] == b"RIFF"


def test_what_cannot_work_is_refused(comfy):
    graph = training_graph("refused", allow_post_trained=False)
    assert "allow_post_trained" in failure(comfy.client, graph)
    graph = training_graph("refused", layer_filter="nothing_like_this")
    assert "no layer to train" in failure(comfy.client, graph)
    graph = training_graph("refused", hold_out=4)
    assert "none is left to learn from" in failure(comfy.client, graph)


def test_the_hosts_own_trainer_takes_our_model(comfy):
    graph = base_graph(seconds=1.5)
    graph["t"] = node(
        "TrainLoraNode",
        model=["m", 0],
        latents=["l", 0],
        positive=["p", 0],
        batch_size=1,
        grad_accumulation_steps=1,
        steps=2,
        learning_rate=0.0005,
        rank=2,
        optimizer="AdamW",
        loss_function="MSE",
        seed=0,
        training_dtype="fp32",
        lora_dtype="fp32",
        quantized_backward=False,
        algorithm="LoRA",
        gradient_checkpointing=False,
        checkpoint_depth=1,
        offloading=False,
        existing_lora="[None]",
        bucket_mode=False,
        bypass_mode=False,
    )
    graph["a"] = node("SA3LoraLoader", model=["m", 0], lora="none", trained=["t", 0])
    graph["w"] = node("SA3SaveLora", lora=["t", 0], filename_prefix="host")
    graph["x"] = sampler(steps=2, model=["a", 0])
    graph |= saved("x", "x")
    run = comfy.client.run(graph)
    assert run.status == "success", "".join(run.error["traceback"])
    assert (comfy.models("loras") / "host_00001.safetensors").is_file()
