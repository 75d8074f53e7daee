"""ComfyUI's native Stable Audio 3 modules, out of the ComfyUI that the tests use.

Switched to ours where they are known to differ: the epsilon of the RMS norms (torch's default
there), the decoder's noise (always on there) and SAME's rotary angles (float32 there).
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa3_core.networks.config import HEAD_DIM
from sa3_core.networks.dit import BLOCK_EPS, HEAD_EPS
from tests.benchmarks.cases.jobs import Job
from tests.benchmarks.measuring.work import (
    UnableError,
    Work,
    exact_angles,
    fill,
    peer_work,
    weights_under,
)
from tests.helpers.support import comfyui_root

SDPA = "--use-pytorch-cross-attention"


@functools.cache
def _comfy(name: str, device: str, flags: tuple[str, ...]) -> types.ModuleType:
    """A module of ComfyUI, whose command line is read when the first one is imported."""
    try:
        root = str(comfyui_root())
    except FileNotFoundError as reason:
        raise UnableError(str(reason)) from reason
    if root not in sys.path:
        sys.path.insert(0, root)
        sys.argv = ["main.py", *(["--cpu"] if device == "cpu" else []), *flags]
        importlib.import_module("comfy.options").enable_args_parsing()
    return importlib.import_module(name)


@functools.lru_cache(maxsize=1)
def _dit(folder: Path, dtype: torch.dtype, device: str, flags: tuple[str, ...]) -> nn.Module:
    detection = _comfy("comfy.model_detection", device, flags)
    module = _comfy("comfy.ldm.audio.dit", device, flags)
    ops = _comfy("comfy.ops", device, flags).disable_weight_init
    state = weights_under(folder, "model.model.")
    config: dict[str, Any] = detection.detect_unet_config(state, "")
    meta = torch.device("meta")
    net = module.AudioDiffusionTransformer(**config, dtype=dtype, device=meta, operations=ops)
    for part in net.modules():
        if isinstance(part, module.RMSNorm):
            part.forward = _rms_norm(part)
    return fill(net, state, dtype, device)


def _rms_norm(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        eps = HEAD_EPS if x.shape[-1] == HEAD_DIM else BLOCK_EPS
        return F.rms_norm(x, x.shape[-1:], cast(Tensor, norm.gamma).to(x.dtype), eps)

    return forward


@functools.lru_cache(maxsize=1)
def _same(folder: Path, dtype: torch.dtype, device: str, flags: tuple[str, ...]) -> nn.Module:
    module = _comfy("comfy.ldm.audio.vae_sa3", device, flags)
    state = weights_under(folder, "pretransform.model.")
    with torch.device("meta"):
        net = module.SA3AudioVAE(**_same_config(state))
    net.bottleneck.noise_regularize = False
    for part in net.modules():
        if isinstance(part, module.RotaryEmbedding):
            part.forward = _rotary(part)
    return fill(net, state, dtype, device)


def _rotary(part: nn.Module) -> Callable[[Tensor], tuple[Tensor, float]]:
    def forward(positions: Tensor) -> tuple[Tensor, float]:
        return exact_angles(positions, cast(Tensor, part.inv_freq)), 1.0

    return forward


def _same_config(state: dict[str, Tensor]) -> dict[str, Any]:
    """As `comfy.sd.VAE` has it for SAME-S and SAME-L, with sizes for the toy ones."""
    large = state["decoder.layers.3.mapping.weight_v"].shape[-1] == 1
    depth = 1 + max(int(k.split(".")[4]) for k in state if k.startswith("decoder.layers.3.transf"))
    channels = state["decoder.layers.1.weight"].shape[0] // 6
    sinusoidal = (8 if depth == 12 else 3) if large else 0
    return {
        "channels": channels,
        "transformer_depths": depth,
        "sinusoidal_blocks": sinusoidal,
        "sliding_window": [1, 1] if large else None,
        "decoder_conv_mapping": not large,
        "chunk_size": 128 if large else 32,
        "chunk_midpoint_shift": not large,
    }


def _velocity(
    net: nn.Module, x: Tensor, t: Tensor, context: Tensor, duration: Tensor, local: Tensor
) -> Tensor:
    return net(x, t, context=context, global_embed=duration, local_add_cond=local)


def prepare(job: Job, flags: tuple[str, ...] = ()) -> Work:
    """Load what the job needs (once) and make its inputs."""
    place = job.path, job.torch_dtype, job.device, flags
    return peer_work(job, lambda: _dit(*place), _velocity, lambda: _same(*place))
