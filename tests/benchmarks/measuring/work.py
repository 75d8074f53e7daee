"""What every implementation hands to the worker, and what the peers have in common."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sa3_core.checkpoints.load import load_conditioner
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.geometry import LATENT_CHANNELS
from sa3_core.networks.conditioning import Conditioner
from tests.benchmarks.cases.jobs import (
    Job,
    audio_input,
    generation_inputs,
    latent_input,
    padded_context,
)

Net = Callable[..., Tensor]  # x, t, context, duration, local -> velocity


class UnableError(Exception):
    """An implementation cannot do this job; the message says why."""


class Work(NamedTuple):
    """A prepared job.

    Attributes:
        run: computes the result, [...] on the CPU.
        weights: the tensors that must be in memory before anything is measured.
    """

    run: Callable[[], Tensor]
    weights: Callable[[], Iterable[Tensor]]


def weights_of(net: nn.Module) -> Callable[[], Iterator[Tensor]]:
    """All tensors of a net, asked for later."""
    return lambda: iter(net.state_dict().values())


def weights_under(folder: Path, prefix: str) -> dict[str, Tensor]:
    """A checkpoint's tensors below a prefix, or all of a file that has none (an autoencoder's)."""
    state = load_file(folder / "model.safetensors")
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return found or state


def fill(net: nn.Module, state: dict[str, Tensor], dtype: torch.dtype, device: str) -> nn.Module:
    """Give a peer's net its weights in `dtype`; rotary frequencies stay in the file's."""
    state = {key: v if key.endswith("inv_freq") else v.to(dtype) for key, v in state.items()}
    net.load_state_dict(state, assign=True)
    return net.to(device).train(False).requires_grad_(False)


def exact_angles(positions: Tensor, inv_freq: Tensor) -> Tensor:
    """Rotary angles [N, 2 * frequencies] float32 within a turn, exact at any position as ours.

    Peers multiply in float32, which is off by 6e-8 times the position: 1e-4 of SAME-L's audio after
    20 s.
    """
    angles = torch.outer(positions.double(), inv_freq.to(positions.device, torch.float64))
    return torch.cat((angles, angles), dim=-1).remainder(2 * math.pi).float()


def peer_conditioner(job: Job) -> Conditioner:
    """The checkpoint's conditioner: context and duration are inputs, the same for all."""
    checkpoint = open_checkpoint(job.path, ("conditioner",))
    conditioner = Conditioner(checkpoint.config, device=torch.device("meta"))
    load_conditioner(checkpoint, conditioner)
    return conditioner


def peer_generation(job: Job, net: Net) -> Callable[[], Tensor]:
    """A generation with a net that takes the full inputs at every step.

    Same noise, levels and sampler arithmetic as ours. `local` is the inpainting input of zeros,
    which the published models are always given.
    """
    inputs, conditioner = generation_inputs(job), peer_conditioner(job)
    place = {"device": job.device, "dtype": job.torch_dtype}
    context = padded_context(conditioner, inputs, job.seconds).to(**place)
    duration = conditioner.duration((job.seconds,)).to(**place)
    local = torch.zeros(1, 1 + LATENT_CHANNELS, inputs.valid, **place)
    levels = inputs.sigmas.to(job.device)

    def run() -> Tensor:
        noise = (part[..., : inputs.valid].to(job.device) for part in inputs.noise)
        x = next(noise)
        for t, t_next in itertools.pairwise(levels):
            v = net(x.to(job.torch_dtype), t[None], context, duration, local).float()
            x = x - t * v
            if t_next > 0:
                x = (1 - t_next) * x + t_next * next(noise)
        return x.cpu()

    return run


def peer_work(
    job: Job,
    dit: Callable[[], nn.Module],
    velocity: Callable[..., Tensor],
    same: Callable[[], nn.Module],
    code: Callable[[nn.Module, str, Tensor], Tensor] = lambda net, part, given: getattr(net, part)(
        given
    ),
) -> Work:
    """A peer's work for a generation, or for its autoencoder alone.

    Args:
        job: what is measured.
        dit: loads its transformer.
        velocity: calls it: net, x, t, context, duration, local.
        same: loads its autoencoder.
        code: calls that one's `encode` or `decode`.

    Raises:
        UnableError: the job is about something else.
    """
    if job.part == "generation":
        net = dit()
        return Work(peer_generation(job, partial(velocity, net)), weights_of(net))
    if job.part not in ("decode", "encode"):
        raise UnableError("not measured")
    net = same()
    given = (latent_input if job.part == "decode" else audio_input)(job)
    given = given.to(job.device, job.torch_dtype)
    return Work(lambda: code(net, job.part, given).float().cpu(), weights_of(net))
