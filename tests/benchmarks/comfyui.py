"""ComfyUI's native Stable Audio 3 modules, out of the folder that SA3_COMFYUI names.

Switched to ours where they are known to differ: the epsilon of the RMS norms (torch's default
there) and the decoder's noise (always on there).
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from sa3_core.config import HEAD_DIM
from sa3_core.dit import BLOCK_EPS, HEAD_EPS

from .jobs import Job, audio_input, latent_input
from .ours import weights_of
from .work import UnableError, Work, peer_generation

SDPA = "--use-pytorch-cross-attention"
SAME_PREFIX = "pretransform.model."


@functools.cache
def _comfy(name: str, device: str, flags: tuple[str, ...]) -> types.ModuleType:
    """A module of ComfyUI, whose command line is read when the first one is imported."""
    root = os.environ.get("SA3_COMFYUI")
    if not root:
        raise UnableError("SA3_COMFYUI names no ComfyUI; run it through dev.py")
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
    prefix = "model.model."
    state = {
        key.removeprefix(prefix): value
        for key, value in load_file(folder / "model.safetensors").items()
        if key.startswith(prefix)
    }
    config: dict[str, Any] = detection.detect_unet_config(state, "")
    meta = torch.device("meta")
    net = module.AudioDiffusionTransformer(**config, dtype=dtype, device=meta, operations=ops)
    state = {key: v if key.endswith("inv_freq") else v.to(dtype) for key, v in state.items()}
    net.load_state_dict(state, assign=True)
    for part in net.modules():
        if isinstance(part, module.RMSNorm):
            part.forward = _rms_norm(part.gamma)
    return net.to(device).train(False).requires_grad_(False)


def _rms_norm(gamma: Tensor) -> Callable[[Tensor], Tensor]:
    eps = HEAD_EPS if gamma.shape[0] == HEAD_DIM else BLOCK_EPS
    return lambda x: F.rms_norm(x, x.shape[-1:], gamma.to(x.dtype), eps)


@functools.lru_cache(maxsize=1)
def _same(folder: Path, dtype: torch.dtype, device: str, flags: tuple[str, ...]) -> nn.Module:
    module = _comfy("comfy.ldm.audio.vae_sa3", device, flags)
    state = load_file(folder / "model.safetensors")
    own = {k.removeprefix(SAME_PREFIX): v for k, v in state.items() if k.startswith(SAME_PREFIX)}
    state = own or state  # a standalone autoencoder has no prefix
    with torch.device("meta"):
        net = module.SA3AudioVAE(**_same_config(state))
    state = {key: v if key.endswith("inv_freq") else v.to(dtype) for key, v in state.items()}
    net.load_state_dict(state, assign=True)
    net.bottleneck.noise_regularize = False
    return net.to(device).train(False).requires_grad_(False)


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


def prepare(job: Job, flags: tuple[str, ...] = ()) -> Work:
    """Load what the job needs (once) and make its inputs."""
    place = {"device": job.device, "dtype": job.torch_dtype}
    if job.part == "generation":
        net = _dit(job.path, job.torch_dtype, job.device, flags)
        names = ("context", "global_embed", "local_add_cond")

        def velocity(x: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
            return net(x, t, **dict(zip(names, rest, strict=True)))

        return Work(peer_generation(job, velocity), weights_of(net))
    if job.part not in ("decode", "encode"):
        raise UnableError("not measured")
    net = _same(job.path, job.torch_dtype, job.device, flags)
    given = (latent_input if job.part == "decode" else audio_input)(job).to(**place)
    return Work(lambda: getattr(net, job.part)(given).float().cpu(), weights_of(net))
