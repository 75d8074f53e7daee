"""Paste back: kept samples bit-equal, seams without steps, levels, rates, batches."""

from __future__ import annotations

import math

import pytest
import torch

from sa3_core.audio.waveform import resample
from sa3_core.editing.paste import Source, paste_back
from sa3_core.editing.paste_plan import plan_layout
from sa3_core.editing.regions import Region
from sa3_core.errors import AudioError, InputError

RATE = 44100


def noise(samples, channels=2, seed=0, level=0.2):
    generator = torch.Generator().manual_seed(seed)
    return level * torch.randn(1, channels, samples, generator=generator)


def tone(freq, samples, rate=RATE, channels=2, level=0.3):
    t = torch.arange(samples, dtype=torch.float64) / rate
    return (level * torch.sin(2 * math.pi * freq * t)).float().expand(1, channels, -1)


def kept_mask(samples, rate, regions):
    """Samples outside all regions, by their times alone."""
    t = torch.arange(samples, dtype=torch.float64) / rate
    inside = torch.zeros(samples, dtype=torch.bool)
    for start, end in regions:
        inside |= (t >= start) & (t < end)
    return ~inside


def made_for(source, rate, seconds=None, seed=9):
    """Something else of the source's length, at 44.1 kHz stereo."""
    seconds = source.shape[-1] / rate if seconds is None else seconds
    return noise(int(seconds * RATE), 2, seed, 0.25)


@pytest.mark.parametrize("rate", [44100, 48000, 22050, 96000, 11025])
@pytest.mark.parametrize("channels", [1, 2])
def test_outside_the_regions_every_sample_is_the_source(rate, channels):
    samples = 2 * rate + 17
    source = noise(samples, channels, level=3.0)
    before = source.clone()
    regions = [Region(0.31, 0.57), Region(1.2, 1.21), Region(1.9, samples / rate)]
    out, lengths = paste_back(made_for(source, rate), Source(source, rate, [regions]))
    assert out.shape == source.shape
    assert lengths == [samples]
    kept = kept_mask(samples, rate, regions)
    assert torch.equal(out[..., kept], source[..., kept])
    assert torch.equal(source, before), "the source is never written to"
    made = ~kept
    assert float((out[..., made] != source[..., made]).float().mean()) > 0.99


def test_kept_samples_are_the_same_by_any_way_of_rounding():
    source = noise(RATE)
    for start in (0.29, 0.1 + 0.2, 0.123456789, 1 / 3):
        region = Region(start, start + 0.37)
        out, _ = paste_back(made_for(source, RATE), Source(source, RATE, [[region]]))
        changed = (out != source).any(dim=1)[0].nonzero().flatten()
        assert changed[0] >= math.ceil(region.start * RATE)
        assert changed[-1] < math.floor(region.end * RATE)


def test_inside_the_made_side_stands_alone_beyond_the_crossfade():
    source = noise(RATE)
    made = made_for(source, RATE)
    made[..., : round(0.4 * RATE)] = source[..., : round(0.4 * RATE)]  # drawn at the same level
    made[..., round(0.6 * RATE) :] = source[..., round(0.6 * RATE) :]
    out, _ = paste_back(made, Source(source, RATE, [[Region(0.4, 0.6)]]), 0.02)
    inner = slice(round(0.42 * RATE), round(0.58 * RATE))
    torch.testing.assert_close(out[..., inner], made[..., inner], rtol=1e-6, atol=1e-7)


def test_crossfade_is_equal_power_inside_the_region():
    source, made = torch.ones(1, 1, RATE), torch.zeros(1, 2, RATE)
    out, _ = paste_back(made, Source(source, RATE, [[Region(0.4, 0.6)]]), 0.05)
    fade = out[0, 0, round(0.4 * RATE) : round(0.45 * RATE)].double()
    steps = torch.arange(2205) + 0.5
    torch.testing.assert_close(
        fade, torch.cos(steps * math.pi / 2 / 2205).double(), rtol=0, atol=1e-6
    )
    source, made = torch.zeros(1, 1, RATE), torch.ones(1, 2, RATE)
    weight = paste_back(made, Source(source, RATE, [[Region(0.4, 0.6)]]), 0.05)[0][0, 0]
    part = weight[round(0.4 * RATE) : round(0.45 * RATE)].double()
    torch.testing.assert_close(
        part.square() + fade.square(), torch.ones_like(fade), atol=1e-6, rtol=0
    )
    assert not weight[: round(0.4 * RATE)].any()
    assert bool((weight[round(0.46 * RATE) : round(0.54 * RATE)] == 1).all())


