"""Building blocks shared by the DiT and the SAME autoencoder.

Parameters that are not owned by an `ops` layer (gains, tokens, buffers) are cast where they are
used, so that a host may leave them on another device or in another dtype.
"""

import math
import struct
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backward import gated, modulated
from .ops import Ops

Gate = Literal["silu", "sin"]

# exp(linspace(ln 0.5, ln 10000, 128)) as the reference computed it, little-endian float32. Matrix
# libraries round exp differently on each processor, and one rounding moves the output by 2e-4.
_FREQUENCIES = bytes.fromhex(
    "0000003f87610a3f959a153fa5bc213f9dda2e3feb083d3fa55d4c3facf05c3fd1db6e3f7d1d813f2c968b3f"
    "42e8963f6225a33f9a60b03f8aaebe3f7725ce3f75ddde3f8ff0f03f773d024082cd0c40d738184043912440"
    "00ea3140d757404040f14f4088ce6040f1097340f65f83408c078e405b8c99405100a640d376b340d604c240"
    "0cc1d140efc3e2400628f540f784044155440f41d5e21a418f7227411807354192b54341e0945341b8bd6441"
    "d44a77418cac8541e1839041493c9c410ae8a841da9ab641156ac541c76cd541e1bbe6416172f941b2d60642"
    "33c61142bf981d42c5602a422332384264224742d148574287be6842c49e7b4270038842550b93423ff89e42"
    "c7dcab42f6ccb94288dec842fb28d942a2c5ea42f0cffd42d03209434f531443d35a20431d5c2d43636b3b43"
    "919e4a43540d5b434ad16c4308038043cc648a431d9e954379c0a143bfdeae43610dbd437b62cc43ebf5dc43"
    "7ae1ee43902001447c990b44d5eb164442292344cb6430440eb33e44562a4e44bee25e4444f670448c408244"
    "d7d08c44713c98442695a44431eeb1445d5cc0442ff6cf44dcd3e044b30ff34416630345ee0a0e4500901945"
    "3f042645107b334565094245f6c551455cc96245e02d754521888445bc478f4580e69a458676a7455f0bb545"
    "31bac345dc99d34518c3e445bf50f745bdaf05465287104601401c46"
)


def cast_to(parameter: Tensor, like: Tensor) -> Tensor:
    """`parameter` on the device and in the dtype of `like`."""
    return parameter.to(device=like.device, dtype=like.dtype)


class RMSNorm(nn.Module):
    """RMSNorm over the last dimension, computed and returned in float32. `gamma` [width].

    Source: arXiv 2605.17991 (force_fp32); eps 1e-5 in blocks, 1e-6 for queries and keys.
    """

    def __init__(self, width: int, eps: float, device=None, dtype=None) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width, device=device, dtype=dtype))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return modulated(x, self.gain(x), None, self.eps)
        return self.normalised(x).mul_(self.gain(x))

    def normalised(self, x: Tensor) -> Tensor:
        """x of unit root mean square, without the gain; a new tensor."""
        return F.rms_norm(x.float(), self.gamma.shape, eps=self.eps)

    def gain(self, like: Tensor) -> Tensor:
        """`gamma` in float32 on the device of `like`."""
        return self.gamma.to(device=like.device, dtype=torch.float32)


