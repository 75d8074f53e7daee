"""What rides on LATENT and AUDIO against ComfyUI's own nodes that change the tensor beside it."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sa3_core.audio.file import read_audio
from sa3_core.codec.latent_file import read_latents
from sa3_core.geometry import samples_of, seconds_of_frames
from tests.helpers.editing_support import RATE, music

LONG, SHORT = 1.0, 0.6  # seconds of the items


@pytest.fixture(scope="module")
def stock(pack) -> SimpleNamespace:
    """ComfyUI's own node classes, called by name with plain arguments."""
    host = importlib.import_module("nodes")
    extras = [
        importlib.import_module(f"comfy_extras.nodes_{n}")
        for n in ("post_processing", "latent", "audio")
    ]

    def call(name: str, *args: Any, **kwargs: Any) -> Any:
        old = getattr(host, name, None)
        if old is not None:
            return getattr(old(), old.FUNCTION)(*args, **kwargs)[0]
        cls = next(vars(module)[name] for module in extras if name in vars(module))
        return cls.execute(*args, **kwargs).args[0]

    return SimpleNamespace(call=call)


@pytest.fixture(scope="module")
def latents(small) -> SimpleNamespace:
    """One item; a longer one of as many frames; two of different durations."""
    with torch.inference_mode():
        two = {**music(LONG, batch=2), "lengths": [RATE, int(SHORT * RATE)]}
        return SimpleNamespace(
            one=small.encode(music(LONG)), other=small.encode(music(1.04)), two=small.encode(two)
        )


def _cut_to_batch(s, x):
    return s.call("LatentCutToBatch", x.one, "x", 16)


def _fixed(s, x):
    return s.call("LatentBatchSeedBehavior", x.two, "fixed")


def _operated(s, x):
    operation = s.call("LatentOperationTonemapReinhard", 1.0)
    return s.call("LatentApplyOperation", x.one, operation)


def _replaced(s, x):
    return s.call("ReplaceVideoLatentFrames", s.call("LatentConcat", x.one, x.one, "x"), 4, x.other)


# Name -> what stock nodes do, and each item's duration then; None = all of its frames.
CHANGED = {
    "joined": (lambda s, x: s.call("LatentConcat", x.one, x.one, "x"), [None]),
    "joined in front": (lambda s, x: s.call("LatentConcat", x.one, x.other, "-x"), [None]),
    "cut": (lambda s, x: s.call("LatentCut", x.one, "x", 4, 9), [None]),
    "cut at nothing": (lambda s, x: s.call("LatentCut", x.one, "x", 0, 9999), [LONG]),
    "cut to a batch": (_cut_to_batch, [None] * 4),
    "repeated": (lambda s, x: s.call("RepeatLatentBatch", x.one, 3), [LONG] * 3),
    "repeated both": (lambda s, x: s.call("RepeatLatentBatch", x.two, 2), [LONG, SHORT] * 2),
    "picked": (lambda s, x: s.call("LatentFromBatch", x.two, 1, 1), [SHORT]),
    "picked of repeated": (
        lambda s, x: s.call("LatentFromBatch", s.call("RepeatLatentBatch", x.two, 2), 3, 1),
        [SHORT],
    ),
    "repeated picked": (
        lambda s, x: s.call("RepeatLatentBatch", s.call("LatentFromBatch", x.two, 1, 1), 2),
        [SHORT, SHORT],
    ),
    "batched with another": (lambda s, x: s.call("LatentBatch", x.one, x.other), [LONG, None]),
    "batched with itself": (lambda s, x: s.call("LatentBatch", x.two, x.two), [LONG, SHORT] * 2),
    "one seed": (_fixed, [LONG, SHORT]),
    "picked of one seed": (lambda s, x: s.call("LatentFromBatch", _fixed(s, x), 1, 1), [SHORT]),
    "random seeds": (
        lambda s, x: s.call("LatentBatchSeedBehavior", _fixed(s, x), "random"),
        [LONG, SHORT],
    ),
    "added": (lambda s, x: s.call("LatentAdd", x.two, x.two), [LONG, SHORT]),
    "subtracted": (lambda s, x: s.call("LatentSubtract", x.one, x.other), [LONG]),
    "multiplied": (lambda s, x: s.call("LatentMultiply", x.two, 0.5), [LONG, SHORT]),
    "multiplied and repeated": (
        lambda s, x: s.call("RepeatLatentBatch", s.call("LatentMultiply", x.two, 0.5), 2),
        [LONG, SHORT] * 2,
    ),
    "interpolated": (lambda s, x: s.call("LatentInterpolate", x.one, x.other, 0.5), [LONG]),
    "tone mapped": (_operated, [LONG]),
    "replaced in a longer one": (_replaced, [None]),
}


