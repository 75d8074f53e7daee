"""A process's share of a step where several compute it together, each on its own device."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """Which part of each batch this process computes.

    Every process draws the whole batch, so that noises are coupled over all of it; only what is
    computed is divided.

    Attributes:
        rank: of this process, from 0; the first one writes files.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def items(self, batch: int) -> range:
        """The items of a batch that are this process's."""
        size = batch // self.world
        return range(self.rank * size, (self.rank + 1) * size)

    def add_up(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def add_up_gradients(self, parameters: Collection[Tensor]) -> None:
        """Give every process the gradients of the whole batch."""
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self.add_up(parameter.grad)

    @torch.no_grad()
    def start_alike(self, parameters: Collection[Tensor]) -> None:
        """Give every process the first one's values."""
        if self.world > 1:
            for parameter in parameters:
                dist.broadcast(parameter.data, 0)

    def wait(self) -> None:
        """Go on when all are here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Share, torch.device]]:
    """This process's share and device, as `torchrun` started it; all of it where nothing did.

    Args:
        device: asked for; of several cards each process takes its own.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Share(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Share(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
