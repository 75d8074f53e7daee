"""diffusers' Stable Audio 3 transformer and SAME autoencoder.

Switched to ours where they are known to differ: the epsilon of the blocks' RMS norms (1e-6 there),
SAME's rotary angles (float32 there), and the inpainting input of zeros, which its pipeline leaves
out. It cannot represent SAME-S.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from sa3_core.networks.config import HEAD_DIM
from sa3_core.networks.dit import BLOCK_EPS
from tests.benchmarks.cases.jobs import Job, model_config
from tests.benchmarks.measuring.work import (
    UnableError,
    Work,
    exact_angles,
    fill,
    peer_work,
    weights_under,
)

_DIT_NAMES = (
    (r"^transformer\.project_(in|out)\.", r"proj_\1."),
    (r"^transformer\.layers\.", "transformer_blocks."),
    (r"^transformer\.", ""),
    (r"\.ff\.ff\.0\.proj\.", ".ff.proj_in."),
    (r"\.ff\.ff\.2\.", ".ff.proj_out."),
)
_SAME_NAMES = (
    (r"^(encoder\.layers\.2|decoder\.layers\.1)\.", lambda m: m[1][:7] + ".proj."),
    (r"^(encoder\.layers\.0|decoder\.layers\.3)\.", lambda m: m[1][:7] + ".blocks.0."),
    (r"\.pre_norm\.", ".norm_attn."),
    (r"\.ff_norm\.", ".norm_ff."),
    (r"\.self_attn\.", ".attn."),
    *_DIT_NAMES[3:],
    (r"^bottleneck\.scaling_factor$", "bottleneck.scale"),
)


def _renamed(state: dict[str, Tensor], names: tuple[tuple[str, object], ...]) -> dict[str, Tensor]:
    out = {}
    for key, value in state.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)  # pyright: ignore[reportCallIssue, reportArgumentType]
        if key.endswith("to_qkv.weight") and value.shape[0] == 5 * value.shape[1]:
            q, k, v, q2, k2 = value.chunk(5)
            value = torch.cat([q, q2, k, k2, v])
        out[key] = value
    return out


@functools.lru_cache(maxsize=1)
def _dit(folder: Path, dtype: torch.dtype, device: str) -> nn.Module:
    from diffusers.models.transformers import transformer_stable_audio3 as module

    config = model_config(folder).dit
    assert config is not None
    with torch.device("meta"):
        net = module.StableAudio3DiTModel(
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.heads,
            num_memory_tokens=config.memory_tokens,
            use_differential_attention=config.differential,
        )
    for part in net.modules():
        if isinstance(part, module.StableAudio3RMSNorm) and part.gamma.shape[0] != HEAD_DIM:
            part.eps = BLOCK_EPS
    state = _renamed(weights_under(folder, "model.model."), _DIT_NAMES)
    padding = weights_under(folder, "conditioner.conditioners.prompt.")
    state["prompt_padding_embedding"] = padding["padding_embedding"]
    return fill(net, state, dtype, device)


@functools.lru_cache(maxsize=1)
def _same(folder: Path, dtype: torch.dtype, device: str) -> nn.Module:
    from diffusers.models.autoencoders import autoencoder_same as module

    config = model_config(folder).same
    assert config is not None
    if config.decoder.window is None:
        raise UnableError("cannot represent SAME-S (chunked attention, 3-tap mapping)")
    with torch.device("meta"):
        net = module.AutoencoderSAME(
            encoder_channels=config.decoder.width // 6,
            encoder_transformer_depths=[config.decoder.depth],
            encoder_sinusoidal_blocks=[config.encoder.sinusoidal],
            decoder_sinusoidal_blocks=[config.decoder.sinusoidal],
        )
    for part in net.modules():
        if isinstance(part, module.SAMEAttention):  # frequencies are no weights there
            part.rope = module.RotaryEmbedding(HEAD_DIM // 2)
            part.rope.forward = _rotary(part.rope)
    state = _renamed(weights_under(folder, "pretransform.model."), _SAME_NAMES)
    unused = ("inv_freq", "noise_scaling_factor")
    return fill(net, {k: v for k, v in state.items() if not k.endswith(unused)}, dtype, device)


def _rotary(part: nn.Module) -> Callable[[int, torch.device], Tensor]:
    def forward(length: int, device: torch.device) -> Tensor:
        return exact_angles(torch.arange(length, device=device), cast(Tensor, part.inv_freq))

    return forward


def _velocity(
    net: nn.Module, x: Tensor, t: Tensor, context: Tensor, duration: Tensor, local: Tensor
) -> Tensor:
    return net(x, t, context, duration, local_add_cond=local, return_dict=False)[0]


def _code(net: nn.Module, part: str, given: Tensor) -> Tensor:
    return getattr(net, part)(given, return_dict=False)[0]


def prepare(job: Job) -> Work:
    """Load what the job needs (once) and make its inputs."""
    place = job.path, job.torch_dtype, job.device
    return peer_work(job, lambda: _dit(*place), _velocity, lambda: _same(*place), _code)