class DynamicTanh(nn.Module):
    """gamma * tanh(alpha x) + beta over the last dimension. `alpha` [1]; `gamma`, `beta` [width].

    Source: arXiv 2605.18613 (SAME), normalisation layers.
    """

    def __init__(self, width: int, device=None, dtype=None) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.gamma = nn.Parameter(torch.empty(width, device=device, dtype=dtype))
        self.beta = nn.Parameter(torch.empty(width, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            bent = torch.tanh(x * cast_to(self.alpha, x))
            return torch.addcmul(cast_to(self.beta, x), bent, cast_to(self.gamma, x))
        bent, gain, shift = self.bend(x)
        return torch.addcmul(shift, bent, gain)

    def bend(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split into (bent, gain, shift) in float32 with gain * bent + shift the result.

        tanh(a) = 2 sigmoid(2 a) - 1: on CPUs a vectorised sigmoid is ten times as fast as tanh.
        """
        bent = x.new_empty(x.shape, dtype=torch.float32)  # contiguous, however x lies
        torch.mul(x.float(), self.alpha.to(bent) * 2, out=bent).sigmoid_()
        gamma = cast_to(self.gamma, bent)
        return bent, gamma * 2, cast_to(self.beta, bent) - gamma


class GatedLinear(nn.Module):
    """One projection to (value, gate), returned as value * gate_function(gate)."""

    def __init__(self, width: int, inner: int, gate: Gate, ops: Ops, device=None, dtype=None):
        super().__init__()
        self.proj = ops.Linear(width, 2 * inner, device=device, dtype=dtype)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        both = self.proj(x)
        if self.gate == "silu" and torch.is_grad_enabled():
            return gated(both)
        value, gate = both.chunk(2, dim=-1)
        # In place: the projection is this call's own and by far the widest tensor of a layer.
        gate = F.silu(gate, inplace=True) if self.gate == "silu" else gate.mul_(math.pi).sin_()
        return value * gate


class GatedFeedForward(nn.Module):
    """Linear to 2 * inner, gate, linear back. Keys `ff.0.proj` and `ff.2` as published."""

    def __init__(
        self, width: int, mult: int, gate: Gate, ops: Ops, device=None, dtype=None
    ) -> None:
        super().__init__()
        inner = width * mult
        self.ff = nn.Sequential(
            GatedLinear(width, inner, gate, ops, device, dtype),
            nn.Identity(),
            ops.Linear(inner, width, device=device, dtype=dtype),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.ff(x)


class TwoLayer(nn.Sequential):
    """Linear, SiLU, Linear with keys 0 and 2, the shape of every embedder of the DiT."""

    def __init__(
        self, sizes: tuple[int, int, int], bias: bool, ops: Ops, device=None, dtype=None
    ) -> None:
        super().__init__(
            ops.Linear(sizes[0], sizes[1], bias=bias, device=device, dtype=dtype),
            nn.SiLU(),
            ops.Linear(sizes[1], sizes[2], bias=bias, device=device, dtype=dtype),
        )


def expo_fourier(value: Tensor, features: int) -> Tensor:
    """Exponentially spaced Fourier features of a value in [0, 1], always in float32.

    The arguments reach 6e4, so the order of the products is part of the definition, and the
    frequencies are constants: the same on every machine.

    Args:
        value: [B].
        features: even number of outputs; frequencies run from 0.5 to 10 000.

    Returns:
        [B, features] float32: cosines, then sines.

    Source: arXiv 2605.17991, timestep and duration embedding.
    """
    frequencies = _frequencies(features // 2, value.device)
    arguments = value.float()[:, None] * frequencies[None] * 2 * math.pi
    return torch.cat([arguments.cos(), arguments.sin()], dim=-1)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # kept: training may need what inference made first
def _frequencies(count: int, device: torch.device) -> Tensor:
    """`count` frequencies from 0.5 to 10 000 on a device, the published number bit for bit."""
    published = torch.tensor(struct.unpack(f"<{len(_FREQUENCIES) // 4}f", _FREQUENCIES))
    if count != len(published):
        low, high = math.log(0.5), math.log(10_000.0)
        published = torch.linspace(low, high, count, dtype=torch.float64).exp().float()
    return published.to(device)


def rotary_table(
    inv_freq: Tensor, length: int, device: torch.device, exact: bool = False
) -> tuple[Tensor, Tensor]:
    """Cosines and sines for positions 0..length-1, both [length, 2 * len(inv_freq)] float32.

    Args:
        inv_freq: [rotated channels / 2].
        length: number of positions.
        device: of the result.
        exact: compute the angles in float64 (on the CPU: not every device has it) instead of
            float32, which is off by 6e-8 times the position.
    """
    place, dtype = (torch.device("cpu"), torch.float64) if exact else (device, torch.float32)
    positions = torch.arange(length, dtype=dtype, device=place)
    angles = positions[:, None] * inv_freq.to(device=place, dtype=dtype)[None]
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(device, torch.float32), angles.sin().to(device, torch.float32)


def scale_and_rotate(
    x: Tensor, gain: Tensor, shift: Tensor | None, table: tuple[Tensor, Tensor]
) -> Tensor:
    """RoPE of x * gain + shift: the first channels of each head turn, first half with second half.

    Scaling and rotation are multiplied together first: they have N rows of one head, x has N of
    every head.

    Args:
        x: [..., N, head_dim] float32.
        gain: [head_dim].
        shift: [head_dim] or None.
        table: cosines and sines [N, rotated channels].
    """
    cos, sin = table
    width, half = cos.shape[-1], cos.shape[-1] // 2
    direct = gain.repeat(len(cos), 1)  # [N, head_dim]
    direct[:, :width] *= cos
    if shift is None:
        out = x * direct
    else:
        base = shift.repeat(len(cos), 1)
        base[:, :width] *= cos
        base[:, :half] -= shift[half:width] * sin[:, :half]
        base[:, half:width] += shift[:half] * sin[:, half:]
        out = torch.addcmul(base, x, direct)
    out[..., :half].addcmul_(x[..., half:width], -gain[half:width] * sin[:, :half])
    out[..., half:width].addcmul_(x[..., :half], gain[:half] * sin[:, half:])
    return out
