"""Settings that a LoRA file carries beside its tensors: type, rank, alpha, trained layers."""

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks import shown
from ..errors import AdapterError, UnknownNameError
from ..files.json_text import parse_json
from .rules import ADAPTER_TYPES

log = logging.getLogger(__name__)

_MOST = 65_536  # of a rank
LEGACY_DORA = "dora"  # rows or columns, told apart by the magnitudes' shape


@dataclass(frozen=True)
class AdapterConfig:
    """Settings of a LoRA file.

    Attributes:
        adapter_type: one of ADAPTER_TYPES or LEGACY_DORA; None where only the tensors tell.
        rank: as written; None where only the tensors tell. Layers may have their own.
        alpha: None = equal to the rank, i.e. a scale of 1.
        include: layer name parts that were trained, for display.
        exclude: layer name parts that were left out of training, for display.
        rank_stabilised: scale alpha / sqrt(rank) instead of alpha / rank (PEFT's rsLoRA).
        alpha_pattern: own alphas of layers, by regular expression on the end of their path (PEFT).
    """

    adapter_type: str | None = None
    rank: int | None = None
    alpha: float | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    rank_stabilised: bool = False
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def alpha_of(self, path: str, rank: int) -> float:
        """The alpha of a layer that stores none itself."""
        for pattern, alpha in self.alpha_pattern.items():
            if re.match(rf"(?:.*\.)?(?:{pattern})$", path):
                return alpha
        return float(rank) if self.alpha is None else self.alpha

    def scale(self, alpha: float, rank: int) -> float:
        """Factor of the low-rank product at strength 1."""
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank


def native_config(file: str, metadata: Mapping[str, str]) -> AdapterConfig:
    """Settings from Stable Audio 3's `lora_config` entry.

    Raises:
        AdapterError: the entry is missing, unreadable or names an unknown adapter type.
    """
    text = metadata.get("lora_config")
    if text is None:
        raise AdapterError(
            f"{file} has no 'lora_config' in its metadata, so its type, rank and alpha are "
            "unknown. Take the file as the training script saved it, or save it again with its "
            "metadata."
        )
    raw = _json_object(file, "lora_config", text)
    adapter_type = raw.get("adapter_type", "lora")
    if adapter_type not in (*ADAPTER_TYPES, LEGACY_DORA):
        unknown = UnknownNameError("adapter type", str(adapter_type), ADAPTER_TYPES)
        raise AdapterError(f"{file}: {unknown}")
    return AdapterConfig(
        adapter_type,
        _rank(file, raw.get("rank")),
        _alpha(file, raw.get("alpha")),
        _names(raw.get("include")),
        _names(raw.get("exclude")),
    )


def plain_config(path: Path, metadata: Mapping[str, str]) -> AdapterConfig:
    """Settings of a PEFT, diffusers or kohya file: its metadata, or PEFT's JSON beside it.

    Raises:
        AdapterError: they are there but unreadable, or ask for something that is not supported.
    """
    raw: dict[str, Any] = {}
    beside = path.with_name("adapter_config.json")
    if "lora_adapter_metadata" in metadata:
        entry = _json_object(path.name, "lora_adapter_metadata", metadata["lora_adapter_metadata"])
        raw = {key.removeprefix("transformer."): value for key, value in entry.items()}
    elif "lora_config" in metadata:
        raw = _json_object(path.name, "lora_config", metadata["lora_config"])
    elif path.stem == "adapter_model" and beside.is_file():
        text = beside.read_text(encoding="utf-8-sig", errors="replace")
        raw = _json_object(path.name, beside.name, text)
    pattern = raw.get("alpha_pattern")
    pattern = {} if pattern is None else pattern
    if not isinstance(pattern, dict):
        raise AdapterError(f"{path.name}: alpha_pattern is {shown(pattern)}; it must be an object.")
    try:
        for expression in pattern:
            re.compile(expression)
    except re.error as error:
        raise AdapterError(f"{path.name}: unreadable alpha_pattern ({error}).") from error
    return AdapterConfig(
        None,
        _rank(path.name, raw.get("r", raw.get("rank"))),
        _alpha(path.name, raw.get("lora_alpha", raw.get("alpha"))),
        _names(raw.get("target_modules", raw.get("include"))),
        _names(raw.get("exclude_modules", raw.get("exclude"))),
        bool(raw.get("use_rslora")),
        {key: _alpha(path.name, value) or 0.0 for key, value in pattern.items()},
    )


def _json_object(file: str, entry: str, text: str) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise AdapterError(f"{file}: its {entry} is not readable JSON ({error}).") from error
    if not isinstance(value, dict):
        raise AdapterError(f"{file}: its {entry} is not a JSON object but {text[:40]!r}.")
    return value


def _rank(file: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST:
        raise AdapterError(
            f"{file}: rank is {shown(value)}; it must be a whole number from 1 to {_MOST}."
        )
    return value


def _alpha(file: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AdapterError(f"{file}: alpha is {shown(value)}; it must be a finite number.")
    return float(value)


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
