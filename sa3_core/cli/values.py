"""How values on the command line are read: LoRAs, intervals, durations."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..adapters.layer_filter import LayerFilter
from ..adapters.use import AdapterUse
from ..checks import check_interval, read_seed
from ..errors import InputError
from ..jobs.fields import read_lora, read_path, read_seconds
from ..networks.quantised import STORAGES
from ..sampling.noise import RANDOM_SEED, parse_seeds

Value = TypeVar("Value")

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"


def parse_lora(text: str) -> AdapterUse[str]:
    r"""Read `FILE` or `FILE:STRENGTH`; `C:\x.safetensors:0.8` is a file on drive C at 0.8."""
    return _read(read_lora, text)


def parse_path(text: str) -> Path:
    """Read the path of a file or a folder."""
    return _read(read_path, text)


def _read(reader: Callable[[str], Value], text: str) -> Value:
    """What a reader makes of a text, its error as argparse wants it."""
    try:
        return reader(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_interval(text: str) -> tuple[float, float]:
    """Read `MIN-MAX`, noise levels within 0-1."""
    match = re.fullmatch(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*", text)
    given = (float(match[1]), float(match[2])) if match else (math.nan, math.nan)
    try:
        return check_interval("interval", given)
    except InputError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be MIN-MAX within 0-1, like 0.2-0.8"
        ) from None


def parse_layers(text: str) -> LayerFilter:
    """Read parts of layer names; see LayerFilter."""
    try:
        return LayerFilter(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error.named(lambda _: "the filter"))) from None


def parse_wide(text: str) -> str:
    """Read a precision where nothing can be stored in 8 bits."""
    if text in STORAGES:
        raise argparse.ArgumentTypeError(
            f"{text} stores the large weights of the transformer in 8 bits, for `generate` and "
            "`train` alone; nothing else is stored so. Choose auto, fp32, bf16 or fp16"
        )
    return text


def parse_seed(text: str) -> int:
    """Read a seed, with the range that the nodes' widgets have; -1 = one at random."""
    if text.strip() == str(RANDOM_SEED):
        return RANDOM_SEED
    return parse_fixed_seed(text)


def parse_fixed_seed(text: str) -> int:
    """Read a seed that is no random one."""
    return _read(read_seed, text)


def parse_seconds(text: str) -> float:
    """Read seconds (`12.5`) or minutes and seconds (`1:02.5`); the range is checked later."""
    return _read(read_seconds, text)


def parse_seed_list(text: str) -> list[int]:
    """Read `7, 9, 20-23`."""
    return _read(parse_seeds, text)


class LastLora(argparse.Action):
    """Changes one field of the `--lora` given before."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        loras: list[AdapterUse[str]] = list(getattr(namespace, "lora", None) or [])
        if not loras:
            raise argparse.ArgumentError(self, "must come after the --lora it applies to")
        value = True if self.nargs == 0 else values
        loras[-1] = replace(loras[-1], **{self.dest.removeprefix("lora_"): value})
        namespace.lora = loras


def given_loras(args: argparse.Namespace) -> Sequence[AdapterUse[str]]:
    """The LoRAs of a command, in order."""
    return tuple(args.lora or ())
