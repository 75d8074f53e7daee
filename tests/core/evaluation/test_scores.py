"""The scores against the papers' definition, written out with scipy and a tiny random embedder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg, special

from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.errors import InputError
from sa3_core.evaluation.scores import (
    Clip,
    Heard,
    Listener,
    check_pairs,
    clap_score,
    class_probabilities,
    fd_score,
    frame_statistics,
    kl_score,
)
from sa3_core.measures.distances import Statistics
from tests.core.evaluation.conftest import RATE, write_clips

PEAK = 10 ** (-1 / 20)


def clips_of(paths, prompts=()) -> list[Clip]:
    named = dict(zip((path.stem for path in paths), prompts, strict=False))
    return [Clip(path.stem, path, named.get(path.stem)) for path in paths]


def loaded(path) -> np.ndarray:
    audio = read_audio(path)[0].numpy()
    return audio * np.float32(PEAK / float(np.abs(audio).max()))


def test_frechet_distance_is_scipys(tiny, tmp_path):
    sides = [write_clips(tmp_path / name, 6, seed) for seed, name in enumerate("rg")]
    gaussians = []
    for paths in sides:
        rows = [np.hstack([tiny.embed(side) for side in loaded(path)]) for path in paths]
        frames = np.concatenate(rows)
        assert frames.shape == (60, 10)
        gaussians.append((frames.mean(0), np.cov(frames, rowvar=False)))
    (mu, sigma), (nu, tau) = gaussians
    root = linalg.sqrtm(sigma @ tau)
    expected = (mu - nu) @ (mu - nu) + np.trace(sigma + tau - 2 * root.real)
    heard = [frame_statistics(clips_of(paths), tiny, Listener()) for paths in sides]
    score = fd_score(heard[0].statistics, heard[1])
    assert score.value == pytest.approx(expected, rel=1e-9)
    assert (score.metric, score.clips, score.note) == ("fd-openl3", 6, "")
    assert heard[1].frames == 60


def test_a_mono_clip_is_both_sides(tiny, tmp_path):
    paths = write_clips(tmp_path, 3)
    for path in paths:
        write_audio(path, read_audio(path)[0][:1], RATE, FORMATS["wav-32f"])
    found = frame_statistics(clips_of(paths), tiny, Listener()).statistics
    np.testing.assert_allclose(found.mean[:5], found.mean[5:], rtol=1e-12)


def test_a_gaussian_against_another_of_known_distance():
    """Unequal means and variances along each axis: the sum of both differences squared."""
    known = Statistics(np.array([0.0, 1.0]), np.diag([1.0, 9.0]))
    other = Statistics(np.array([3.0, 5.0]), np.diag([4.0, 25.0]))
    score = fd_score(known, Heard(other, 2, 300))
    assert score.value == pytest.approx(9 + 16 + 1 + 4, abs=1e-9)


def test_too_few_frames_for_a_covariance_are_said():
    known = Statistics(np.zeros(3), np.eye(3))
    assert "3 frames for a covariance of 3 numbers" in fd_score(known, Heard(known, 2, 3)).note
    assert fd_score(known, Heard(known, 2, 4)).note == ""


@pytest.mark.parametrize("seconds", [4.0, 12.0, 23.0])
def test_probabilities_are_of_mean_logits(tiny, tmp_path, seconds):
    class Logits:
        sample_rate = RATE
        heard: list[int]

        def embed(self, audio):
            self.heard.append(len(audio))
            return tiny.embed(audio).mean(0, keepdims=True) * 3

    paths = write_clips(tmp_path, 2, seconds=seconds)
    extractor = Logits()
    extractor.heard = []
    found = class_probabilities(clips_of(paths), extractor, Listener())
    sound = read_audio(paths[0])[0].numpy().mean(0)
    sound = sound * (PEAK / np.abs(sound).max())
    rows = []
    for start in range(0, max(5 * RATE, len(sound) - 5 * RATE), 5 * RATE):
        window = np.zeros(10 * RATE)
        part = sound[start : start + 10 * RATE]
        window[: len(part)] = part
        rows.append(tiny.embed(window).mean(0) * 3)
    np.testing.assert_allclose(found["0"], special.softmax(np.mean(rows, 0)), rtol=1e-6)
    assert extractor.heard == [10 * RATE] * len(rows) * 2


def test_kl_is_a_mean_over_common_clips():
    rng = np.random.default_rng(1)
    reference = {name: special.softmax(rng.normal(size=527)) for name in "abc"}
    generated = {name: special.softmax(rng.normal(size=527)) for name in "bcd"}
    tool = [  # as torch has it in the papers' tool
        torch.nn.functional.kl_div(
            (torch.from_numpy(reference[name]) + 1e-6).log(),
            torch.from_numpy(generated[name]),
            reduction="sum",
        )
        for name in "bc"
    ]
    score = kl_score(reference, generated)
    assert score.value == pytest.approx(float(sum(tool)) / 2, rel=1e-9)
    assert score.clips == 2
    with pytest.raises(InputError, match="kl-passt needs 2 clips or more; 1 can be used"):
        kl_score({"b": reference["b"]}, generated)


def test_clap_is_the_mean_cosine(tiny, tmp_path):
    paths = write_clips(tmp_path, 4, seconds=0.1)
    prompts = ["a drum", "rain on a roof", "bass", "a violin, slow"]
    cosines = []
    for path, prompt in zip(paths, prompts, strict=True):
        sound = read_audio(path)[0].numpy().mean(0)
        sound = np.clip(sound * np.float32(PEAK / np.abs(sound).max()), -1, 1)
        sound = ((sound * 32767.0).astype(np.int16) / 32767.0).astype(np.float32)
        one, other = tiny.embed(sound)[0], tiny.embed_texts([prompt])[0]
        cosines.append(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    score = clap_score(clips_of(paths, prompts), tiny, Listener())
    assert score.value == pytest.approx(np.mean(cosines), rel=1e-9)


def test_what_cannot_be_read_is_left_out_and_remembered(tiny, tmp_path):
    paths = write_clips(tmp_path, 4)
    whole = frame_statistics(clips_of(paths[:3]), tiny, Listener())
    paths[3].write_bytes(b"RIFF no sound")
    listener = Listener()
    found = frame_statistics(clips_of(paths), tiny, listener)
    assert found.clips == 3
    np.testing.assert_array_equal(found.statistics.mean, whole.statistics.mean)
    assert list(listener.unread) == [paths[3]]
    with pytest.raises(InputError, match="fd-openl3 needs 2 clips or more; 1 can be used"):
        frame_statistics(clips_of([paths[0], paths[3]]), tiny, Listener())


def test_clips_without_a_counterpart_are_refused():
    check_pairs(["a", "b", "c"], ["b", "a"], "prompt")
    with pytest.raises(InputError, match=r"2 of 3 generated clips have no prompt .* id: x, y\."):
        check_pairs(["a"], ["y", "a", "x"], "prompt")