@pytest.mark.parametrize("change", CHANGED)
def test_every_node_takes_what_the_latent_holds(small, stock, latents, change, tmp_path):
    make, wanted = CHANGED[change]
    latent = make(stock, latents)
    frames = latent["samples"].shape[-1]
    seconds = [seconds_of_frames(frames) if s is None else s for s in wanted]

    node = small.module("nodes.latent").SA3SAMEDecode
    decoded = node.execute(latent, small.vae)
    audio, said = decoded.args[0], " ".join(decoded.ui["text"])
    assert audio.get("lengths", [frames * 4096] * len(seconds)) == [samples_of(s) for s in seconds]
    assert audio["waveform"].shape[-1] == max(map(samples_of, seconds))
    assert ("count" in said) == (None in wanted)

    sampled = small.sample(latent, steps=1)
    assert sampled.get("seconds", seconds) == seconds

    masked = small.module("nodes.editing").SA3InpaintMask.execute(latent, regions="90%-100%")
    assert [item[0][1] for item in masked.args[1]] == pytest.approx(seconds)
    assert ("count" in " ".join(masked.ui["text"])) == (None in wanted)
    own = masked.args[0].get("sa3_source")
    assert (own is None) == (None in wanted)
    if own is not None:
        lengths = [item.waveform.shape[-1] for item in own.items_of(len(seconds))]
        assert lengths == [samples_of(s) for s in seconds]

    files, _ = small.module("nodes.bridge.work.latent_files").save_latents(
        latent, f"riding/{tmp_path.name}", "safetensors"
    )
    path = small.module("nodes.bridge.work.latent_files").latent_path(files[0])
    assert list(read_latents(path).seconds) == pytest.approx(seconds)

    scheduler = small.module("nodes.schedule").SA3Scheduler.execute(small.model, latent, steps=3)
    assert scheduler.args[0].shape == (4,)
    assert ("count" in " ".join(scheduler.ui["text"])) == (None in wanted)


@pytest.mark.parametrize(
    "change",
    [
        lambda s, x: s.call("LatentConcat", x, x, "-x"),
        lambda s, x: s.call("LatentBatch", x, s.call("LatentMultiply", x, 0.5)),
    ],
    ids=["joined", "batched"],
)
def test_a_source_that_is_no_longer_the_latents_own_is_not_put_back(small, stock, change):
    """Its samples would lie at the wrong place, or over another item."""
    encoded = small.encode(music(LONG))
    masked = small.module("nodes.editing").SA3InpaintMask.execute(encoded, regions="0.2-0.4")
    bare = {key: value for key, value in masked.args[0].items() if key != "noise_mask"}
    latent = change(stock, bare)
    paste = small.module("nodes.editing").SA3PasteBack
    for keep in (True, False):
        out = small.module("nodes.latent").SA3SAMEDecode.execute(
            latent, small.vae, keep_source_exactly=keep
        )
        assert "no longer its own" in " ".join(out.ui["text"])
    pasted = paste.execute(out.args[0], latent)
    assert torch.equal(pasted.args[0]["waveform"], out.args[0]["waveform"])
    assert "no longer its own" in " ".join(pasted.ui["text"])


