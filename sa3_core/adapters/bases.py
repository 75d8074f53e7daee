"""Singular vectors that -xs LoRAs are written in: computed exactly, kept beside the LoRA file.

Training takes them from the float32 SVD of each original weight and does not store them. Such an
SVD is as exact as singular values are apart: off by 3e-6 to 4e-4, differently for every number of
threads. For large weights ours are exact to float32 (float64 inside) and yet faster, because only
the leading vectors are computed.
"""

import hashlib
import logging
import math
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ..errors import CheckpointError
from ..files.tensor_file import open_tensors
from ..files.whole_file import whole_file

log = logging.getLogger(__name__)

CACHE_SUFFIX = ".sa3_svd"  # no .safetensors: it must not show up in lists of LoRAs
# Up to this size the training code's own routine is fast enough: same call, same vectors.
_SMALL = 512
_EXTRA = 8  # vectors carried along beyond the wanted ones
_CERTAIN = 1e-8  # residual over distance to the neighbour: below float32's own 6e-8
_SHARE = 4  # Lanczos may use a subspace of up to 1/4 of the matrix; beyond, solving all is faster
_CHECK_EVERY = 4  # steps
_LONGEST_WORD = 2048  # int64 words summed per row in `fingerprint`

Bases = tuple[Tensor, Tensor]


def svd_bases(weight: Tensor, rank: int) -> Bases:
    """Leading singular vectors of a weight.

    Args:
        weight: [out, in] or [out, in, k], viewed as [out, in * k].
        rank: number of vectors r, at most the smaller side.

    Returns:
        U [out, r] and V [in * k, r], float32 on the CPU; in each column of U the entry of largest
        magnitude is positive.

    Source: arXiv 2405.17604; signs as Stability-AI/stable-audio-3
        stable_audio_3/models/lora/model.py, _canonicalize_svd_signs.
    """
    matrix = weight.detach().flatten(1).cpu()
    found = None if min(matrix.shape) <= _SMALL else _from_gram(matrix.double(), rank)
    u, v = _full_svd(matrix, rank) if found is None else found
    peak = u.abs().argmax(dim=0, keepdim=True)  # [1, r]
    sign = torch.where(u.gather(0, peak) < 0, -1.0, 1.0)
    return (u * sign).float().contiguous(), (v * sign).float().contiguous()


def _full_svd(matrix: Tensor, rank: int) -> Bases:
    u, _, vh = torch.linalg.svd(matrix.float(), full_matrices=False)
    return u[:, :rank], vh[:rank].T


def _from_gram(matrix: Tensor, rank: int) -> Bases | None:
    """Bases through the eigenvectors of the smaller Gram matrix, float64.

    Squaring costs digits: a vector's error grows with (s_1 / s_r)^2, so None where that is too
    large for float32, as in weights of a rank below `rank`.
    """
    out, width = matrix.shape
    tall = matrix if out >= width else matrix.T  # [long, short]
    values, right = _leading_eigenvectors(_gram(tall), rank)
    if values[-1] <= 1e-8 * values[0]:  # s_r below 1e-4 s_1
        return None
    left = tall @ right / values.sqrt()  # [long, r]
    return (left, right) if out >= width else (right, left)


def _gram(tall: Tensor) -> Tensor:
    """tall^T tall [n, n], block by block, so that what is symmetric is computed once."""
    size = tall.shape[1]
    gram = tall.new_empty(size, size)
    for first in range(0, size, _SMALL):
        last = min(first + _SMALL, size)
        rows = tall[:, first:last].T @ tall[:, :last]
        gram[first:last, :last], gram[:last, first:last] = rows, rows.T
    return gram


