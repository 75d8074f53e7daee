"""Measures of sounds whose truth is known because they were made for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sa3_core.errors import AudioError, InputError
from sa3_core.measures import level, rhythm, tonal
from sa3_core.measures.clip import ClipMeasures, Request, bpm_of, measure_clip
from sa3_core.measures.durations import DurationClasses
from sa3_core.measures.summary import clips_by_class, picture, summarise, table

RATE = 44100
T = torch.arange(6 * RATE) / RATE


def clicks(bpm: float, seconds: float = 6.0, rate: int = RATE, first: float = 0.1) -> torch.Tensor:
    """[1, N]: decaying noise at every beat, the same each time."""
    audio = torch.zeros(round(seconds * rate))
    hit = torch.randn(rate // 20, generator=torch.Generator().manual_seed(0))
    hit *= torch.exp(-torch.arange(len(hit)) / (rate / 100))
    at = first
    while round(at * rate) < len(audio):
        part = audio[round(at * rate) :][: len(hit)]
        part += hit[: len(part)]
        at += 60 / bpm
    return audio[None]


def chord(*hertz: float, tune: float = 0.0) -> torch.Tensor:
    """[1, N]: tones of three harmonics, all moved by `tune` cents."""
    tones = torch.tensor([h * 2 ** (tune / 1200) for h in hertz])
    waves = sum(torch.sin(2 * math.pi * n * tones[:, None] * T) / n**2 for n in (1, 2, 3))
    return waves.sum(0, keepdim=True) * 0.1


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
@pytest.mark.parametrize("bpm", [60, 77.5, 95, 120, 128, 140, 174])
def test_tempo_is_within_half_a_percent(bpm, rate):
    found = rhythm.tempo(clicks(bpm, rate=rate), rate)
    assert found is not None
    assert found.bpm == pytest.approx(bpm, rel=0.005)
    assert found.regularity > 0.8
    assert rhythm.tempo_error(found, bpm * 2) == pytest.approx(-0.5, abs=0.003)


def test_weak_offbeats_do_not_double_the_tempo():
    audio = clicks(100) + 0.03 * clicks(100, first=0.4)
    assert rhythm.tempo(audio, RATE).bpm == pytest.approx(100, rel=0.005)


@pytest.mark.parametrize(
    "audio",
    [
        torch.zeros(1, RATE),
        chord(440.0),
        torch.randn(1, 4 * RATE, generator=torch.Generator().manual_seed(1)),
        clicks(60, seconds=1.5),
        torch.zeros(2, 10),
    ],
    ids=["silence", "tone", "noise", "two beats", "a moment"],
)
def test_without_a_pulse_there_is_no_tempo(audio):
    assert rhythm.tempo(audio, RATE) is None
    assert rhythm.tempo_error(None, 120) is None


def test_a_tempo_of_nothing_is_refused():
    with pytest.raises(InputError, match="bpm"):
        rhythm.tempo_error(None, 0)


def test_onsets_are_where_things_begin():
    found = rhythm.onsets(clicks(120, first=0.25), RATE)
    expected = np.arange(0.25, 6, 0.5)
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() < 0.02
    assert len(rhythm.onsets(torch.zeros(1, RATE), RATE)) == 0


def test_a_cut_is_a_jump_and_a_crossfade_is_none():
    audio = clicks(120) * 0.3 + chord(220.0, 330.0)
    cut = audio.clone()
    cut[:, round(2.9 * RATE) :] = (
        clicks(120)[:, round(2.9 * RATE) :] * 0.3 + chord(977.0)[:, round(2.9 * RATE) :]
    )
    assert rhythm.seam_jump(audio, RATE, 2.9) < 0.05
    assert rhythm.seam_jump(cut, RATE, 2.9) > 0.4
    assert rhythm.seam_jump(chord(220.0) * 0, RATE, 2.9) is None


def test_a_loop_that_closes_does_not_jump():
    closed = clicks(120, seconds=4.0) + 0.2 * torch.sin(2 * math.pi * 220 * T[: 4 * RATE])
    open_end = closed.clone()
    open_end[:, -RATE // 2 :] *= 0
    open_end[:, : RATE // 20] += 0.5
    assert rhythm.loop_jump(closed, RATE) < 0.3
    assert rhythm.loop_jump(open_end, RATE) > 0.5


@pytest.mark.parametrize("tune", [-40.0, 0.0, 25.0])
def test_chroma_follows_the_tuning(tune):
    folded, tuning = tonal.chroma(chord(261.63, 329.63, 392.0, tune=tune), RATE)
    assert tuning == pytest.approx(tune, abs=6)
    assert set(np.argsort(folded)[-3:]) == {0, 4, 7}
    assert folded.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "tones"),
    [
        ("C major", (261.63, 329.63, 392.0, 523.25)),
        ("A minor", (220.0, 261.63, 329.63, 440.0)),
        ("F# major", (185.0, 233.08, 277.18, 369.99)),
    ],
)
def test_keys_of_chords(name, tones):
    found = tonal.key(chord(*tones), RATE)
    assert found.name == name
    assert found.fit > 0.6
    assert tonal.key(torch.zeros(1, RATE), RATE) is None


def test_bandwidth_is_where_the_energy_ends():
    assert tonal.bandwidth(torch.sin(2 * math.pi * 3000 * T)[None], RATE) == pytest.approx(
        3000, abs=15
    )
    assert tonal.bandwidth(torch.zeros(2, RATE), RATE) == 0
    assert tonal.bandwidth(torch.ones(1, 5), RATE) < RATE / 2


def test_sound_begins_and_ends():
    audio = torch.zeros(2, 3 * RATE)
    audio[1, RATE // 2 : 2 * RATE] = 0.5
    audio[0, 2 * RATE :] = 0.5 * 10 ** (-70 / 20)  # 70 dB below: silence beside it
    assert level.sounding(audio, RATE) == pytest.approx((0.5, 2.0), abs=0.011)
    assert level.sounding(audio * 0, RATE) == (0.0, 0.0)


def test_stereo_image():
    left, right = torch.sin(2 * math.pi * 100 * T), torch.sin(2 * math.pi * 251 * T)
    wide = torch.stack([left, right])
    assert level.correlation(wide) == pytest.approx(0, abs=1e-3)
    assert level.mono_loss(wide) == pytest.approx(3.01, abs=0.02)
    assert level.correlation(torch.stack([left, -left])) == pytest.approx(-1)
    assert level.mono_loss(torch.stack([left, -left])) == math.inf
    assert level.mono_loss(left[None]) == pytest.approx(0, abs=1e-9)
    assert level.level_difference(torch.stack([left, left / 2])) == pytest.approx(6.02, abs=0.01)
    silent = torch.stack([left, left * 0])
    assert level.correlation(silent) is None
    assert level.level_difference(silent) is None
    assert level.mono_loss(wide * 0) is None


def test_faults_are_counted():
    audio = torch.zeros(2, RATE) + 0.01
    audio[0, :7] = 1.0
    audio[1, 100] = -1.2
    audio[1] -= 0.03
    found = measure_clip(audio, RATE)
    assert found.clipped == 8
    assert found.dc_offset == pytest.approx(-0.02, abs=1e-4)
    audio[0, 50] = math.nan
    broken = measure_clip(audio, RATE)
    assert broken.not_finite == 1
    assert broken.lufs is None


def test_a_clip_against_its_request():
    audio = clicks(118).expand(2, -1) * 0.5
    found = measure_clip(audio, RATE, Request(seconds=5.5, bpm=120, seams=(1.03,), loop=True))
    assert found.duration_error == pytest.approx(0.5)
    assert found.tempo_error == pytest.approx(118 / 120 - 1, abs=0.005)
    assert found.correlation == pytest.approx(1)
    assert found.seam_jump is not None
    assert found.loop_jump is not None
    assert found.trailing_silence == pytest.approx(found.seconds - found.sound_end)


def test_silence_is_measured_without_numbers_that_json_lacks():
    values = measure_clip(torch.zeros(2, RATE), RATE).as_dict()
    assert values["lufs"] is None
    assert values["trailing_silence"] == 1.0
    assert values["bpm"] is None
    with pytest.raises(AudioError, match=r"no sound to measure: its shape is \[2, 0\]"):
        measure_clip(torch.zeros(2, 0), RATE)


@pytest.mark.parametrize(
    ("prompt", "bpm"),
    [
        ("drum loop, 120 BPM", 120.0),
        ("128bpm techno", 128.0),
        ("Genre: House. 92.5 bpm, dry", 92.5),
        ("a song of 1999", None),
        ("4120 BPM", None),
    ],
)
def test_the_tempo_of_a_prompt(prompt, bpm):
    assert bpm_of(prompt) == bpm


def test_many_clips_in_a_table_and_a_picture():
    clips = [measure_clip(clicks(bpm).expand(2, -1), RATE, Request(6.0)) for bpm in (90, 120)]
    rows = {row.name: row for row in summarise(clips)}
    assert rows["bpm"].mean == pytest.approx(105, rel=0.005)
    assert rows["duration_error"].count == 2
    assert "seam_jump" not in rows
    assert "| bpm | 2 | 105" in table(clips)
    drawn = np.asarray(picture(clips))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 3
    assert picture([]).width > 0


def of(seconds: float, lufs: float, asked: float | None = None) -> ClipMeasures:
    error = None if asked is None else seconds - asked
    return ClipMeasures(seconds, RATE, 2, error, lufs=lufs)


def test_a_column_per_class_of_durations():
    """By what was asked for, else by the file's length; a class that has no clip has no column."""
    clips = [
        *(of(10, -20), of(29.999, -10, asked=10)),  # far too long, but short was asked for
        *(of(30, -18), of(7, -14, asked=119.9)),
        *(of(120, -11), of(120, -12, asked=120.0)),
    ]
    rows_of = ("short", "medium", "long")
    found = clips_by_class(clips)
    assert {name: len(some) for name, some in found.items()} == dict.fromkeys(rows_of, 2)
    rows = {row.name: row for row in summarise(clips)}
    assert rows["lufs"].mean == pytest.approx(-85 / 6)
    assert rows["lufs"].by_class == {"short": -15.0, "medium": -16.0, "long": -11.5}
    assert rows["duration_error"].by_class == pytest.approx(
        {"short": 19.999, "medium": -112.9, "long": 0.0}
    )
    lines = table(clips).splitlines()
    assert lines[2].endswith("| 95 % | short (2) | medium (2) | long (2) |")
    assert next(line for line in lines if "lufs" in line).endswith("| -15 | -16 | -11.5 |")
    assert "| short" not in table(clips[:2])
    assert "| short (2) | long (2) |" in table([*clips[:2], *clips[4:]])
    few = [*clips[:2], of(200, float("nan"))]
    assert next(line for line in table(few).splitlines() if "lufs" in line).endswith("| -15 |  |")


def test_where_classes_begin_can_be_said():
    classes = DurationClasses(10, 20)
    spread = (9.9, 9.9996, 10.0, 19.99, 20.0, 20 - 1 / 44100)
    expected = ["short", "medium", "medium", "medium", "long", "long"]
    assert [classes.of(seconds) for seconds in spread] == expected
    clips = [of(5, -20), of(12, -10)]
    assert "| short (2)" not in table(clips)  # both below 30 s: one class
    assert "| short (1) | medium (1) |" in table(clips, classes)
    with pytest.raises(InputError, match="20 and 10 s are no bounds"):
        DurationClasses(20, 10)
