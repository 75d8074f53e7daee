"""Latents and audio of every mode against the reference's, with the reference's own noise.

The golden files hold valid frames only (an item's piece and headroom); `step.*` hold every fourth
channel and `audio.*` a window of the samples, given in the settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sa3_core.audio.waveform import fit_length, prepare_source
from sa3_core.checkpoints.load import load_model, load_same
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.editing.masks import continuation_mask, keep_mask
from sa3_core.editing.regions import Region
from sa3_core.geometry import HOP
from sa3_core.networks.model import SA3Model
from sa3_core.networks.same import SAMEAutoencoder
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from sa3_core.text.encoder import T5Gemma, load_t5gemma
from tests.helpers.support import Golden, load_golden, rel_l2, tiny_checkpoint

PROMPT = "warm analog synth pad slow attack lush reverb 120 BPM"
SECOND_PROMPT = "footsteps on gravel distant thunder"
NEGATIVE = "low quality noise distorted"
PLAIN, GUIDED, END_TO_END = 1e-5, 5e-5, 1e-4  # relative L2

MODES = {
    "t2a": {},
    "t2a_euler": {"sampler": "euler"},
    "t2a_dpmpp": {"sampler": "dpmpp"},
    "t2a_rk4": {"sampler": "rk4"},
    "a2a": {"noise_level": 0.7},
    "a2a_resample": {"noise_level": 0.7},
    "inpaint": {},
    "continuation": {},
    "cfg": {"sampler": "euler", "cfg": 6.0, "apg": 1.0},
    "cfg_null": {"sampler": "euler", "cfg": 6.0, "apg": 1.0},
    "cfg_blend": {"cfg": 4.0, "apg": 0.5},
    "cfg_vanilla": {"sampler": "euler", "cfg": 3.0, "apg": 0.0},
    "batch": {"sampler": "euler"},
}


@dataclass(frozen=True)
class Nets:
    """One tiny checkpoint, loaded."""

    variant: str
    model: SA3Model
    same: SAMEAutoencoder
    text: T5Gemma

    def golden(self, mode: str) -> Golden:
        return load_golden(f"{self.variant}/{mode}")

    def source(self, mode: str, frames: int) -> Tensor:
        """The encoded source, [1, 256, frames]."""
        if mode == "a2a_resample":
            audio, rate = load_golden("inputs")["mono_48000"], 48000
        else:
            audio, rate = load_golden(f"{self.variant}/same")["input_audio"], 44100
        return self.same.encode(fit_length(prepare_source(audio, rate), frames * HOP))


@pytest.fixture(scope="module", params=["tiny-s", "tiny-m"])
def nets(request) -> Nets:
    path = tiny_checkpoint(request.param)
    return Nets(
        request.param,
        load_model(path),
        load_same(open_checkpoint(path)),
        load_t5gemma(path / "t5gemma-b-b-ul2"),
    )


def golden_text(*numbers: int) -> TextConditioning:
    """The reference's encoded prompts: 0 and 1 as above, 2 the negative."""
    golden = load_golden("t5gemma")
    parts = [golden[f"tokens.{number}"][None] for number in numbers]
    return TextConditioning.stack(
        [TextConditioning(p, torch.ones(p.shape[:2], dtype=torch.bool)) for p in parts]
    )


def golden_noise(batch: int, frames: int) -> Callable[[], Tensor]:
    """The reference's noise: one generator for the whole tensor."""
    generator = torch.Generator().manual_seed(1234)
    return lambda: torch.randn(batch, 256, frames, generator=generator)


def golden_start(nets: Nets, mode: str, golden: Golden) -> StartLatent:
    frames = golden.settings["latent_frames"]
    seconds = golden.settings["duration"]
    seconds = tuple(seconds) if isinstance(seconds, list) else (seconds,)
    if mode in ("a2a", "a2a_resample"):
        return StartLatent(nets.source(mode, frames), seconds)
    if mode == "inpaint":
        keep = keep_mask([Region(0.4, 1.1)], frames, seconds[0], "upstream")
        return StartLatent(nets.source(mode, frames), seconds, keep)
    if mode == "continuation":
        keep = continuation_mask(66150, frames, seconds[0], "upstream")
        return StartLatent(nets.source(mode, frames), seconds, keep)
    return StartLatent(torch.zeros(len(seconds), 256, frames), seconds)


def run(
    nets: Nets,
    mode: str,
    positive: TextConditioning,
    negative: TextConditioning | None,
    steps: list[Tensor],
) -> Tensor:
    golden = nets.golden(mode)
    start = golden_start(nets, mode, golden)
    return sample_latent(
        nets.model,
        start,
        SampleSettings(steps=golden.settings["steps"], **MODES[mode]),
        positive,
        negative,
        golden_noise(*start.frames.shape[::2]),
        on_step=lambda i, n, denoised: steps.append(denoised.clone()),
    )


@pytest.mark.parametrize("mode", MODES)
def test_latents_equal_the_reference(nets, mode):
    golden = nets.golden(mode)
    negative = golden_text(2) if mode in ("cfg", "cfg_blend", "cfg_vanilla") else None
    positive = golden_text(0, 1) if mode == "batch" else golden_text(0)
    steps: list[Tensor] = []
    latents = run(nets, mode, positive, negative, steps)
    limit = GUIDED if mode.startswith("cfg") else PLAIN
    for item, valid in enumerate(golden.settings["valid"]):
        assert rel_l2(latents[item, :, :valid], golden[f"latents.{item}"]) <= limit
        assert not latents[item, :, valid:].any(), "frames past piece and headroom are 0"
        for i, denoised in enumerate(steps):
            key = f"step.{i}.denoised.{item}"
            if key in golden:
                assert rel_l2(denoised[item, ::4, :valid], golden[key]) <= limit
    assert len(steps) == golden.settings["steps"]


@pytest.mark.parametrize("mode", ["t2a", "inpaint", "continuation", "batch"])
def test_audio_equals_the_reference_end_to_end(nets, mode):
    golden = nets.golden(mode)
    prompts = [PROMPT, SECOND_PROMPT] if mode == "batch" else [PROMPT]
    latents = run(nets, mode, nets.text.encode(prompts), None, [])
    audio = nets.same.decode(latents)
    low, high = golden.settings["audio_window"]
    for item in range(len(prompts)):
        assert rel_l2(audio[item, :, low:high], golden[f"audio.{item}"]) <= END_TO_END


def test_a_continuation_is_a_region_from_the_sources_end_to_the_new_end():
    by_region = keep_mask([Region(1.5, 4.0)], 108, 4.0, "upstream")
    assert torch.equal(continuation_mask(66150, 108, 4.0, "upstream"), by_region)
