"""Training under ComfyUI's management: memory it knows of, and tensors that gradients go through.

Nodes run in inference mode, whose tensors no gradient can use, and the host may keep weights
packed or on disk. So a net is trained as a copy of its own, which the host loads, counts and
unloads as any other model; the MODEL itself is never touched.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as mm
import torch
from torch import nn

from .running import make_patcher


class TrainedNets(nn.Module):
    """Nets that are trained, as the host manages them."""

    def __init__(self, nets: dict[str, nn.Module], check_files: Callable[[], None]) -> None:
        super().__init__()
        self.nets = nn.ModuleDict(nets)
        self.check_files = check_files


def training_device() -> torch.device:
    """Where the host computes."""
    device: torch.device = mm.get_torch_device()
    return device


@contextmanager
def gradients() -> Iterator[None]:
    """What is made inside of this block can be trained."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


class TrainingPlace:
    """The nets' place on the device; other models make room for what training takes there."""

    def __init__(self, nets: TrainedNets) -> None:
        self.device = training_device()
        self._patcher: Any = make_patcher(nets, self.device, mm.unet_offload_device(), classic=True)

    def take(self, memory: float = 0.0) -> None:
        """Load the nets, again where something else took their place.

        Args:
            memory: bytes that are needed beside their weights.
        """
        mm.load_models_gpu([self._patcher], math.ceil(memory), force_full_load=True)

    def free(self) -> float:
        """Bytes that can be taken beside the weights."""
        free: Any = mm.get_free_memory(self.device)
        return float(free)

    def leave(self) -> None:
        """Give the memory back."""
        self._patcher.detach()
        mm.cleanup_models()
        mm.soft_empty_cache()
