"""The pieces that `dev.py demo` plays, their graphs and their picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo_model.maker.lora import LORA_NAME
from tests.helpers.client import Graph
from tests.helpers.harness import ROOT

GRAPHS = ROOT / "example_workflows" / "api"
GRAPH = GRAPHS / "text_to_audio.json"
Settings = Mapping[tuple[str, str], Any]


@dataclass(frozen=True)
class Piece:
    """One sound of the demo.

    Attributes:
        name: what it shows.
        graph: name of an example in API format.
        prompt: None = the graph's own.
        changes: other inputs by (class_type, input); None leaves one as it is.
        source: name of the piece that it starts from; "" = none.
        lora: in front of the sampler; "" = none.
    """

    name: str
    graph: str
    prompt: str | None
    changes: Settings = field(default_factory=dict)
    source: str = ""
    lora: str = ""

    @property
    def file_name(self) -> str:
        """Without its suffix."""
        return "demo" if self.name == "demo" else f"demo_{self.name.replace(' ', '_')}"


_SECONDS, _SEED = ("SA3EmptyLatent", "seconds"), ("SA3Sampler", "seed")
PIECES = (
    Piece("beat", "text_to_audio", "drum beat, 160 BPM", {_SECONDS: 6.0, _SEED: 3}),
    Piece(
        "melody over pads",
        "text_to_audio",
        "flute melody with warm synth pad, 80 BPM",
        {_SECONDS: 8.0, _SEED: 1},
    ),
    Piece(
        "inpainted bar",
        "inpaint_one_region",
        "bells melody, 80 BPM",
        {("SA3InpaintMask", "regions"): "2.97-5.94", _SEED: 9},
        source="melody over pads",
    ),
    Piece(
        "continuation",
        "continue_audio",
        "drum beat, 160 BPM",
        {("SA3ContinueAudio", "seconds"): 4.0, _SEED: 4},
        source="beat",
    ),
    Piece(
        "flute as bells by LoRA",
        "text_to_audio",
        "flute melody, 80 BPM",
        {_SECONDS: 6.0, _SEED: 1},
        lora=LORA_NAME,
    ),
)


def fill_in(graph: Graph, settings: Settings) -> Graph:
    """A copy of the graph with inputs set by (class_type, input); None leaves one as it is.

    Raises:
        KeyError: no node of that class has that input.
    """
    filled = json.loads(json.dumps(graph))
    for (class_type, name), value in settings.items():
        inputs = [node["inputs"] for node in filled.values() if node["class_type"] == class_type]
        if not any(name in own for own in inputs):
            raise KeyError(f"the graph has no {class_type} with an input {name}")
        if value is not None:
            for own in inputs:
                own[name] = value
    return filled


def graph_of(piece: Piece, model: str, source: Path | None) -> Graph:
    """The piece's graph with a model, and the file in the input folder that it starts from."""
    changes = {
        ("SA3LoadModel", "model"): model,
        ("SA3TextEncode", "text"): piece.prompt,
        ("SA3SaveAudio", "filename_prefix"): piece.file_name,
        **piece.changes,
    }
    if source is not None:
        changes[("LoadAudio", "audio")] = source.name
    graph = fill_in(json.loads((GRAPHS / f"{piece.graph}.json").read_text("utf-8")), changes)
    if piece.lora:
        (sampler,) = (node for node in graph.values() if node["class_type"] == "SA3Sampler")
        inputs = {"model": sampler["inputs"]["model"], "lora": piece.lora, "strength": 1.0}
        graph["lora"] = {"class_type": "SA3LoraLoader", "inputs": inputs}
        sampler["inputs"]["model"] = ["lora", 0]
    return graph


def plot(sounds: Sequence[tuple[str, Path]], picture: Path) -> None:
    """Draw waveform and spectrogram of audio files, one row each, under their titles."""
    import av
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, rows = plt.subplots(
        *(len(sounds), 2),
        figsize=(12, 2.2 * len(sounds)),
        layout="constrained",
        squeeze=False,
        sharex="row",
    )
    for (title, path), (wave, spectrum) in zip(sounds, rows, strict=True):
        with av.open(str(path)) as container:
            rate = container.streams.audio[0].rate
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
        wave.plot(np.arange(len(samples)) / rate, samples, linewidth=0.4)
        wave.set(title=title, ylim=(-1, 1))
        spectrum.specgram(samples + 1e-9, NFFT=2048, Fs=rate, noverlap=1536, vmin=-140)
        spectrum.set(ylabel="Hz", ylim=(0, 12000), xlim=(0, len(samples) / rate))
    for axes in rows[-1]:
        axes.set_xlabel("seconds")
    figure.savefig(picture, dpi=100)
    plt.close(figure)
