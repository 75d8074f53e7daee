"""What narrower arithmetic would do to the autoencoder on a CPU: decibels and time against float32.

Forms that the pack does not offer are tried on the loaded net: all of it in bfloat16, its products
alone in bfloat16 or in 8 bits, those with and without SmoothQuant (Xiao et al., 2023: a channel's
range is shared between activations and weights). Forms take turns with float32.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa3_core.checkpoints.library import Library
from sa3_core.checkpoints.load import load_autoencoder
from sa3_core.networks import ops
from sa3_core.networks.integer import integer_linear
from sa3_core.networks.quantised import quantise
from sa3_core.networks.same import SAMEAutoencoder
from tests.benchmarks.cases.jobs import Job, audio_input, latent_input
from tests.benchmarks.cases.options import Options
from tests.benchmarks.checkpoints import checkpoint
from tests.benchmarks.measuring import machine

SECONDS, ROUNDS = 10.0, 3
OFFERED_FROM = 45.0  # dB
SMOOTHING = 0.5  # SmoothQuant's alpha
Product = Callable[[nn.Linear, Tensor], Tensor]


def decibels(found: Tensor, exact: Tensor) -> float:
    """Signal over difference."""
    exact = exact.detach().double()
    difference = float((found.detach().double() - exact).norm())
    return 20 * math.log10(float(exact.norm()) / difference) if difference else math.inf


def in_bfloat16(layer: nn.Linear, x: Tensor) -> Tensor:
    """A product in bfloat16 between float32."""
    shift = None if layer.bias is None else layer.bias.bfloat16()
    return F.linear(x.bfloat16(), layer.weight.bfloat16(), shift).to(x.dtype)


class In8Bits:
    """Products in 8 bits, each layer's weight rounded once.

    Args:
        ranges: largest value of each input channel by layer, for SmoothQuant; None = without.
    """

    def __init__(self, ranges: dict[int, Tensor] | None = None) -> None:
        self._ranges = ranges
        self._kept: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}

    def __call__(self, layer: nn.Linear, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if id(layer) not in self._kept:
            self._kept[id(layer)] = self._prepared(layer)
        narrow, scale, shared = self._kept[id(layer)]
        return integer_linear(x if shared is None else x / shared, narrow, scale, layer.bias)

    def _prepared(self, layer: nn.Linear) -> tuple[Tensor, Tensor, Tensor | None]:
        if self._ranges is None:
            return (*quantise(layer.weight, "int8"), None)
        of_weight = layer.weight.abs().amax(dim=0).clamp_min(1e-6)
        shared = self._ranges[id(layer)].clamp_min(1e-6) ** SMOOTHING
        shared = shared / of_weight ** (1 - SMOOTHING)
        return (*quantise(layer.weight * shared, "int8"), shared)


@contextmanager
def products(product: Product | None) -> Iterator[None]:
    """Compute every linear layer's product like this; None = as it is."""
    if product is None:
        yield
        return
    with patch.object(ops.Linear, "forward", lambda self, input: product(self, input)):
        yield


def ranges_of(work: Callable[[], Tensor]) -> dict[int, Tensor]:
    """The largest value of each input channel of each linear layer."""
    found: dict[int, Tensor] = defaultdict(lambda: torch.zeros(()))
    plain = ops.Linear.forward

    def noting(layer: nn.Linear, x: Tensor) -> Tensor:
        found[id(layer)] = torch.maximum(found[id(layer)], x.flatten(0, -2).abs().amax(dim=0))
        return plain(layer, x)  # pyright: ignore[reportArgumentType]

    with products(noting):
        work()
    return found


def rows(name: str, folder: Path, seconds: float, rounds: int) -> list[str]:
    """Every form of one autoencoder, encoding and decoding."""
    net, half = load_autoencoder(folder, torch.float32), load_autoencoder(folder, torch.bfloat16)
    given = {
        part: make(Job(part, str(folder), "fp32", seconds))
        for part, make in (("encode", audio_input), ("decode", latent_input))
    }
    given["decode"] = net.encode(given["encode"])  # latents of a sound
    lines = []
    for part, x in given.items():
        run = lambda net=net, x=x, part=part: _coded(net, part, x)  # noqa: E731
        other = lambda x=x, part=part: _coded(half, part, x.bfloat16())  # noqa: E731
        forms: dict[str, tuple[Callable[[], Tensor], Product | None]] = {
            "bfloat16": (other, None),
            "products in bfloat16": (run, in_bfloat16),
            "products in 8 bits": (run, In8Bits()),
            "8 bits, SmoothQuant": (run, In8Bits(ranges_of(run))),
        }
        exact = run()
        for form, (work, product) in forms.items():
            with products(product):
                distance = decibels(work(), exact)
            pairs = [(_timed(run, None), _timed(work, product)) for _ in range(rounds)]
            gain = min(a for a, _ in pairs) / min(b for _, b in pairs)
            enough = "yes" if distance >= OFFERED_FROM else "no"
            lines.append(f"| {name} | {part} | {form} | {distance:.1f} | {enough} | {gain:.2f}x |")
            print(lines[-1], flush=True)
    return lines


def _coded(net: SAMEAutoencoder, part: str, x: Tensor) -> Tensor:
    return net.encode(x) if part == "encode" else net.decode(x)


def _timed(work: Callable[[], Tensor], product: Product | None) -> float:
    with products(product):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start


def run(options: Options) -> str:
    """Try every form and return a Markdown table."""
    seconds = SECONDS / (10 if options.quick else 1)
    seconds = options.seconds[0] if options.seconds else seconds
    names = ("demo", "tiny-s", "tiny-m") if options.quick else ("demo", "small-music", "same-l")
    names = tuple(name for name in names if not options.only or name in options.only)
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    lines = [
        *("# The autoencoder in narrower arithmetic", ""),
        f"{machine.describe()}, {torch.get_num_threads()} threads, {seconds:g} s.",
        "",
        f"| weights | part | form | dB | at least {OFFERED_FROM:g} dB | times as fast |",
        "|---|---|---|---|---|---|",
    ]
    with torch.inference_mode(), tempfile.TemporaryDirectory() as base:
        demo = Library.from_models_dir(Path(base))
        for name in names:
            folder = demo.resolve(name, "model") if name == "demo" else checkpoint(name)
            lines += rows(name, folder, seconds, rounds)
    return "\n".join([*lines, ""])
