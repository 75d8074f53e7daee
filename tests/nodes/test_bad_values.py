"""Whatever comes over an AUDIO or LATENT socket, a node works or says what is wrong and what to do.

The table is made from the schemas: a node or socket added later is tried too.
"""

from __future__ import annotations

import importlib
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.editing_support import music
from tests.helpers.support import ROOT

GIVEN = {
    "SA3AudioDataset": {"folder": "."},
    "SA3SAMEEncode": {"seconds": 0.0},
    "SA3ExtendAudio": {"seconds": 1.0},
    "SA3Loop": {"length_in": "seconds", "seconds": 0.8, "seam_seconds": 0.2},
}


def audios() -> dict[str, Any]:
    """What is no AUDIO."""
    wave = music(0.2)["waveform"]
    return {
        "nothing": None,
        "text": "song.wav",
        "a list": [1, 2],
        "a tensor": wave,
        "an empty dict": {},
        "no rate": {"waveform": wave},
        "no waveform": {"sample_rate": 44100},
        "numpy": {"waveform": np.zeros((1, 2, 100), np.float32), "sample_rate": 44100},
        "a waveform of None": {"waveform": None, "sample_rate": 44100},
        "one axis": {"waveform": wave[0, 0], "sample_rate": 44100},
        "four axes": {"waveform": wave[None], "sample_rate": 44100},
        "no samples": {"waveform": wave[..., :0], "sample_rate": 44100},
        "no items": {"waveform": wave[:0], "sample_rate": 44100},
        "NaN": {"waveform": wave * math.nan, "sample_rate": 44100},
        "rate None": {"waveform": wave, "sample_rate": None},
        "rate as text": {"waveform": wave, "sample_rate": "44100"},
        "rate 0": {"waveform": wave, "sample_rate": 0},
        "rate NaN": {"waveform": wave, "sample_rate": math.nan},
        "lengths of text": {"waveform": wave, "sample_rate": 44100, "lengths": ["a"]},
    }


def latents() -> dict[str, Any]:
    """What is no LATENT of ours."""
    frames = torch.zeros(1, 256, 32)
    return {
        "nothing": None,
        "text": "take",
        "a tensor": frames,
        "no samples": {"type": "audio"},
        "samples of None": {"samples": None},
        "numpy": {"samples": frames.numpy()},
        "an image's": {"samples": torch.zeros(1, 4, 64, 64)},
        "64 channels": {"samples": torch.ones(1, 64, 32)},
        "no frames": {"samples": frames[..., :0]},
        "no items": {"samples": frames[:0]},
        "seconds of text": {"samples": frames, "seconds": ["long"]},
        "seconds of another batch": {"samples": frames, "seconds": [1.0, 2.0, 3.0]},
    }


BAD = {"AUDIO": audios, "LATENT": latents}


def classes(pack) -> dict[str, Any]:
    names = [path.stem for path in (ROOT / "nodes").glob("*.py") if path.stem != "__init__"]
    modules = [importlib.import_module(f"{pack.__name__}.nodes.{name}") for name in sorted(names)]
    return {cls.__name__: cls for module in modules for cls in getattr(module, "NODES", ())}


def sockets(pack) -> list[tuple[str, str, str, bool]]:
    """Node, input, type and whether it may stay open, of every AUDIO and LATENT input."""
    return [
        (name, entry.id, entry.get_io_type(), bool(entry.optional))
        for name, cls in classes(pack).items()
        for entry in cls.GET_SCHEMA().inputs
        if entry.get_io_type() in BAD
    ]


@pytest.fixture(scope="module")
def good(small) -> dict[str, Any]:
    """A right value of every socket type."""
    audio = music(1.0)
    return {
        "MODEL": small.model,
        "VAE": small.vae,
        "CLIP": small.clip,
        "CONDITIONING": small.prompt("pad"),
        "AUDIO": audio,
        "LATENT": small.encode(audio),
    }


def arguments(cls, good: dict[str, Any], target: str) -> dict[str, Any]:
    """Right values for what must be connected, and for a VAE beside audio."""
    needed = {}
    for entry in cls.GET_SCHEMA().inputs:
        kind = entry.get_io_type()
        if kind in good and (not entry.optional or kind == "VAE" or entry.id == target):
            needed[entry.id] = good[kind]
        elif not entry.optional and getattr(entry, "default", None) is not None:
            needed[entry.id] = entry.default
    return {**needed, **GIVEN.get(cls.__name__, {})}


def test_every_node_says_what_is_wrong_with_what_it_got(pack, good):
    errors = importlib.import_module(f"{pack.__name__}.sa3_core.errors")
    found, wrong = sockets(pack), []
    assert len(found) >= 17
    for name, target, kind, optional in found:
        cls = classes(pack)[name]
        cls = type(name, (cls,), {"hidden": SimpleNamespace(prompt=None, extra_pnginfo=None)})
        for case, value in BAD[kind]().items():
            if value is None and optional:
                continue  # not connected
            try:
                cls.execute(**{**arguments(cls, good, target), target: value})
            except errors.SA3Error as error:
                said = str(error)
                if len(said) < 40 or not said.rstrip().endswith((".", ")")):
                    wrong.append(f"{name}.{target}, {case}: says only {said!r}")
            except Exception as error:
                wrong.append(f"{name}.{target}, {case}: {type(error).__name__}: {error}")
            else:
                wrong.append(f"{name}.{target}, {case}: passed")
    assert not wrong, "\n".join(wrong)


def test_two_axes_are_one_item(pack, good):
    """[channels, samples] is what Python scripts have; every node takes it as a batch of one."""
    wave = music(1.0)
    two = {**wave, "waveform": wave["waveform"][0]}
    for name, target, kind, _ in sockets(pack):
        if kind == "AUDIO" and name != "SA3ExtendAudio":
            cls = classes(pack)[name]
            cls = type(name, (cls,), {"hidden": SimpleNamespace(prompt=None, extra_pnginfo=None)})
            values = {**arguments(cls, good, target), target: two}
            if name == "SA3PasteBack":
                values |= {"audio": two, "source": two, "regions": "0.2-0.4"}
            if name == "SA3InpaintMask":
                values |= {"regions": "0.2-0.4"}
            cls.execute(**values)


NAMES = ["../../x", "/etc/passwd", "a\0b", "x" * 300, "\ud800", "not there"]


def test_names_are_names_and_stay_in_their_folders(pack, comfyui):
    """What a saved graph or a program names: refused in words, and the queue's check lives on."""
    errors = importlib.import_module(f"{pack.__name__}.sa3_core.errors")

    def work(name):
        return importlib.import_module(f"{pack.__name__}.nodes.bridge.work.{name}")

    finders = {
        "folder": work("datasets").folder_of,
        "manifest": work("jobs").manifest_path,
        "file": work("latent_files").latent_path,
    }
    for field, find in finders.items():
        for name in NAMES:
            with pytest.raises(errors.InputError, match=f"^{field} is ") as caught:
                find(name)
            assert str(comfyui) not in str(caught.value)
    for name in NAMES:
        work("datasets").folder_state(name)
        work("latent_files").fingerprint(name)
        work("jobs").fingerprint(name, "sa3_jobs")
        work("loras").lora_fingerprint(name)
        with pytest.raises((errors.SA3Error, FileNotFoundError)):
            work("loras").lora_path(name)
