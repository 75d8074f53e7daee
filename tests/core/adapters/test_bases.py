"""Singular vectors: exactness, signs, and the cache beside the LoRA file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from sa3_core.adapters import bases as module
from sa3_core.adapters.bases import BasesCache, fingerprint, svd_bases
from tests.helpers import support

NAME = "model.transformer.layers.0.self_attn.to_qkv"


def matrix(out: int, width: int, spectrum: str = "random", dtype=torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(out, width, generator=generator)
    if spectrum == "random":
        return noise.to(dtype)
    u, s, vh = torch.linalg.svd(noise.double(), full_matrices=False)
    falling = torch.arange(1.0, len(s) + 1, dtype=torch.float64) ** -0.7
    if spectrum == "rank 3":
        falling[3:] = 0
    return ((u * falling) @ vh).to(dtype)


def exact(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    u, _, vh = torch.linalg.svd(weight.double().flatten(1), full_matrices=False)
    u, v = u[:, :rank], vh[:rank].T
    sign = u[u.abs().argmax(dim=0), torch.arange(rank)].sign()
    return u * sign, v * sign


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_close_to_the_references_vectors(variant, golden, rel_l2):
    """1e-4, because the reference's own float32 SVD varies by 4e-5 with the thread count."""
    with safe_open(support.tiny_checkpoint(variant) / "model.safetensors", "pt") as file:
        weight = file.get_tensor(f"model.{NAME}.weight")
    expected = golden(f"{variant}/lora_lora-xs")
    u, v = svd_bases(weight, 4)
    assert rel_l2(u, expected[f"svd.0.{NAME}.U"]) < 1e-4
    assert rel_l2(v, expected[f"svd.0.{NAME}.V"]) < 1e-4


@pytest.mark.parametrize("spectrum", ["random", "falling"])
@pytest.mark.parametrize("shape", [(640, 576), (576, 640)])
def test_large_weights_are_exact_to_float32(shape, spectrum, rel_l2):
    weight = matrix(*shape, spectrum)
    for ours, truth in zip(svd_bases(weight, 16), exact(weight, 16), strict=True):
        assert ours.dtype == torch.float32
        assert rel_l2(ours, truth) < 1e-7


def test_falling_spectra_end_early_and_flat_ones_do_not(monkeypatch):
    asked = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda m: asked.append(len(m)) or eigh(m))
    svd_bases(matrix(576, 1000, "falling"), 8)
    assert 576 not in asked
    svd_bases(matrix(576, 600), 8)
    assert 576 in asked


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (576, 600), (16, 8, 3)])
def test_orthonormal_and_with_the_peak_of_each_column_positive(shape):
    weight = matrix(shape[0], shape[1] * (shape[2] if len(shape) > 2 else 1)).view(shape)
    u, v = svd_bases(weight, 6)
    assert u.shape == (shape[0], 6)
    assert v.shape == (weight[0].numel(), 6)
    for side in (u, v):
        assert torch.allclose(side.T @ side, torch.eye(6), atol=1e-5)
    assert (u[u.abs().argmax(dim=0), torch.arange(6)] > 0).all()
    assert ((u.T @ weight.flatten(1) @ v).diagonal() > 0).all()


@pytest.mark.parametrize("weight", [torch.zeros(576, 600), matrix(576, 600, "rank 3")])
def test_weights_of_a_lower_rank_still_give_orthonormal_vectors(weight):
    for side in svd_bases(weight, 8):
        assert torch.allclose(side.T @ side, torch.eye(8), atol=1e-4)


def test_half_precision_weights_and_the_same_result_every_time():
    weight = matrix(576, 600, dtype=torch.float16)
    first, again = svd_bases(weight, 4), svd_bases(weight.clone(), 4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(first[0], svd_bases(weight.float(), 4)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_fingerprint_tells_any_change_apart(dtype):
    weight = matrix(300, 77).to(dtype)
    names = {fingerprint(weight), fingerprint(weight.reshape(77, 300)), fingerprint(weight.flip(0))}
    for place in (0, 12345, weight.numel() - 1):
        changed = weight.clone()
        changed.view(-1)[place] += 0.5
        names.add(fingerprint(changed))
    swapped = weight.clone()
    swapped.view(-1)[[5, 9000]] = swapped.view(-1)[[9000, 5]]
    assert len({*names, fingerprint(swapped)}) == 7
    assert fingerprint(weight) == fingerprint(weight.clone())
    assert fingerprint(weight.T) == fingerprint(weight.T.contiguous())
    off_by_one = torch.cat((weight.flatten()[:1], weight.flatten()))[1:].view_as(weight)
    assert fingerprint(off_by_one) == fingerprint(weight)


def test_a_fingerprint_depends_on_type_and_shape_even_of_zeros():
    kinds = [torch.zeros(64, 64), torch.zeros(32, 128), torch.zeros(64, 128).half()]
    assert len({fingerprint(kind) for kind in kinds}) == 3
    assert fingerprint(torch.zeros(1, 0, 1)) != fingerprint(torch.zeros(0, 1))


@pytest.fixture
def counted(monkeypatch) -> list[tuple[int, ...]]:
    calls: list[tuple[int, ...]] = []

    def count(weight: Tensor, rank: int):
        calls.append(tuple(weight.shape))
        return svd_bases(weight, rank)

    monkeypatch.setattr(module, "svd_bases", count)
    return calls


def test_the_second_load_computes_nothing(tmp_path, counted):
    lora, one, two = tmp_path / "a.b.safetensors", matrix(30, 20), matrix(20, 40)
    cache = BasesCache(lora)
    first = cache.bases(one, 4)
    cache.bases(two, 4)
    cache.save()
    assert [path.name for path in tmp_path.iterdir()] == ["a.b.sa3_svd"]
    again = BasesCache(lora)
    assert all(torch.equal(a, b) for a, b in zip(first, again.bases(one, 4), strict=True))
    assert len(counted) == 2
    assert again.bases(one, 5)[0].shape == (30, 5)
    again.bases(one + 1, 4)
    assert len(counted) == 4
    again.save()
    third = BasesCache(lora)
    for weight in (one, two, one + 1):
        third.bases(weight, 4)
    assert len(counted) == 4


def test_a_damaged_cache_is_made_anew(tmp_path, counted, caplog):
    lora = tmp_path / "x.safetensors"
    (tmp_path / "x.sa3_svd").write_bytes(b"junk")
    with caplog.at_level(logging.WARNING):
        cache = BasesCache(lora)
    assert "made anew" in caplog.text
    cache.bases(matrix(30, 20), 4)
    cache.save()
    BasesCache(lora).bases(matrix(30, 20), 4)
    assert len(counted) == 1


def test_where_nothing_can_be_written_memory_serves(tmp_path, counted, caplog, monkeypatch):
    lora: Path = tmp_path / "no such folder" / "x.safetensors"
    monkeypatch.setattr(BasesCache, "_in_memory", {})
    for _ in range(2):
        cache = BasesCache(lora)
        cache.bases(matrix(30, 20), 4)
        with caplog.at_level(logging.WARNING):
            cache.save()
    assert len(counted) == 1
    assert "cannot be written" in caplog.text
