"""The papers' distances against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg, special, stats

from sa3_core.errors import InputError
from sa3_core.measures.distances import (
    KL_EPSILON,
    FrameSums,
    Statistics,
    cosine_score,
    frechet_distance,
    kl_divergence,
    read_statistics,
    softmax,
    statistics,
)

RNG = np.random.default_rng(0)


def random_statistics(size: int, seed: int) -> Statistics:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    return Statistics(rng.normal(size=size), root @ root.T + np.eye(size))


def test_gaussians_in_one_dimension():
    """(difference of means)^2 + (difference of deviations)^2."""
    first = Statistics(np.array([1.0]), np.array([[4.0]]))
    second = Statistics(np.array([4.0]), np.array([[25.0]]))
    assert frechet_distance(first, second) == pytest.approx(9 + 9, abs=1e-9)


def test_gaussians_whose_covariances_commute():
    first = Statistics(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    second = Statistics(np.ones(3), np.diag([16.0, 25.0, 36.0]))
    assert frechet_distance(first, second) == pytest.approx(3 + 3 * 9, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_any_gaussians_against_the_symmetric_form(seed):
    """tr((S1^1/2 S2 S1^1/2)^1/2) by eigenvalues of a symmetric matrix."""
    first, second = random_statistics(12, seed), random_statistics(12, 100 + seed)
    values, vectors = linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(values)) @ vectors.T
    together = np.sqrt(linalg.eigvalsh(root @ second.covariance @ root)).sum()
    apart = np.square(first.mean - second.mean).sum()
    expected = apart + np.trace(first.covariance) + np.trace(second.covariance) - 2 * together
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_fewer_frames_than_numbers_still_have_a_distance():
    frames = RNG.normal(size=(5, 20))
    same = frechet_distance(statistics(frames), statistics(frames))
    far = frechet_distance(statistics(frames), statistics(frames + 3))
    assert same == pytest.approx(0, abs=1e-3)
    assert far == pytest.approx(20 * 9, rel=1e-3)


def test_statistics_are_numpys():
    frames = RNG.normal(size=(50, 4)).astype(np.float32)
    found = statistics(frames)
    np.testing.assert_allclose(found.mean, frames.astype(float).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(frames.T.astype(float)), rtol=1e-9)
    with pytest.raises(InputError, match="two frames or more; there are 1"):
        statistics(frames[:1])


def test_frames_that_come_in_pieces_give_the_statistics_of_all():
    frames = RNG.normal(size=(101, 6)) * 3 + 50
    sums = FrameSums()
    for piece in np.split(frames, [1, 2, 40, 40]):
        if len(piece):
            sums.add(piece)
    found = sums.statistics()
    assert sums.count == 101
    np.testing.assert_allclose(found.mean, frames.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(frames, rowvar=False), rtol=1e-9)
    with pytest.raises(InputError, match="Frames of 5 numbers after 6"):
        sums.add(frames[:, :5])


def test_covariances_without_rank_have_scipys_distance():
    """Nine frames of twelve numbers: both matrices are singular."""
    first, second = RNG.normal(size=(9, 12)), RNG.normal(size=(9, 12)) + 1
    found = frechet_distance(statistics(first), statistics(second))
    roots = [
        linalg.svd((rows - rows.mean(0)) / 8**0.5, full_matrices=False) for rows in (first, second)
    ]
    (_, ours, left), (_, theirs, right) = roots
    # tr((AB)^1/2) is the sum of the singular values of A^1/2 B^1/2
    together = linalg.svdvals((left.T * ours) @ left @ (right.T * theirs) @ right).sum()
    apart = np.square(first.mean(0) - second.mean(0)).sum()
    expected = apart + np.square(ours).sum() + np.square(theirs).sum() - 2 * together
    assert found == pytest.approx(expected, rel=1e-4)


def test_what_is_no_covariance_is_refused():
    known, odd = Statistics(np.zeros(2), np.eye(2)), Statistics(np.zeros(2), -np.eye(2))
    with pytest.raises(InputError, match="no covariance matrix"):
        frechet_distance(known, odd)


def test_published_statistics_are_read(tmp_path):
    known = random_statistics(3, 5)
    np.savez(tmp_path / "ref.npz", mu_ref=known.mean, sigma_ref=known.covariance)
    np.savez(tmp_path / "other.npz", a=known.mean)
    found = read_statistics(tmp_path / "ref.npz")
    assert frechet_distance(known, found) == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match=r"other.npz holds a; statistics hold mu_ref"):
        read_statistics(tmp_path / "other.npz")
    with pytest.raises(InputError, match=r"nothing.npz cannot be read"):
        read_statistics(tmp_path / "nothing.npz")
    np.savez(tmp_path / "odd.npz", mu_ref=known.mean, sigma_ref=known.covariance[:2])
    with pytest.raises(InputError, match=r"a covariance \[D, D\]; these are \[3\] and \[2, 3\]"):
        read_statistics(tmp_path / "odd.npz")


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "bad.npz", mu_ref=np.array([object()]), sigma_ref=np.zeros((1, 1)))
    with pytest.raises(InputError, match="cannot be read as statistics"):
        read_statistics(tmp_path / "bad.npz")


def test_embeddings_of_two_extractors_are_told_apart():
    with pytest.raises(InputError, match="have 3 and 4 numbers"):
        frechet_distance(random_statistics(3, 0), random_statistics(4, 0))


def test_kl_of_known_probabilities():
    reference = np.array([[0.5, 0.5], [0.25, 0.75]])
    generated = np.array([[0.5, 0.5], [1.0, 0.0]])
    expected = (np.log(0.5 / (0.5 + KL_EPSILON)) + np.log(1 / (0.25 + KL_EPSILON))) / 2
    assert kl_divergence(reference, generated) == pytest.approx(expected, abs=1e-12)


def test_kl_against_scipy():
    logits = RNG.normal(size=(2, 7, 527))
    reference, generated = softmax(logits[0]), softmax(logits[1])
    np.testing.assert_allclose(reference, special.softmax(logits[0], axis=-1), rtol=1e-12)
    expected = special.rel_entr(generated, reference + KL_EPSILON).sum(-1).mean()
    assert kl_divergence(reference, generated) == pytest.approx(expected, rel=1e-9)
    for row in range(7):  # entropy of scipy is the same but for the epsilon
        one = kl_divergence(reference[row], generated[row])
        assert one == pytest.approx(stats.entropy(generated[row], reference[row]), abs=5e-3)
    with pytest.raises(InputError, match="one of each for every clip"):
        kl_divergence(reference[:3], generated)


def test_cosines():
    texts = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert cosine_score(texts, texts * 5) == pytest.approx(1, abs=1e-12)
    assert cosine_score(texts, texts[::-1]) == 0
    assert cosine_score(texts, np.array([[-1.0, 0], [3, 3]])) == pytest.approx((-1 + 0.5**0.5) / 2)
    with pytest.raises(InputError, match="one text for every sound"):
        cosine_score(texts[:1], texts)
