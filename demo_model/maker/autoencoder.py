"""SAME weights that compute a linear codec: constructed, not trained.

A group of SAME is a latent's token and the 16 patches (256 samples of both channels) of its
frame. Head h of layer l copies what stands 4 l + h + 1 tokens back, so 4 layers of 4 heads reach
all 16 patches of a latent, each by a matrix of its own. A copy is attention whose score over
distances is sharp: rotary frequencies are weights, and with 2 pi k / 34, k = 1..16, the score is a
Dirichlet kernel of period 34, the chunk. The differential half looks at the token itself, whose
value is zero there. DyT is used where it is straight. Channel 0 holds the constant 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .codec import CHANNELS, NUMBERS, LinearCodec, principal
from .sounds import FRAME

PATCH, PATCHES = 256, 16
WIDTH, HEADS, DEPTH, HEAD = 256, 4, 4, 64
PERIOD = 34
_ALPHA = 0.005  # of DyT: straight up to about 10
_SHARPNESS = 7.0
_NUMBERS = slice(1, 1 + NUMBERS)
_FEATURES = slice(1 + NUMBERS, WIDTH)


def autoencoder_weights(codec: LinearCodec) -> dict[str, Tensor]:
    """The state dict of SAME-S, keys as in a standalone autoencoder file, float32."""
    features = _patch_features(codec)
    into, out = torch.zeros(WIDTH, 2 * PATCH), torch.zeros(2 * PATCH, WIDTH)
    into[_FEATURES], out[:, _FEATURES] = features, features.T
    nothing = torch.zeros_like(out)
    weights = {
        "bottleneck.scaling_factor": torch.ones(1, CHANNELS, 1),
        "bottleneck.bias": torch.zeros(1, CHANNELS, 1),
        "bottleneck.running_std": torch.ones(1),
        "bottleneck.noise_scaling_factor": torch.zeros(1, 0, 1),
        "encoder.layers.2.weight": torch.zeros(CHANNELS, WIDTH),
        "encoder.layers.2.bias": torch.zeros(CHANNELS),
        "decoder.layers.1.weight": torch.zeros(WIDTH, CHANNELS),
        "decoder.layers.1.bias": torch.zeros(WIDTH),
    }
    weights["encoder.layers.2.weight"][:, _NUMBERS] = codec.spread
    weights["decoder.layers.1.weight"][_NUMBERS] = codec.spread.T * NUMBERS / CHANNELS
    encode, decode = _encoder_copies(codec, features), _decoder_copies(codec, features)
    weights |= _resampler("encoder.layers.0.", into[..., None], encode)
    middle_tap = torch.stack([nothing, out, nothing], dim=-1)
    return weights | _resampler("decoder.layers.3.", middle_tap, decode)


def patch_rows(patch: int) -> Tensor:
    """Where the samples of a patch stand in a block: left, then right."""
    left = torch.arange(patch * PATCH, (patch + 1) * PATCH)
    return torch.cat([left, left + FRAME])


def _patch_features(codec: LinearCodec) -> Tensor:
    """Orthonormal directions [features, 512] that patches of all places share."""
    loads = codec.components * codec.variances.clamp(min=0).sqrt()
    rows = torch.cat([loads[patch_rows(patch)].T for patch in range(PATCHES)])
    return principal(rows, WIDTH - 1 - NUMBERS)[0].T


Copies = list[tuple[Tensor, Tensor]]
"""By distance from 1: (written [WIDTH, HEAD], read [HEAD, WIDTH])."""


def _encoder_copies(codec: LinearCodec, features: Tensor) -> Copies:
    """The latent's token is the last of its group: patch p stands 16 - p back."""
    copies = []
    for distance in range(1, PATCHES + 1):
        write, read = torch.zeros(WIDTH, HEAD), torch.zeros(HEAD, WIDTH)
        write[_NUMBERS] = torch.eye(NUMBERS)
        rows = patch_rows(PATCHES - distance)
        read[:, _FEATURES] = codec.to_numbers[:, rows] @ features.T
        copies.append((write, read))
    return copies


