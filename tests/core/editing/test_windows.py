"""Windows for pieces longer than the model's maximum."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
import torch

from sa3_core.editing.paste import Source, paste_back
from sa3_core.editing.windows import cut_piece, plan_windows
from sa3_core.errors import InputError


def tone(freq, samples, rate):
    t = torch.arange(samples, dtype=torch.float64) / rate
    return (0.3 * torch.sin(2 * math.pi * freq * t)).float().expand(1, 2, -1)


def settings(rng):
    longest = rng.choice([120.0, 380.0, 3.7])
    context = longest * rng.uniform(0.05, 0.9)
    return {
        "source": rng.uniform(0.2, 500),
        "add": rng.uniform(0.1, 1500),
        "longest": longest,
        "context": context,
        "overlap": rng.choice([0.0, context * rng.uniform(0, 0.9)]),
    }


def test_windows_cover_what_is_added_and_fit_the_model():
    rng = random.Random(5)
    for _ in range(500):
        given = settings(rng)
        windows = plan_windows(**given)
        source, add = given["source"], given["add"]
        overlap = min(given["overlap"], add / len(windows) / 2)
        assert windows[0].make.start == source, "the source itself is never made again"
        assert windows[-1].make.end == source + add
        for window in windows:
            assert window.span.end - window.span.start <= given["longest"] + 1e-9
            assert window.span == (window.keep.start, window.make.end)
            assert 0 <= window.keep.start < window.keep.end == window.make.start < window.make.end
        for a, b in pairwise(windows):
            assert b.make.start == pytest.approx(a.make.end - overlap)
            assert b.span.start >= 0
        lengths = [w.span.end - max(w.make.start, source) for w in windows]
        assert len(windows) == max(
            1, math.ceil(given["add"] / (given["longest"] - given["context"]) - 1e-9)
        )
        assert max(lengths) - min(lengths) <= overlap + 1e-6


def test_each_window_sees_as_much_context_as_asked_for():
    windows = plan_windows(200.0, 300.0, 120.0, 30.0, overlap=2.0)
    assert len(windows) == 4
    for window in windows:
        assert window.span.end - window.span.start == pytest.approx(105)
    assert [w.make.start for w in windows] == [200, 273, 348, 423]
    assert windows[0].keep == (170, 200)
    assert windows[1].keep == (245, 273)


def test_a_short_source_is_shown_whole():
    first = plan_windows(5.0, 100.0, 120.0, 20.0)[0]
    assert first.keep == (0, 5)


def test_before_the_start_is_the_mirror_image():
    rng = random.Random(6)
    for _ in range(100):
        given = settings(rng)
        after, before = plan_windows(**given), plan_windows(**given, before=True)
        source = given["source"]
        assert len(after) == len(before)
        for a, b in zip(after, before, strict=True):
            assert b.make == (source - a.make.end, source - a.make.start)
            assert b.span == (b.make.start, b.keep.end)
        assert before[0].make.end == 0
        assert before[-1].make.start == pytest.approx(-given["add"])


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(("rate", "overlap"), [(44100, 0.1), (48000, 0.1), (44100, 0.0)])
def test_windows_join_to_one_piece_around_the_untouched_source(before, rate, overlap):
    """Every window makes another tone; nothing of the source changes and no seam clicks."""
    source = tone(300.0, rate + 77, rate)
    seconds, add = source.shape[-1] / rate, 3.1
    audio = source
    for i, window in enumerate(plan_windows(seconds, add, 2.0, 0.6, overlap, before)):
        piece = cut_piece(audio, source.shape[-1], rate, window)
        assert piece.seconds <= 2.0 + 2 / rate
        made = tone(200.0 + 17 * i, int(piece.seconds * 44100), 44100)
        pasted, _ = paste_back(made, Source(piece.context, rate, [[piece.region]]))
        longer = piece.joined(pasted)
        assert longer.shape[-1] > audio.shape[-1]
        audio = longer
    added = audio.shape[-1] - source.shape[-1]
    assert added == pytest.approx(add * rate, abs=4)
    kept = audio[..., added:] if before else audio[..., : source.shape[-1]]
    assert torch.equal(kept, source)
    steps = audio.diff().abs().max() / source.diff().abs().max()
    assert float(steps) <= 2**0.5, "an equal-power crossfade in phase adds up to that"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"add": 0.0}, "add_seconds is 0"),
        ({"add": math.nan}, "add_seconds is nan"),
        ({"source": 0.0}, "source is 0"),
        ({"context": 0.0}, "context_seconds is 0"),
        ({"context": 120.0}, "leaves nothing of the model's 120 s"),
        ({"overlap": 10.0}, "overlap_seconds is 10.0 s"),
        ({"overlap": math.nan}, "overlap_seconds is nan"),
    ],
)
def test_bad_settings_are_named(change, words):
    given = {"source": 60.0, "add": 100.0, "longest": 120.0, "context": 10.0, "overlap": 1.0}
    with pytest.raises(InputError, match=words):
        plan_windows(**{**given, **change})
