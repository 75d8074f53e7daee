"""How much memory training needs, and whether blocks are to run again on the way back.

Counted from the tensors that autograd keeps for the way back.
"""

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import InputError
from ..networks.model import SA3Model
from ..networks.quantised import QuantisedLinear
from .learner import Learner
from .settings import TrainSettings

_MEMINFO = Path("/proc/meminfo")
_SHARE = 0.9  # of what is free: allocators leave gaps


@dataclass(frozen=True)
class KeptBytes:
    """Bytes that autograd keeps per value (token times width).

    Attributes:
        block: all of a block.
        scaled: more where the inputs of layers are multiplied with magnitudes.
        inputs: less where nobody asks for those inputs again; where they are also scaled, nothing.
    """

    block: int
    scaled: int
    inputs: int

    def of(self, scaled: bool, asked: bool) -> int:
        """Of a block with adapters of a type."""
        if scaled == asked:
            return self.block + (self.scaled if scaled else -self.inputs)
        return self.block


KEPT = {  # differential attention, float32
    (False, True): KeptBytes(block=136, scaled=57, inputs=44),
    (False, False): KeptBytes(block=78, scaled=29, inputs=22),
    (True, True): KeptBytes(block=182, scaled=57, inputs=51),
    (True, False): KeptBytes(block=118, scaled=29, inputs=25),
}
ENDS = 41  # outside of the blocks, in every precision and type
RECOMPUTED = 4  # of a block that runs again: its input alone


@dataclass(frozen=True)
class Estimate:
    """Bytes that training takes.

    Attributes:
        weights: of the nets.
        learner: values, gradients and moments of what is trained.
        activations: of one part of a batch.
    """

    weights: float
    learner: float
    activations: float

    @property
    def total(self) -> float:
        """All together."""
        return self.weights + self.learner + self.activations

    def __str__(self) -> str:
        parts = (
            f"{self.total / 1e9:.1f} GB ({self.weights / 1e9:.1f} weights",
            f"{self.learner / 1e9:.1f} what is trained",
            f"{self.activations / 1e9:.1f} activations)",
        )
        return ", ".join(parts)


def estimate(
    model: SA3Model, learner: Learner, settings: TrainSettings, recompute: bool, world: int = 1
) -> Estimate:
    """What training will take on each device.

    Args:
        model: loaded.
        learner: on it.
        settings: batch and length.
        recompute: blocks run again on the way back.
        world: devices that share the batch.
    """
    config = model.config.dit
    assert config is not None
    kept = KEPT[config.differential, model.dtype == torch.float32]
    block = kept.of(learner.scales_inputs, learner.keeps_inputs)
    items = settings.batch // (settings.accumulate * world)
    values = config.width * items * (config.memory_tokens + settings.frames)
    every = RECOMPUTED * config.depth + block if recompute else block * config.depth
    nets = [*model.dit.parameters(), *model.conditioner.parameters()]
    own = {id(parameter) for parameter in nets}
    trained = learner.tensors().values()
    # A gradient and two moments beside each value, and the value unless the net computes with it.
    extra = sum(value.numel() * (12 if id(value) in own else 16) for value in trained)
    return Estimate(
        sum(parameter.numel() * parameter.element_size() for parameter in nets),
        extra,
        values * (every + ENDS) + (0 if recompute else _widened(model)),
    )


def _widened(model: SA3Model) -> float:
    """Bytes of the matrices that are stored in 8 bits, as they are kept once they are widened."""
    size = torch.empty((), dtype=model.dtype).element_size()
    layers = [m for m in model.dit.modules() if isinstance(m, QuantisedLinear)]
    return float(sum(layer.weight.numel() * size for layer in layers))


def choose_recompute(
    model: SA3Model,
    learner: Learner,
    settings: TrainSettings,
    wanted: bool | None = None,
    world: int = 1,
    free: float | None = None,
) -> tuple[bool, Estimate]:
    """Whether blocks run again on the way back, chosen by what is free.

    Args:
        model: loaded: its weights are not counted as free any more.
        learner: on it.
        settings: batch and length.
        wanted: the user's choice; None = only where memory needs it.
        world: devices that share the batch.
        free: bytes; None = what the device says. Where it says nothing, all is believed to fit.

    Returns:
        The choice, and what it takes.

    Raises:
        InputError: it does not fit, with the estimate.
    """
    free = free_memory(model.device) if free is None else free
    for recompute in (False, True) if wanted is None else (wanted,):
        found = estimate(model, learner, settings, recompute, world)
        if free is None or found.learner + found.activations <= _SHARE * free:
            return recompute, found
    assert free is not None
    advice = "" if wanted is not False else "recompute blocks, "
    raise InputError(
        f"Training needs {found}, and {free / 1e9:.1f} GB are free beside the weights. Train on "
        f"shorter crops, {advice}divide the batch (accumulate), lower the rank, or store the model "
        "in 8 bits."
    )


def free_memory(device: torch.device) -> float | None:
    """Bytes that can still be taken on a device; None where nobody tells."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type != "cpu":
        return None
    if sys.platform == "win32":
        return _windows_memory()
    try:
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return float(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _windows_memory() -> float | None:
    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "pages", "free_pages")),
            *((name, ctypes.c_ulonglong) for name in ("virtual", "free_virtual", "extended")),
        )

    status = Status(length=ctypes.sizeof(Status))
    library = getattr(ctypes, "windll", None)
    if library is None or not library.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return float(status.free)
