"""Latents on disk: both formats, what is refused, and that a failure loses nothing."""

from __future__ import annotations

import errno
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sa3_core.codec.latent_file import Latents, read_latents, write_latents
from sa3_core.errors import InputError, LatentFileError
from sa3_core.files import whole_file
from sa3_core.geometry import HOP, SAMPLE_RATE


def frames(batch: int = 1, length: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 256, length, generator=generator)


def test_safetensors_round_trip_keeps_every_bit(tmp_path):
    path = tmp_path / "a.safetensors"
    latents = Latents(frames(2), (0.1 + 0.2, 0.37))
    write_latents(path, latents)
    back = read_latents(path)
    assert torch.equal(back.frames, latents.frames)
    assert back.seconds == latents.seconds
    raw = load_file(path)
    assert {key: (value.dtype, tuple(value.shape)) for key, value in raw.items()} == {
        "latents": (torch.float32, (2, 256, 5)),
        "seconds": (torch.float64, (2,)),
    }


def test_npy_round_trip_has_upstreams_shape(tmp_path):
    path = tmp_path / "a.npy"
    write_latents(path, Latents(frames(), (0.3,)))
    raw = np.load(path, allow_pickle=False)
    assert raw.shape == (256, 5)
    assert raw.dtype == np.float32
    back = read_latents(path)
    assert torch.equal(back.frames, frames())
    assert back.seconds == (5 * HOP / SAMPLE_RATE,)  # a .npy file states no duration


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    save_file({"latents": frames().to(dtype)}, path)
    back = read_latents(path)
    assert torch.equal(back.frames, frames().to(dtype).float())
    assert back.seconds == (5 * HOP / SAMPLE_RATE,)


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
def test_npy_of_other_precision_and_byte_order(tmp_path, dtype):
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(frames()[0].numpy().astype(dtype)))
    expected = frames()[0].numpy().astype(dtype).astype(np.float32)
    assert np.array_equal(read_latents(path).frames[0].numpy(), expected)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"latents": torch.zeros(1, 64, 5)}, r"\[1, 64, 5\]"),
        ({"latents": torch.zeros(256, 5)}, r"\[256, 5\]"),
        ({"latents": torch.zeros(1, 256, 0)}, "0"),
        ({"latents": torch.zeros(1, 256, 5, dtype=torch.int32)}, "int32"),
        ({"latents": torch.full((1, 256, 5), torch.nan)}, "NaN"),
        ({"samples": torch.zeros(1, 256, 5)}, "samples"),
        ({"latents": frames(), "seconds": torch.zeros(2, dtype=torch.float64)}, "2 durations"),
        ({"latents": frames(), "seconds": torch.tensor([9.0]).double()}, "at most 0.464"),
        ({"latents": frames(), "seconds": torch.tensor([-1.0]).double()}, "-1"),
        ({"latents": frames(), "seconds": torch.tensor([torch.nan]).double()}, "nan"),
        ({"latents": frames(), "seconds": torch.tensor([1])}, "float64"),
        ({"latents": frames(), "seconds": torch.tensor(0.1).double()}, "one float64 per item"),
    ],
)
def test_safetensors_that_hold_something_else(tmp_path, tensors, message):
    path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    with pytest.raises(LatentFileError, match=message):
        read_latents(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 256, 5), np.float32), r"\[1, 256, 5\]"),
        (np.zeros((64, 5), np.float32), "64"),
        (np.zeros((256, 5), np.int16), "int16"),
        (np.zeros((256, 5), np.complex64), "complex64"),
        (np.full((256, 5), np.inf, np.float32), "infinite"),
    ],
)
def test_npy_that_holds_something_else(tmp_path, array, message):
    path = tmp_path / "a.npy"
    np.save(path, array)
    with pytest.raises(LatentFileError, match=message):
        read_latents(path)


class _Payload:
    ran = False

    def __reduce__(self):
        return (setattr, (_Payload, "ran", True))


def test_pickles_are_never_run(tmp_path):
    objects, bare = tmp_path / "objects.npy", tmp_path / "bare.npy"
    np.save(objects, np.array([_Payload()], dtype=object), allow_pickle=True)
    bare.write_bytes(pickle.dumps(_Payload()))
    with pytest.raises(LatentFileError, match="pickled objects"):
        read_latents(objects)
    with pytest.raises(LatentFileError, match=r"no readable \.npy"):
        read_latents(bare)
    assert not _Payload.ran


def test_an_archive_named_npy(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, latents=frames()[0].numpy())
    with pytest.raises(LatentFileError, match="archive"):
        read_latents(path.rename(tmp_path / "a.npy"))


def test_damaged_missing_and_misnamed_files(tmp_path):
    path = tmp_path / "a.safetensors"
    write_latents(path, Latents(frames(), (0.3,)))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(LatentFileError, match="damaged or truncated"):
        read_latents(path)
    with pytest.raises(LatentFileError, match="no such file"):
        read_latents(tmp_path / "b.npy")
    with pytest.raises(LatentFileError, match=r"end in \.safetensors or \.npy"):
        read_latents(tmp_path / "b.pt")
    with pytest.raises(LatentFileError, match=r"not in '\.pt'"):
        write_latents(tmp_path / "b.pt", Latents(frames(), (0.3,)))


def test_npy_takes_a_single_item(tmp_path):
    with pytest.raises(LatentFileError, match="there are 2"):
        write_latents(tmp_path / "a.npy", Latents(frames(2), (0.3, 0.3)))
    assert not list(tmp_path.iterdir())


def test_latents_check_themselves():
    with pytest.raises(InputError, match="1 durations for 2 latents"):
        Latents(frames(2), (0.3,))


@pytest.mark.parametrize("name", ["a.safetensors", "a.npy"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name):
    path = tmp_path / name
    write_latents(path, Latents(frames(), (0.3,)))
    before = path.read_bytes()

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_file.os, "replace", full)
    with pytest.raises(LatentFileError, match="disk is full"):
        write_latents(path, Latents(frames() + 1, (0.3,)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_folder_is_said(tmp_path):
    with pytest.raises(LatentFileError, match="there is no folder"):
        write_latents(tmp_path / "none" / "a.npy", Latents(frames(), (0.3,)))
