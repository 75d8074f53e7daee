"""The original implementation, from a checkout that the user names (`--reference PATH`).

Its modules are built from the checkpoint's own model_config.json. Switched to ours where results
would be random: the noise that SAME's bottleneck and decoder add. Its sliding windows go through
its own chunked attention, not through flex_attention, which needs a C++ compiler and minutes for
each new length; SAME's rotary angles are exact, as ours.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import types
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tests.benchmarks.cases.jobs import Job
from tests.benchmarks.measuring.work import (
    UnableError,
    Work,
    exact_angles,
    fill,
    peer_work,
    weights_under,
)

PATH = "SA3_REFERENCE"  # names the checkout
PACKAGE = "stable_audio_3"


def checkout(path: Path) -> Path:
    """The folder of a checkout that holds the package.

    Raises:
        SystemExit: there is none.
    """
    root = path.expanduser().resolve()
    if not (root / PACKAGE / "factory.py").is_file():
        raise SystemExit(f"{root} is no checkout of stable-audio-3: it has no {PACKAGE}/factory.py")
    return root


def _module(name: str) -> types.ModuleType:
    """A module of the checkout; the package's own start, which wants an interface, is left out."""
    root = os.environ.get(PATH)
    if not root:
        raise UnableError("give a checkout: --reference PATH")
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(Path(root) / PACKAGE)]
        sys.modules[PACKAGE] = package
    with redirect_stdout(sys.stderr):  # it prints that flash-attn is missing
        return importlib.import_module(f"{PACKAGE}.{name}")


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model_config.json").read_text("utf-8"))


@functools.lru_cache(maxsize=1)
def _dit(folder: Path, dtype: torch.dtype, device: str) -> nn.Module:
    kind = _module("models.dit").DiffusionTransformer
    settings = _config(folder)["model"]["diffusion"]
    with torch.device("meta"):
        net = kind(diffusion_objective=settings["diffusion_objective"], **settings["config"])
    return fill(net, weights_under(folder, "model.model."), dtype, device)


@functools.lru_cache(maxsize=1)
def _same(folder: Path, dtype: torch.dtype, device: str) -> nn.Module:
    transformer = _module("models.transformer")
    vars(transformer)["flex_attention_available"] = False
    config = _config(folder)
    make = _module("factory").create_autoencoder_from_config
    net = make(config["model"], config["sample_rate"])
    for part in net.modules():
        if hasattr(part, "mask_noise"):
            part.mask_noise = 0.0
        if isinstance(part, transformer.RotaryEmbedding):
            part.forward = _rotary(part)
    net.bottleneck.noise_regularize = False
    return fill(net, weights_under(folder, "pretransform.model."), dtype, device)


def _rotary(part: nn.Module) -> Callable[[Tensor], tuple[Tensor, float]]:
    def forward(positions: Tensor) -> tuple[Tensor, float]:
        return exact_angles(positions, cast(Tensor, part.inv_freq)), 1.0

    return forward


def _velocity(
    net: nn.Module, x: Tensor, t: Tensor, context: Tensor, duration: Tensor, local: Tensor
) -> Tensor:
    return net(x, t, cross_attn_cond=context, global_embed=duration, local_add_cond=local)


def prepare(job: Job) -> Work:
    """Load what the job needs (once) and make its inputs."""
    place = job.path, job.torch_dtype, job.device
    return peer_work(job, lambda: _dit(*place), _velocity, lambda: _same(*place))