def _decoder_copies(codec: LinearCodec, features: Tensor) -> Copies:
    """The latent's token is the first of its group: patch p looks p + 1 back."""
    copies = []
    for distance in range(1, PATCHES + 1):
        write, read = torch.zeros(WIDTH, HEAD), torch.zeros(HEAD, WIDTH)
        write[_FEATURES] = features @ codec.from_numbers[patch_rows(distance - 1)]
        read[:, _NUMBERS] = torch.eye(NUMBERS)
        copies.append((write, read))
    return copies


def _resampler(name: str, mapping: Tensor, copies: Copies) -> dict[str, Tensor]:
    """Weights of one resampling block; `mapping` [out, in, taps] becomes gains and directions."""
    gains = mapping.flatten(1).norm(dim=1)[:, None, None]
    directions = mapping.clone()
    directions[gains[:, 0, 0] == 0, 0] = 1  # a gain of 0 needs a direction, any
    weights = {
        f"{name}mapping.weight_g": gains,
        f"{name}mapping.weight_v": directions,
        f"{name}mapping.bias": torch.zeros(len(mapping)),
        f"{name}new_tokens": torch.zeros(1, 1, WIDTH),
    }
    for layer in range(DEPTH):
        own = copies[HEADS * layer : HEADS * (layer + 1)]
        parts = _straight_layer() | _attention(HEADS * layer + 1, own)
        weights |= {f"{name}transformers.{layer}.{key}": value for key, value in parts.items()}
    return weights


def _straight_layer() -> dict[str, Tensor]:
    """A layer's norms, rotary frequencies and its feed-forward part, which adds nothing."""
    gamma, beta = torch.full((WIDTH,), 1 / _ALPHA), torch.zeros(WIDTH)
    gamma[0], beta[0] = 0.0, 1.0
    weights = {}
    for norm in ("pre_norm", "ff_norm"):
        weights[f"{norm}.alpha"] = torch.tensor([_ALPHA])
        weights |= {f"{norm}.gamma": gamma.clone(), f"{norm}.beta": beta.clone()}
    for norm in ("q_norm", "k_norm"):
        weights[f"self_attn.{norm}.alpha"] = torch.tensor([0.1])
        weights[f"self_attn.{norm}.gamma"] = torch.full((HEAD,), 10 * math.sqrt(_SHARPNESS))
        weights[f"self_attn.{norm}.beta"] = torch.zeros(HEAD)
    weights["rope.inv_freq"] = _frequencies()
    weights["ff.ff.0.proj.weight"] = torch.zeros(2 * WIDTH, WIDTH)
    weights["ff.ff.0.proj.bias"] = torch.zeros(2 * WIDTH)
    weights["ff.ff.2.weight"] = torch.zeros(WIDTH, WIDTH)
    return weights | {"ff.ff.2.bias": torch.zeros(WIDTH)}


def _attention(first: int, copies: Copies) -> dict[str, Tensor]:
    """Heads that copy from `first`, `first` + 1, ... tokens back."""
    qkv = torch.zeros(5, HEADS, HEAD, WIDTH)  # q, k, v, q', k'
    out = torch.zeros(WIDTH, HEADS, HEAD)
    half = len(_frequencies())
    for head, (write, read) in enumerate(copies):
        turn = (first + head) * _frequencies()
        qkv[0, head, :half, 0], qkv[0, head, half : 2 * half, 0] = turn.cos(), -turn.sin()
        for other in (1, 3, 4):  # keys, and the differential half, do not turn
            qkv[other, head, :half, 0] = 1
        qkv[2, head], out[:, head] = read, write
    return {
        "self_attn.to_qkv.weight": qkv.flatten(0, 2),
        "self_attn.to_out.weight": out.flatten(1),
    }


def _frequencies() -> Tensor:
    return 2 * math.pi * torch.arange(1, PERIOD // 2) / PERIOD