@pytest.mark.parametrize("rate", [44100, 48000])
def test_no_seam_steps_more_than_the_signals_do(rate):
    samples = 2 * rate
    source = tone(330.0, samples, rate)
    made = tone(217.0, 2 * RATE)
    regions = [Region(0.0, 0.2), Region(0.7, 0.9), Region(1.5, 2.0)]
    out, _ = paste_back(made, Source(source, rate, [regions]))
    largest = source.diff().abs().max() + 0.02 * 0.3
    assert float(out.diff().abs().max()) <= float(largest)


@pytest.mark.parametrize("add", [0.5, 0.3333])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_continuing_joins_without_a_step_and_keeps_all_of_the_source(rate, add):
    samples = rate + 123
    source, seconds = tone(330.0, samples, rate), (rate + 123) / rate
    made = tone(217.0, int((seconds + add) * RATE))
    region = Region(seconds, seconds + add)
    out, lengths = paste_back(made, Source(source, rate, [[region]]))
    assert lengths == [round((seconds + add) * rate)]
    assert torch.equal(out[..., :samples], source)
    assert float(out.diff().abs().max()) <= float(source.diff().abs().max()) + 1e-3
    after = samples + round(1.1 * rate)
    if rate == RATE:
        assert torch.equal(out[..., after:], made[..., after : out.shape[-1]])


def test_the_jump_is_added_and_faded_to_zero():
    source, made = torch.full((1, 1, 1000), 0.5), torch.zeros(1, 2, 2000)
    region = Region(1000 / RATE, 2000 / RATE)
    out, lengths = paste_back(made, Source(source, RATE, [[region]]), 441 / RATE)
    assert lengths == [2000]
    tail = out[0, 0, 1000:]
    assert tail[0] == 0.5
    assert bool((tail[:441].diff() < 0).all())
    assert not tail[441:].any()


@pytest.mark.parametrize("rate", [44100, 48000])
def test_before_the_start_the_source_lies_behind_the_lead(rate):
    samples = rate
    source, add = tone(330.0, samples, rate), 0.29
    made = tone(217.0, int((1 + add) * RATE))
    out, lengths = paste_back(made, Source(source, rate, [[Region(-add, 0.0)]]))
    lead = int(add * rate)
    assert lengths == [lead + samples]
    assert torch.equal(out[..., lead:], source)
    assert float(out.diff().abs().max()) <= float(source.diff().abs().max()) + 1e-3


def test_a_region_that_runs_past_the_end_lengthens_and_still_crossfades():
    source = tone(330.0, RATE)
    made = tone(217.0, round(1.5 * RATE))
    out, lengths = paste_back(made, Source(source, RATE, [[Region(0.8, 1.5)]]))
    assert lengths == [round(1.5 * RATE)]
    first = round(0.8 * RATE)
    assert torch.equal(out[..., :first], source[..., :first])
    in_phase = 2**0.5  # what an equal-power crossfade can add up to
    assert float(out.diff().abs().max()) <= float(source.diff().abs().max()) * in_phase
    late = Region(1 - 10 / RATE, 1.5)  # ten samples of source are too few to fade from
    out, _ = paste_back(made, Source(source, RATE, [[late]]))
    assert torch.equal(out[..., : RATE - 10], source[..., : RATE - 10])
    assert float(out.diff().abs().max()) <= float(source.diff().abs().max()) + 1e-3


