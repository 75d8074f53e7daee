"""How single values are read from text: on the command line and in a manifest alike."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..adapters.use import AdapterUse
from ..checks import check_one_of, read_seed, shown
from ..editing.masks import MASK_RULES
from ..editing.regions import parse_time
from ..errors import InputError
from ..files.names import name_fault, short_name
from ..registry import AUTO
from ..sampling.samplers import SAMPLERS
from ..sampling.schedule import SHIFTS
from ..sampling.settings import KEEP_MODES, NOISE_SCHEDULES
from .rules import END, START

Reader = Callable[[str], Any]  # raises InputError; its sentence goes on after the value's name

_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_SEPARATOR = ";"  # of LoRAs and lists of regions in one cell


def read_path(text: str) -> Path:
    """The path of a file or a folder.

    Raises:
        InputError: a name that no file can have.
    """
    path = Path(text)
    if fault := name_fault(path):
        raise InputError(f"{short_name(path)!r} {fault}. Choose another name")
    return path


def read_seconds(text: str) -> float:
    """Seconds (`12.5`) or minutes and seconds (`1:02.5`); the range is checked later.

    Raises:
        InputError: neither.
    """
    try:
        return float(text)
    except ValueError:
        return parse_time(text)


def read_lora(text: str) -> AdapterUse[str]:
    r"""`FILE` or `FILE:STRENGTH`; `C:\x.safetensors:0.8` is a file on drive C at 0.8.

    Raises:
        InputError: nothing, or a strength that is not finite.
    """
    if not text:
        raise InputError("a LoRA file is needed")
    file, colon, tail = text.rpartition(":")
    if not colon or len(file) < 2 or Path(text).is_file():
        return AdapterUse(text)
    try:
        strength = float(tail)
    except ValueError:
        return AdapterUse(text)
    if not math.isfinite(strength):
        raise InputError(f"strength {tail!r} of {file!r} must be a finite number")
    return AdapterUse(file, strength)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"is {shown(text)}; it must be a number.")
    return value


def _whole(text: str) -> int:
    value = _number(text)
    if value != int(value):
        raise InputError(f"is {shown(text)}; it must be a whole number.")
    return int(value)


def _flag(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered not in (*_YES, *_NO):
        raise InputError(f"is {shown(text)}; it must be true or false.")
    return lowered in _YES


def _choice(*allowed: str) -> Reader:
    return lambda text: check_one_of("", text, allowed)


def _listed(read: Reader) -> Reader:
    """A list of one, as a flag that may be repeated has it."""
    return lambda text: [read(text)]


def _loras(text: str) -> list[AdapterUse[str]]:
    return [read_lora(part.strip()) for part in text.split(_SEPARATOR) if part.strip()]


def _words(text: str) -> list[str]:
    return text.split()


# The flags of `sa3 generate` that a row may set for itself, by the name of the parsed value.
READERS: dict[str, Reader] = {
    "prompt": _listed(str),
    "negative": _listed(str),
    "seconds": _listed(read_seconds),
    "bars": _number,
    "bpm": _number,
    "beats_per_bar": _number,
    "seed": _listed(read_seed),
    "variation_seed": read_seed,
    "variation_strength": _number,
    "steps": _whole,
    "sampler": _choice(AUTO, *SAMPLERS.names),
    "shift": _choice(AUTO, *SHIFTS.names),
    "shift_options": _words,
    "headroom": _number,
    "cfg": _number,
    "apg": _number,
    "cfg_start": _number,
    "cfg_end": _number,
    "norm_threshold": _number,
    "rescale": _number,
    "noise_schedule": _choice(*NOISE_SCHEDULES),
    "keep_mode": _choice(*KEEP_MODES),
    "init_audio": read_path,
    "inpaint_audio": read_path,
    "continue_audio": read_path,
    "extend_audio": read_path,
    "loop_audio": read_path,
    "denoise": _number,
    "region": _listed(str),
    "invert": _flag,
    "add": read_seconds,
    "where": _choice(END, START),
    "context_seconds": read_seconds,
    "overlap_seconds": read_seconds,
    "window_seconds": read_seconds,
    "seam_seconds": read_seconds,
    "keep_source_exactly": _flag,
    "crossfade_ms": _number,
    "rule": _choice(*MASK_RULES.names),
    "lora": _loras,
    "model": str,
}


@dataclass(frozen=True)
class Columns:
    """What the columns of a kind of manifest set.

    Attributes:
        readers: of the cells, by the name of the value.
        sources: those values that name a file which is read.
        other_names: further names of values.
    """

    readers: Mapping[str, Reader]
    sources: tuple[str, ...]
    other_names: Mapping[str, str] = field(default_factory=dict)

    def value_name(self, column: str) -> str | None:
        """The value that a column sets (`cfg-start` sets cfg_start); None = it is only carried."""
        name = column.strip().lower().removeprefix("--").replace("-", "_")
        name = self.other_names.get(name, name)
        return name if name in self.readers else None

    def has_source(self, values: Any) -> bool:
        """Whether a row reads a file of its own."""
        return any(getattr(values, name) is not None for name in self.sources)


GENERATE, DECODE = "generate", "decode"
COLUMNS: Mapping[str, Columns] = {
    GENERATE: Columns(
        READERS,
        ("init_audio", "inpaint_audio", "continue_audio", "extend_audio", "loop_audio"),
        {
            "noise_level": "denoise",
            "regions": "region",
            "mask_rule": "rule",
            "loras": "lora",
        },
    ),
    DECODE: Columns(
        {"latents": read_path, "item": _whole, "seconds": read_seconds, "model": str},
        ("latents",),
    ),
}
