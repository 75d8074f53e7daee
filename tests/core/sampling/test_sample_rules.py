"""Sampling without a reference: batches, lengths, kept frames, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sa3_core.checkpoints.load import load_model
from sa3_core.errors import InputError
from sa3_core.geometry import HOP, effective_frames, seconds_of_frames, target_frames, valid_frames
from sa3_core.networks.model import SA3Model
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from tests.helpers.support import rel_l2, tiny_checkpoint

SHORT = SampleSettings(steps=3)
LENGTHS = (0.4, 1.7, 1.0)
FRAMES = target_frames(1.7, 5_292_032)


@pytest.fixture(scope="module", params=["tiny-s", "tiny-m"])
def model(request) -> SA3Model:
    return load_model(tiny_checkpoint(request.param))


@pytest.fixture(scope="module")
def small() -> SA3Model:
    return load_model(tiny_checkpoint("tiny-s"))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompts(count: int, seed: int = 5) -> TextConditioning:
    """Made-up encoded prompts of different lengths."""
    mask = torch.arange(8) < torch.arange(3, 3 + count)[:, None]
    return TextConditioning(draw(count, 8, 768, seed=seed) * mask[..., None], mask)


def empty(seconds: float, sample_size: int = 5_292_032) -> StartLatent:
    return StartLatent(torch.zeros(1, 256, target_frames(seconds, sample_size)), (seconds,))


def sample(
    model: SA3Model,
    start: StartLatent,
    settings: SampleSettings = SHORT,
    positive: TextConditioning | None = None,
    negative: TextConditioning | None = None,
    seeds: Seeds | None = None,
) -> Tensor:
    return sample_latent(
        model, start, settings, positive or prompts(1), negative, seeds or Seeds(7)
    )


# --- batches ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "settings",
    [
        SHORT,
        SampleSettings(steps=3, sampler="euler", cfg=5.0),
        SampleSettings(steps=3, sampler="dpmpp", cfg=3.0, apg=0.5, cfg_interval=(0.3, 0.99)),
        SampleSettings(steps=3, noise_level=0.6, noise_schedule="bounded"),
        SampleSettings(steps=3, sampler="euler", keep_mode="hard", shift="flux"),
        SampleSettings(steps=2, sampler="rk4", cfg=2.0, norm_threshold=5.0, rescale=0.5),
    ],
    ids=["pingpong", "guided", "interval", "audio-to-audio", "hard-keep", "rk4"],
)
def test_an_item_of_a_batch_equals_the_item_alone(model, settings):
    """Own prompt, negative, duration, mask and seed each; the item alone is also shorter."""
    frames, keep = draw(3, 256, FRAMES, seed=2), (draw(3, 1, FRAMES, seed=3) > 0).float()
    positive, negative, seeds = prompts(3), prompts(3, seed=6), (11, 4, 99)
    start = StartLatent(frames, LENGTHS, keep)
    together = sample(model, start, settings, positive, negative, Seeds(seeds))
    for item, seconds in enumerate(LENGTHS):
        own = target_frames(seconds, model.sample_size)
        one = slice(item, item + 1)
        alone = sample(
            model,
            StartLatent(frames[one, :, :own], (seconds,), keep[one, :, :own]),
            settings,
            positive.select([item]),
            negative.select([item]),
            Seeds(seeds[item]),
        )
        assert rel_l2(together[one, :, :own], alone) <= 1e-5
        assert not together[item, :, valid_frames(seconds, FRAMES) :].any()


def test_one_seed_gives_each_item_its_index(model):
    start = StartLatent(torch.zeros(3, 256, FRAMES), LENGTHS)
    together = sample(model, start, positive=prompts(3), seeds=Seeds(40))
    apart = sample(model, start, positive=prompts(3), seeds=Seeds((40, 41, 42)))
    assert torch.equal(together, apart)
    third = replace(start, frames=start.frames[2:], seconds=LENGTHS[2:], batch_index=(2,))
    taken = sample(model, third, positive=prompts(3).select([2]), seeds=Seeds(40))
    assert rel_l2(taken[0], together[2]) <= 1e-5


def test_several_prompts_over_one_latent_make_several_items(model):
    start = empty(1.0)
    made = sample(model, start, positive=prompts(3), negative=prompts(1, 6), seeds=Seeds(3))
    assert made.shape == (3, 256, start.frames.shape[-1])
    for item in range(3):
        alone = sample(model, start, positive=prompts(3).select([item]), seeds=Seeds(3 + item))
        assert rel_l2(made[item], alone[0]) <= 1e-5


def test_every_list_broadcasts_over_one_latent(small):
    start, frames = empty(1.7), FRAMES
    durations = replace(start, seconds=LENGTHS)
    masks = replace(start, frames=draw(1, 256, frames), keep=torch.ones(3, 1, frames))
    for case in (durations, masks):
        assert sample(small, case).shape[0] == 3
    assert sample(small, start, negative=prompts(3)).shape[0] == 3
    swept = sample(small, start, seeds=Seeds((5, 6)))
    one_prompt_twice = sample(small, start, positive=prompts(1).select([0, 0]), seeds=Seeds(5))
    assert torch.equal(swept, one_prompt_twice)
    assert rel_l2(swept[:1], sample(small, start, seeds=Seeds((5,)))) <= 1e-5


@pytest.mark.parametrize(
    "given", [{"positive": prompts(3)}, {"negative": prompts(3)}, {"seeds": Seeds((1, 2, 3))}]
)
def test_batches_that_do_not_match_the_latents_are_refused_with_both_counts(small, given):
    start = StartLatent(torch.zeros(2, 256, FRAMES), (1.0, 1.0))
    with pytest.raises(InputError, match="2 latents for 3 items"):
        sample(small, start, **given)


def test_lists_that_do_not_match_each_other_are_refused_with_both_counts(small):
    frames = torch.zeros(3, 256, FRAMES)
    for start, what in (
        (StartLatent(frames, (1.0, 1.0)), "2 durations for 3 items"),
        (StartLatent(frames, (1.0,), torch.ones(2, 1, FRAMES)), "2 masks for 3 items"),
    ):
        with pytest.raises(InputError, match=what):
            sample(small, start)
    with pytest.raises(InputError, match="2 prompts for 3 items"):
        sample(small, StartLatent(frames, (1.0,)), positive=prompts(2))


# --- lengths ------------------------------------------------------------------------------------
def test_a_latent_without_seconds_is_the_piece(model):
    frames = 14
    free = sample(model, StartLatent(torch.zeros(1, 256, frames)))
    stated = sample(model, StartLatent(torch.zeros(1, 256, frames), (seconds_of_frames(frames),)))
    assert torch.equal(free, stated)
    assert free.shape == (1, 256, frames)
    assert free[..., -1].any(), "no headroom is taken off"


def test_fractions_of_a_second_change_the_result(small):
    start = StartLatent(torch.zeros(1, 256, FRAMES), (1.0,))
    other = replace(start, seconds=(1.01,))
    assert effective_frames(1.0) == effective_frames(1.01)
    assert rel_l2(sample(small, other)[..., :60], sample(small, start)[..., :60]) > 1e-4


def test_the_models_sample_size_cuts_the_headroom(small):
    """A latent made without knowing the variant is trimmed to what the model takes."""
    tight = replace(small, sample_size=22 * HOP)  # 2.04 s: one second of piece, one of headroom
    start = StartLatent(torch.zeros(1, 256, target_frames(1.0, 5_292_032)), (1.0,))
    assert start.frames.shape[-1] == 76
    out = sample(tight, start)
    assert out.shape == (1, 256, 22)
    assert out[..., 21].any()
    own = StartLatent(torch.zeros(1, 256, 22), (1.0,))
    assert torch.equal(out, sample(tight, own))


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, 120.5, 1e9])
def test_durations_out_of_range_are_refused_with_the_limit(small, seconds):
    start = StartLatent(torch.zeros(2, 256, FRAMES), (1.0, seconds))
    with pytest.raises(InputError, match="at most 120 "):
        sample(small, start)


def test_a_latent_longer_than_the_model_takes_is_refused_without_seconds(small):
    tight = replace(small, sample_size=22 * HOP)
    assert sample(tight, StartLatent(torch.zeros(1, 256, 22))).shape[-1] == 22
    with pytest.raises(InputError, match="the latent's length"):
        sample(tight, StartLatent(torch.zeros(1, 256, 23)))


def test_a_duration_that_the_latent_cannot_hold_is_refused(small):
    with pytest.raises(InputError, match=r"20 frames \(1\.86 s\).*2 s"):
        sample(small, StartLatent(torch.zeros(1, 256, 20), (2.0,)))


@pytest.mark.parametrize("shape", [(1, 64, 20), (1, 256, 20, 1), (256, 20), (0, 256, 20)])
def test_latents_of_other_models_are_refused(small, shape):
    with pytest.raises(InputError, match=r"needs \[batch, 256, frames\]"):
        sample(small, StartLatent(torch.zeros(shape)))


@pytest.mark.parametrize("shape", [(1, 1, 19), (1, 256, 20), (1, 20)])
def test_masks_of_another_shape_are_refused(small, shape):
    with pytest.raises(InputError, match=r"The mask has shape"):
        sample(small, StartLatent(torch.zeros(1, 256, 20), None, torch.ones(shape)))


# --- starting from a source ---------------------------------------------------------------------
def test_denoise_0_returns_the_source(model):
    frames = draw(2, 256, FRAMES)
    start = StartLatent(frames, (1.0, 1.7))
    out = sample(model, start, SampleSettings(noise_level=0.0), prompts(2))
    assert torch.equal(out, frames)


def test_a_low_noise_level_stays_near_the_source(small):
    """The random weights move far at once, so only the start is compared: what the net is given."""
    frames = draw(1, 256, FRAMES)
    seen: list[Tensor] = []

    def noise() -> Tensor:
        return torch.zeros(1, 256, FRAMES)

    settings = SampleSettings(steps=1, sampler="euler", noise_level=0.25)
    velocity = small.dit.velocity

    def spy(x, t, constants):
        seen.append(x.clone())
        assert torch.equal(t, torch.tensor([0.25]))
        return velocity(x, t, constants)

    small.dit.velocity = spy
    try:
        sample_latent(small, StartLatent(frames, (1.7,)), settings, prompts(1), None, noise)
    finally:
        del small.dit.velocity
    valid = valid_frames(1.7, FRAMES)
    assert rel_l2(seen[0], 0.75 * frames[..., :valid]) <= 1e-6


@pytest.mark.parametrize("sampler", ["pingpong", "euler", "dpmpp", "rk4"])
def test_hard_keep_puts_the_source_back_exactly(model, sampler):
    frames, keep = draw(1, 256, FRAMES), (torch.arange(FRAMES) < 9).float().expand(1, 1, -1)
    start = StartLatent(frames, (1.7,), keep)
    seen: list[Tensor] = []
    settings = SampleSettings(steps=4, sampler=sampler, keep_mode="hard")
    hard = sample_latent(
        model,
        start,
        settings,
        prompts(1),
        None,
        Seeds(0),
        on_step=lambda i, n, denoised: seen.append(denoised.clone()),
    )
    assert torch.equal(hard[..., :9], frames[..., :9])
    for denoised in seen:
        assert rel_l2(denoised[..., :9], frames[..., :9]) <= 1e-5
    soft = sample(model, start, replace(settings, keep_mode="model"), seeds=Seeds(0))
    assert rel_l2(soft[..., :9], frames[..., :9]) > 0.05
    assert rel_l2(hard[..., 9:17], soft[..., 9:17]) > 1e-3


def test_hard_keep_without_a_mask_changes_nothing(small):
    settings = SampleSettings(steps=3, keep_mode="hard")
    assert torch.equal(sample(small, empty(1.0), settings), sample(small, empty(1.0)))


def test_a_mask_that_keeps_nothing_is_text_to_audio(model):
    start = empty(1.0)
    frames = draw(*start.frames.shape)
    masked = StartLatent(frames, (1.0,), torch.zeros(1, 1, frames.shape[-1]))
    assert torch.equal(sample(model, masked), sample(model, start))


def test_the_kept_source_reaches_the_model(model):
    start = empty(1.0)
    keep = torch.ones(1, 1, start.frames.shape[-1])
    base = sample(model, start)
    kept = sample(model, replace(start, frames=draw(*start.frames.shape), keep=keep))
    assert rel_l2(kept[..., :11], base[..., :11]) > 0.01


# --- noise --------------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_latent_and_another_one_does_not(small):
    base = sample(small, empty(1.0), seeds=Seeds(1))
    assert torch.equal(base, sample(small, empty(1.0), seeds=Seeds(1)))
    assert rel_l2(sample(small, empty(1.0), seeds=Seeds(2)), base) > 0.1


def test_a_blend_of_seeds_leads_from_one_to_the_other(small):
    def at(strength: float) -> Tensor:
        return sample(small, empty(1.0), seeds=Seeds(1, 2, strength))

    first, second = (sample(small, empty(1.0), seeds=Seeds(s)) for s in (1, 2))
    assert torch.equal(at(0.0), first)
    assert torch.equal(at(1.0), second)
    near, far = rel_l2(at(0.1), first), rel_l2(at(0.5), first)
    assert 0 < near < far < rel_l2(second, first)


# --- running ------------------------------------------------------------------------------------
def test_progress_is_told_after_every_step_and_may_stop_the_run(small):
    told: list[tuple[int, int, tuple[int, ...]]] = []

    class StopError(Exception):
        pass

    def on_step(i: int, n: int, denoised: Tensor) -> None:
        told.append((i, n, tuple(denoised.shape)))
        if i == 1:
            raise StopError

    with pytest.raises(StopError):
        sample_latent(
            small, empty(1.0), SampleSettings(steps=5), prompts(1), None, Seeds(0), on_step
        )
    assert told == [(0, 5, (1, 256, 75)), (1, 5, (1, 256, 75))], "75 frames: piece and headroom"


def test_automatic_steps_come_from_the_objective(small):
    steps: list[int] = []
    base = replace(small, objective="rectified_flow")
    for model in (small, base):
        sample_latent(
            model,
            StartLatent(torch.zeros(1, 256, 4)),
            SampleSettings(),
            prompts(1),
            None,
            Seeds(0),
            on_step=lambda i, n, denoised: steps.append(n),
        )
    assert steps == [8] * 8 + [50] * 50


def test_a_half_precision_model_gives_a_float32_latent_close_to_the_full_one(small):
    half = load_model(tiny_checkpoint("tiny-s"), dtype=torch.bfloat16)
    out = sample(half, empty(1.0))
    assert out.dtype == torch.float32
    assert rel_l2(out, sample(small, empty(1.0))) <= 0.1


def test_no_gradient_is_recorded(small):
    weight = small.dit.transformer.project_in.weight
    weight.requires_grad_(True)
    try:
        assert not sample(small, empty(0.5)).requires_grad
    finally:
        weight.requires_grad_(False)


# --- headroom -----------------------------------------------------------------------------------
def test_headroom_takes_part_as_far_as_it_reaches(small):
    """Fewer seconds after the piece: fewer frames are computed, and an item alone is the same."""
    frames = draw(2, 256, FRAMES)
    pair = StartLatent(frames, (0.5, 1.0), headroom=0.5)
    out = sample(small, pair, SampleSettings(noise_level=0.8), prompts(2), seeds=Seeds([3, 4]))
    for item, seconds in enumerate((0.5, 1.0)):
        valid = effective_frames(seconds) + 5  # int(0.5 * 44100 / 4096)
        assert out[item, :, valid - 1].any()
        assert not out[item, :, valid:].any()
        own = frames[item : item + 1, :, : target_frames(seconds, 5_292_032, 0.5)]
        alone = StartLatent(own, (seconds,), headroom=0.5)
        got = sample(
            small,
            alone,
            SampleSettings(noise_level=0.8),
            prompts(2).select([item]),
            seeds=Seeds([3 + item]),
        )
        assert rel_l2(got[0, :, :valid], out[item, :, :valid]) <= 1e-5


@pytest.mark.parametrize("headroom", [-0.1, 61.0, math.nan, math.inf, "6"])
def test_headroom_out_of_range_is_named(small, headroom):
    with pytest.raises(InputError, match="headroom is"):
        sample(small, replace(empty(1.0), headroom=headroom))