@pytest.mark.parametrize("width", [1, 2, 5, 441, 1000, 1763])
def test_regions_narrower_than_two_crossfades_shorten_them(width):
    source, made = torch.ones(1, 1, RATE), torch.zeros(1, 2, RATE)
    start = 20000
    region = Region(start / RATE, (start + width) / RATE)
    layout = plan_layout([region], RATE, RATE, RATE)
    (first, last), *rest = layout.spans
    assert not rest
    assert start <= first < last <= start + width
    out, _ = paste_back(made, Source(source, RATE, [[region]]))
    assert torch.equal(out[..., :first], source[..., :first])
    assert torch.equal(out[..., last:], source[..., last:])
    part = out[0, 0, first:last]
    assert torch.allclose(part, part.flip(0), atol=1e-6)
    assert float(part.min()) < 0.8


def test_without_a_crossfade_the_cut_is_hard():
    source, made = torch.ones(1, 1, RATE), torch.zeros(1, 2, RATE)
    out, _ = paste_back(made, Source(source, RATE, [[Region(0.25, 0.5)]]), 0.0)
    assert not out[..., round(0.25 * RATE) : round(0.5 * RATE)].any()


@pytest.mark.parametrize(("factor", "gain"), [(0.7, 1 / 0.7), (0.1, 10 ** (6 / 20)), (1.0, 1.0)])
def test_the_made_side_starts_at_the_level_of_the_source(factor, gain):
    """The model drew everything, kept audio included, `factor` times too loud."""
    rate = RATE
    source = noise(3 * rate)
    made = factor * source.clone()
    new = slice(round(1.0 * rate), round(2.5 * rate))
    made[..., new] = factor * noise(3 * rate, seed=4)[..., new]
    out, _ = paste_back(made, Source(source, rate, [[Region(1.0, 2.5)]]))
    near = slice(round(1.02 * rate), round(1.04 * rate))
    ratio = out[..., near].norm() / made[..., near].norm()
    assert float(ratio) == pytest.approx(gain, rel=0.02)
    middle = round(1.75 * rate)
    torch.testing.assert_close(out[..., middle], made[..., middle], rtol=1e-3, atol=1e-4)


def test_what_is_alike_does_not_swell_in_a_crossfade():
    """Sine and cosine alone would add 3 dB where both sides hold the same; opposite signs and
    what is half alike are of equal power as well."""
    source = noise(RATE)
    for made, power in (
        (source.clone(), 1.0),
        (0.6 * source + 0.8 * noise(RATE, seed=5), 1.0),
    ):
        region = Region(0.4, 0.6)
        out, _ = paste_back(made, Source(source, RATE, [[region]]), 0.05)
        fade = slice(round(0.4 * RATE), round(0.45 * RATE))
        found = out[..., fade].square().mean() / source[..., fade].square().mean()
        assert float(found) == pytest.approx(power, rel=0.03)
    same, _ = paste_back(source.clone(), Source(source, RATE, [[Region(0.4, 0.6)]]), 0.05)
    assert float(same.abs().max()) <= float(source.abs().max()) * 1.0001


@pytest.mark.parametrize(("loud", "highest"), [(0.75, 1.0), (1.25, 1.25)])
def test_the_level_of_the_source_lifts_nothing_over_full_scale(loud, highest):
    """The kept audio was drawn 6 dB too quiet, but a hit in the new part has its full level."""
    source = 0.25 * noise(3 * RATE)
    made = 0.5 * source.clone()
    at = round(1.1 * RATE)
    made[..., at : at + 50] = loud
    out, _ = paste_back(made, Source(source, RATE, [[Region(1.0, 2.5)]]))
    assert loud <= float(out[..., at : at + 50].max()) <= highest
    assert float(out.abs().max()) <= highest
    if loud < 1:
        assert float(out[..., at : at + 50].max()) > 0.99


def test_silence_beside_a_seam_changes_no_level():
    source = torch.zeros(1, 2, RATE)
    made = made_for(source, RATE)
    out, _ = paste_back(made, Source(source, RATE, [[Region(0.4, 1.0)]]))
    assert torch.equal(out[..., round(0.5 * RATE) :], made[..., round(0.5 * RATE) :])