def test_repeated_edits_get_their_own_sources_back(small, stock):
    """Two sources of different lengths, picked and repeated: samples outside the region exactly."""
    two = {**music(LONG, batch=2), "lengths": [RATE, int(SHORT * RATE)]}
    two["waveform"][1, :, two["lengths"][1] :] = 0
    mask = small.module("nodes.editing").SA3InpaintMask
    masked = mask.execute(small.encode(two), regions="0.1-0.2").args[0]
    latent = stock.call("RepeatLatentBatch", stock.call("LatentFromBatch", masked, 1, 1), 2)
    out = small.decode(latent)
    own = two["waveform"][1, :, : two["lengths"][1]]
    assert out["lengths"] == [own.shape[-1]] * 2
    for item in out["waveform"]:
        assert torch.equal(item[:, RATE // 2 :], own[:, RATE // 2 :])


def test_values_of_other_nodes_count_where_they_can_be_right(bridge):
    """A node that writes `seconds` anew is believed; a dict like ours with too many frames not."""
    made = bridge.coding.empty_latent([2.0], 1)
    longer = {**made, "samples": torch.zeros(1, 256, 176), "seconds": [9.5]}
    assert bridge.riding.settled(longer, "Test")[0]["seconds"] == [9.5]
    plain = {"samples": torch.ones(1, 256, 64), "seconds": [2.0]}
    assert bridge.riding.settled(plain, "Test") == (plain, [])
    joined = {"samples": torch.ones(1, 256, 176), "seconds": [2.0]}
    latent, notes = bridge.riding.settled(joined, "Test")
    assert "seconds" not in latent
    assert "176 frames" in notes[0]


@pytest.mark.parametrize("index", [[0, 1, 2], [0]])
def test_an_index_of_another_batch_is_dropped(bridge, index):
    made = {**bridge.coding.empty_latent([2.0, 1.0], 1), "batch_index": index}
    latent, _ = bridge.riding.settled(made, "Test")
    assert "batch_index" not in latent
    assert latent["seconds"] == [2.0, 1.0]


def _half(audio):
    samples = torch.nn.functional.interpolate(audio["waveform"], scale_factor=0.5)
    return {**audio, "waveform": samples, "sample_rate": RATE // 2}


AUDIO = {
    "trimmed": (lambda s, a: s.call("TrimAudioDuration", a, 0.1, 0.3), [0.3, 0.3]),
    "joined": (lambda s, a: s.call("AudioConcat", a, a, "after"), [2.0, 2.0]),
    "joined in front": (lambda s, a: s.call("AudioConcat", a, music(0.5, batch=2), "before"), None),
    "mixed": (lambda s, a: s.call("AudioMerge", a, music(1.0, batch=2), "add"), [1.0, 1.0]),
    "louder": (lambda s, a: s.call("AudioAdjustVolume", a, 3), [1.0, 1.0]),
    "untouched": (lambda s, a: s.call("AudioAdjustVolume", a, 0), [1.0, 0.6]),
    "left alone": (lambda s, a: s.call("SplitAudioChannels", a), [1.0, 1.0]),
    "dict kept, doubled": (
        lambda s, a: {**a, "waveform": torch.cat([a["waveform"]] * 2, dim=-1)},
        [2.0, 2.0],
    ),
    "dict kept, resampled": (lambda s, a: _half(a), [1.0, 1.0]),
    "dict kept, reversed": (lambda s, a: {**a, "waveform": a["waveform"].flip(-1)}, [1.0, 1.0]),
    "dict kept, items swapped": (lambda s, a: {**a, "waveform": a["waveform"].flip(0)}, [1.0, 1.0]),
    "dict kept, quieter": (lambda s, a: {**a, "waveform": a["waveform"] * 0.5}, [1.0, 0.6]),
    "dict kept, rate renamed": (lambda s, a: {**a, "sample_rate": 2 * RATE}, [0.5, 0.3]),
}


@pytest.mark.parametrize("change", AUDIO)
def test_every_node_takes_what_the_audio_holds(small, bridge, stock, change, comfyui: Path):
    make, seconds = AUDIO[change]
    seconds = seconds or [1.5, 1.5]
    waveform = music(LONG, batch=2)["waveform"]
    waveform[1, :, int(SHORT * RATE) :] = 0
    audio = make(stock, bridge.values.audio_value(waveform, lengths=[RATE, int(SHORT * RATE)]))
    rate = audio["sample_rate"]

    items = small.module("nodes.latent_files").SA3SplitAudioBatch.execute(audio).args[0]
    found = [item["waveform"].shape[-1] / rate for item in items]
    assert found == pytest.approx(seconds, abs=1e-4)
    stale = "lengths" in audio and seconds != [1.0, 0.6] and seconds != [0.5, 0.3]
    hidden = SimpleNamespace(prompt=None, extra_pnginfo=None)
    saved, notes = bridge.saving.save(audio, "riding/take", "wav-32f", hidden)
    assert ("all of its samples count" in " ".join(notes)) == stale
    for item, file, length in zip(items, saved, seconds, strict=True):
        samples, _ = read_audio(comfyui / "output" / file["subfolder"] / file["filename"])
        assert samples.shape[-1] / rate == pytest.approx(length, abs=1e-4)
        assert torch.equal(samples, item["waveform"][0])
    look = small.module("nodes.bridge.work.look").look(audio, None, hidden)
    for note, length in zip(look.notes[-2:], seconds, strict=True):
        assert f"{length:.2f} s," in note
    shown, _ = small.module("nodes.bridge.work.compare").compare({"A": audio}, None, 0)
    assert [take["seconds"] for take in shown["sa3_takes"]] == pytest.approx(seconds, abs=1e-4)
    assert small.encode(audio)["seconds"] == pytest.approx(seconds, abs=1e-4)
    rider = bridge.coding.item_sources(audio, "Test").rider
    assert [n / rate for n in (rider.lengths or [audio["waveform"].shape[-1]] * 2)] == (
        pytest.approx(seconds, abs=1e-4)
    )