def _leading_eigenvectors(gram: Tensor, rank: int) -> Bases:
    """Largest eigenvalues [r], falling, and eigenvectors [n, r] of a symmetric matrix [n, n].

    Block Lanczos with full reorthogonalisation and a fixed start ends early where the spectrum
    falls. Where it would take too long, the whole eigensystem is solved.
    """
    size, block = gram.shape[0], rank + _EXTRA
    start = torch.randn(size, block, generator=torch.Generator().manual_seed(0), dtype=gram.dtype)
    basis, image = gram.new_empty(size, 0), gram.new_empty(size, 0)
    new = torch.linalg.qr(start)[0]
    last_doubt, steps = math.inf, size // _SHARE // block
    for step in range(1, steps + 1):
        basis = torch.cat((basis, new), dim=1)  # [n, k]
        image = torch.cat((image, gram @ new), dim=1)  # gram @ basis
        if step % _CHECK_EVERY == 0:
            values, vectors, doubt = _ritz_pairs(basis, image, rank)
            if doubt <= 1:
                return values, vectors
            # Doubt falls by about the same factor from check to check.
            checks_left = (steps - step) // _CHECK_EVERY
            if doubt * (doubt / last_doubt) ** checks_left > 1:
                break
            last_doubt = doubt
        new = image[:, -block:]
        for _ in range(2):  # twice is enough to be orthogonal to rounding
            new = torch.linalg.qr(new - basis @ (basis.T @ new))[0]
    values, vectors = torch.linalg.eigh(gram)
    return values[-rank:].flip(0), vectors[:, -rank:].flip(1)


def _ritz_pairs(basis: Tensor, image: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Approximate eigenvalues [r] and eigenvectors [n, r] from a subspace, and how good they are.

    The angle of a Ritz vector is at most its residual over the distance to the next eigenvalue;
    returned is the largest angle in units of what is allowed.
    """
    values, mix = torch.linalg.eigh(basis.T @ image)
    values, mix = values.flip(0)[: rank + 1], mix.flip(1)[:, :rank]
    vectors = basis @ mix
    residual = (image @ mix - vectors * values[:rank]).norm(dim=0)
    gaps = values[:-1] - values[1:]  # [r], to the next smaller one
    nearest = torch.minimum(gaps, torch.cat((gaps[:1], gaps[:-1])))
    doubt = (residual / nearest.clamp_min(torch.finfo(gaps.dtype).tiny)).max().item() / _CERTAIN
    return values[:rank], vectors, doubt


def fingerprint(weight: Tensor) -> str:
    """Short name of a weight's exact type, shape and bits.

    Sums over rows and columns of the bits as 64-bit integers are hashed, not the bits themselves:
    5 to 10 times faster than sha256 (9 to 24 against 2 GB/s), and any accidental change shows.
    """
    flat = weight.detach().contiguous().view(torch.uint8).flatten()
    whole = flat.numel() - flat.numel() % (8 * _LONGEST_WORD)
    digest = hashlib.sha256(f"{weight.dtype} {list(weight.shape)}".encode())
    body = flat[:whole]
    if body.storage_offset() % 8:
        body = body.clone()  # int64 views must start on a multiple of 8 bytes
    words = body.view(torch.int64).view(-1, _LONGEST_WORD)
    for part in (words.sum(0), words.sum(1), flat[whole:]):
        digest.update(part.cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


class BasesCache:
    """Singular vectors per weight and rank, kept beside the LoRA as `<name>.sa3_svd` (safetensors).

    Where the folder cannot be written to, they are kept in memory until the program ends.
    """

    _in_memory: dict[Path, dict[str, Tensor]] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, lora_path: Path) -> None:
        self.path = lora_path.with_suffix(CACHE_SUFFIX)
        self._tensors = dict(self._in_memory.get(self.path, {}) or self._read())
        self._changed = False

    def bases(self, weight: Tensor, rank: int) -> Bases:
        """`svd_bases(weight, rank)`, computed only where it is not known yet."""
        key = f"{fingerprint(weight)}.{rank}"
        if f"{key}.U" not in self._tensors:
            self._tensors[f"{key}.U"], self._tensors[f"{key}.V"] = svd_bases(weight, rank)
            self._changed = True
        return self._tensors[f"{key}.U"], self._tensors[f"{key}.V"]

    def save(self) -> None:
        """Write what is new to disk; call it once after the last `bases`."""
        if not self._changed:
            return
        try:
            with whole_file(self.path) as whole:
                whole.file.write(save(self._tensors))
            self._in_memory.pop(self.path, None)
        except OSError as error:
            log.warning(
                "%s cannot be written (%s); singular vectors are kept in memory and computed "
                "again after a restart",
                self.path,
                error,
            )
            self._in_memory[self.path] = self._tensors
        self._changed = False

    def _read(self) -> dict[str, Tensor]:
        if not self.path.is_file():
            return {}
        try:
            # cloned: a mapped file could not be replaced on Windows
            with open_tensors(self.path) as file:
                return {name: file.get(name).clone() for name in file.header}
        except CheckpointError as error:
            log.warning("%s is unreadable (%s) and is made anew", self.path, error)
            return {}