def test_music_that_differs_is_not_levelled():
    """A made passage that is quieter by itself stays so: only kept audio is compared."""
    source = noise(2 * RATE)
    made = source.clone()
    new = slice(RATE, round(1.5 * RATE))
    made[..., new] *= 0.1
    out, _ = paste_back(made, Source(source, RATE, [[Region(1.0, 1.5)]]))
    inner = slice(round(1.03 * RATE), round(1.47 * RATE))
    torch.testing.assert_close(out[..., inner], made[..., inner], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rate", [44100, 48000])
def test_batch_items_equal_single_runs_and_keep_their_own_length(rate):
    samples = 2 * rate
    source = torch.cat([noise(samples, seed=s) for s in (1, 2)])
    made = torch.cat([made_for(source, rate, 2.5, s) for s in (3, 4)])
    regions = [[Region(0.5, 1.0)], [Region(2.0, 2.5), Region(0.1, 0.3)]]
    own = [2 * RATE, int(2.5 * RATE)]
    out, lengths = paste_back(made, Source(source, rate, regions), lengths=own)
    assert lengths == [samples, round(2.5 * rate)]
    for item in range(2):
        at = slice(item, item + 1)
        alone, (length,) = paste_back(
            made[at, :, : own[item]], Source(source[at], rate, [regions[item]])
        )
        assert length == lengths[item]
        assert torch.equal(out[at, :, :length], alone)
        assert not out[at, :, length:].any()


def test_one_source_serves_a_whole_batch():
    source, made = noise(RATE), noise(2 * RATE).reshape(2, 2, RATE)
    out, _ = paste_back(made, Source(source, RATE, [[Region(0.5, 0.7)]]))
    kept = kept_mask(RATE, RATE, [Region(0.5, 0.7)])
    for item in out:
        assert torch.equal(item[:, kept], source[0][:, kept])
    assert not torch.equal(out[0], out[1])


def test_a_result_shorter_than_the_source_is_cut_with_it():
    source = noise(2 * RATE)
    made = made_for(source, RATE, 1.5)
    out, lengths = paste_back(made, Source(source, RATE, [[Region(0.5, 1.0)]]))
    assert lengths == [round(1.5 * RATE)]
    assert torch.equal(out[..., RATE:], source[..., RATE : round(1.5 * RATE)])


def test_a_kept_tail_without_source_is_silent():
    source = noise(RATE)
    out, lengths = paste_back(
        made_for(source, RATE, 1.5), Source(source, RATE, [[Region(0.2, 0.4)]])
    )
    assert lengths == [round(1.5 * RATE)]
    assert not out[..., RATE:].any()


def test_no_regions_give_the_source_back_in_its_own_format():
    source = noise(48000, 1).double()
    out, _ = paste_back(noise(RATE), Source(source, 48000, [[]]))
    assert out.dtype == torch.float64
    assert torch.equal(out, source)


def test_the_made_side_is_resampled_like_any_audio():
    source = torch.zeros(1, 2, 48000)
    made = tone(440.0, RATE)
    out, _ = paste_back(made, Source(source, 48000, [[Region(0.0, 1.0)]]))
    inner = slice(100, -100)
    torch.testing.assert_close(out[..., inner], resample(made, RATE, 48000)[..., inner])
    assert float((out - tone(440.0, 48000, 48000)).abs().max()) <= 0.01, "no ringing at the ends"


@pytest.mark.parametrize("crossfade", [-0.1, math.nan, math.inf])
def test_bad_crossfades_are_named(crossfade):
    with pytest.raises(InputError, match="crossfade is"):
        paste_back(noise(RATE), Source(noise(RATE), RATE, [[]]), crossfade)


def test_bad_counts_and_sources_are_named():
    made = noise(4 * RATE).reshape(2, 2, 2 * RATE)
    with pytest.raises(InputError, match="3 source items for 2 items"):
        paste_back(made, Source(noise(300).expand(3, -1, -1), RATE, [[]]))
    with pytest.raises(InputError, match="3 region lists for 2 items"):
        paste_back(made, Source(noise(300), RATE, [[], [], []]))
    with pytest.raises(AudioError, match="3 channels"):
        paste_back(made, Source(noise(300, 3), RATE, [[]]))
    with pytest.raises(AudioError, match="0 samples"):
        paste_back(made, Source(torch.zeros(1, 2, 0), RATE, [[]]))
