"""Reading Stable Audio 3 checkpoints: safetensors only, strictly, in all published layouts.

A file holds up to three parts, told apart by prefix: `dit` (`model.model.`), `same`
(`pretransform.model.`, or no prefix in a standalone autoencoder) and `conditioner`
(`conditioner.`). Some files carry extra path levels in front; they are dropped. Tensors under
other prefixes are ignored with one log line; under ours, every tensor must be known.
"""

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files.published import (
    CONDITIONER_PREFIX,
    CONFIG_FILE,
    DIT_PREFIX,
    HEADER_DTYPES,
    SAME_PREFIX,
    WEIGHTS_FILE,
)
from ..files.quantised_file import FLOAT8, QuantisedWeights, find_quantised
from ..files.states import FileStates
from ..files.tensor_file import check_finite, check_floats, open_tensors, read_header
from ..networks.config import ModelConfig
from .config_json import build_config, read_config

log = logging.getLogger(__name__)


# An extra `model.` level would itself look like the DiT's prefix, hence the look-ahead.
_PREFIXES = {
    "dit": re.compile(re.escape(DIT_PREFIX) + r"(?!model\.)"),
    "same": re.compile(re.escape(SAME_PREFIX)),
    "conditioner": re.compile(re.escape(CONDITIONER_PREFIX)),
}
_ADAPTABLE = {"dit": DIT_PREFIX, "conditioner": CONDITIONER_PREFIX}  # what LoRAs may change
# Suffixes of gain and direction of weight-normalised layers, folded into ".weight": a plain weight
# streams like every other one under a host's memory manager.
_PAIRS = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)
_STANDALONE = re.compile(r"(?:encoder|decoder|bottleneck)\.")
_NORMED = re.compile(r"\.(?:weight_[gv]|parametrizations\.weight\.original[01])$")


@dataclass(frozen=True)
class Checkpoint:
    """An opened weights file.

    Attributes:
        path: the safetensors file.
        parts: part name -> {key inside the part: key in the file}.
        shapes: part name -> {key inside the part: shape}, weight norm not yet folded.
        config: sizes and settings of what it holds.
        metadata: of the file's header.
        dtypes: part name -> dtype of most of its weights.
        read: returns the file's tensors for a list of file keys.
        files: the file as it was when its header was read.
        quantised: which of its weights lie in 8 bits.
    """

    path: Path
    parts: Mapping[str, Mapping[str, str]]
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
    config: ModelConfig
    metadata: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)
    read: Callable[[list[str]], dict[str, Tensor]] = field(default=lambda keys: {}, repr=False)
    files: FileStates = field(default_factory=FileStates)
    quantised: QuantisedWeights = field(default_factory=QuantisedWeights)

    def tensors(self, part: str, dtype: torch.dtype | None) -> dict[str, Tensor]:
        """The part's tensors by key, weight norm folded, memory-mapped where dtype already fits.

        Args:
            part: `dit`, `same` or `conditioner`.
            dtype: of the result, None = each as in the file, 8 bits in float32; rotary frequencies
                stay as they are.

        Raises:
            CheckpointError: weights that are no floats or not finite (also as `dtype`), half of a
                weight-norm pair, or a file that is no longer the one that was opened.
        """
        self.files.check()
        names = self.parts[part]
        raw = self.read(self.quantised.needed(names.values()))
        found = {  # those in 8 bits are never all wide in float32 beside each other
            key: self.quantised.widened(name, raw, None if _NORMED.search(key) else dtype)
            for key, name in names.items()
        }
        check_floats(found, self.path.name)
        check_finite({names[key]: value for key, value in found.items()}, self.path.name)
        # Gains and directions are folded in float32, so that their product is rounded only once.
        found = {k: v.float() if _NORMED.search(k) else v for k, v in found.items()}
        made = {
            k: v if dtype is None or k.endswith("inv_freq") else v.to(dtype)
            for k, v in fold_weight_norm(found).items()
        }
        # Sound values overflow in float16 alone; a direction of zeros has no norm to divide by.
        narrow = dtype == torch.float16
        check_finite(
            {k: v for k, v in made.items() if k not in found or (narrow and v is not found[k])},
            f"{self.path.name} as {dtype or 'stored'}",
        )
        return made

    def adaptable_names(self) -> dict[str, str]:
        """Checkpoint key -> key in the file of every weight that a LoRA may change."""
        return {
            prefix + key: name
            for part, prefix in _ADAPTABLE.items()
            for key, name in self.parts.get(part, {}).items()
        }

    def adaptable_shapes(self) -> dict[str, tuple[int, ...]]:
        """Checkpoint key -> shape of every weight that a LoRA may change."""
        return {
            prefix + key: shape
            for part, prefix in _ADAPTABLE.items()
            for key, shape in self.shapes.get(part, {}).items()
        }

    def originals(self) -> dict[str, Callable[[], Tensor]]:
        """Checkpoint key -> a function that reads the weight as in the file, 8 bits in float32."""
        return {key: partial(self._one, name) for key, name in self.adaptable_names().items()}

    def _one(self, name: str) -> Tensor:
        return self.quantised.widened(name, self.read(self.quantised.needed([name])))


def open_checkpoint(
    path: Path,
    need: tuple[str, ...] = ("dit", "same", "conditioner"),
    read: Callable[[Path], Mapping[str, Tensor]] | None = None,
) -> Checkpoint:
    """Open a model folder, a single file or a standalone autoencoder.

    Args:
        path: a folder with model.safetensors (and model_config.json), or a .safetensors file.
        need: parts that must be there, at least one.
        read: the host's own file reader; by default tensors are memory-mapped as they are used.

    Raises:
        CheckpointError: no such file, not safetensors, truncated, or the needed parts are missing.
        ConfigError: model_config.json contradicts the tensors or asks for something unknown here.
    """
    file = path / WEIGHTS_FILE if path.is_dir() else path
    files = FileStates.of([file])  # before anything is read
    header, metadata = _read_header(file)
    mapped = _mapped_reader(file, header)
    quantised = find_quantised(header, metadata, mapped, file)
    header = {name: entry for name, entry in header.items() if name not in quantised.beside}
    parts = _split(header, file)
    _require(parts, need, file)
    shapes = {
        part: {key: tuple(header[name]["shape"]) for key, name in names.items()}
        for part, names in parts.items()
    }
    dtypes = {
        part: _main_dtype(header[name] for name in names.values()) for part, names in parts.items()
    }
    config_path = file.parent / CONFIG_FILE
    has_config = file.name == WEIGHTS_FILE and config_path.is_file()
    raw = read_config(config_path) if has_config else None
    config = build_config(shapes.get("dit"), shapes.get("same"), raw)
    reader = mapped if read is None else _host_reader(file, read)
    return Checkpoint(file, parts, shapes, config, metadata, dtypes, reader, files, quantised)


def _read_header(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Entries by tensor name, and the metadata, of a file that may be opened at all."""
    if file.is_file() and file.suffix != ".safetensors":
        raise CheckpointError(
            f"{file.name}: only .safetensors files are loaded; others, such as .ckpt or .pt, may "
            "hold executable pickles. Convert it with safetensors, or download the official file."
        )
    header = read_header(file)
    metadata = header.pop("__metadata__", None)
    return header, dict(metadata or {})


def _main_dtype(entries: Iterable[Mapping[str, Any]]) -> torch.dtype:
    """The dtype that most weights have; some stay float32 in files of half precision.

    Of those in 8 bits no dtype is known: that of the others, else bfloat16, which is as wide.
    """
    elements: dict[str, int] = {}
    narrow = (*FLOAT8, "I8")
    for entry in entries:
        if entry["dtype"] in narrow:
            continue
        elements[entry["dtype"]] = elements.get(entry["dtype"], 0) + math.prod(entry["shape"])
    if not elements:
        return torch.bfloat16
    return HEADER_DTYPES.get(max(elements, key=lambda name: elements[name]), torch.float32)


def _locate(key: str) -> tuple[str, str] | None:
    """Part and key inside the part of a file key; leading path levels are dropped."""
    levels = key.split(".")
    for dropped in range(len(levels) - 1):
        rest = ".".join(levels[dropped:])
        for part, pattern in _PREFIXES.items():
            match = pattern.match(rest)
            if match:
                return part, rest[match.end() :]
    return None


def _split(names: Iterable[str], file: Path) -> dict[str, dict[str, str]]:
    """{part: {key inside the part: key in the file}}; the rest gets one log line."""
    parts: dict[str, dict[str, str]] = {}
    other: list[str] = []
    # Shortest first: where a copy lies under a longer path (averaged weights), it is left out.
    for name in sorted(names, key=lambda name: name.count(".")):
        found = _locate(name)
        if found is None or found[1] in parts.get(found[0], {}):
            other.append(name)
        else:
            parts.setdefault(found[0], {})[found[1]] = name
    same = {} if parts else _standalone(other)
    if same:
        parts["same"] = same
        other = sorted(set(other) - set(same.values()))
    if other and parts:
        log.info("%s: %d tensors of other models ignored (%s)", file.name, len(other), other[0])
    return parts


def _standalone(names: Iterable[str]) -> dict[str, str]:
    """{key: key in the file} of an autoencoder without prefix, or below one path level."""
    for dropped in range(2):
        cut = {name.split(".", dropped)[-1]: name for name in names}
        same = {key: name for key, name in cut.items() if _STANDALONE.match(key)}
        if any(".new_tokens" in key for key in same):
            return same
    return {}


def _require(parts: Mapping[str, object], need: tuple[str, ...], file: Path) -> None:
    missing = [part for part in need if part not in parts]
    if not missing:
        return
    if not {"dit", "same"} & set(parts):
        raise CheckpointError(
            f"{file.name} is not a Stable Audio 3 file: none of its tensors belongs to the model "
            "(it looks like another kind of checkpoint). Choose a stable_audio_3 file."
        )
    if set(parts) == {"same"}:
        raise CheckpointError(
            f"{file.name} holds a SAME autoencoder only, no diffusion model. Open it as an "
            "autoencoder, or choose a full model here."
        )
    names = {"dit": "diffusion transformer", "same": "autoencoder", "conditioner": "conditioner"}
    text = " and ".join(names[part] for part in missing)
    raise CheckpointError(f"{file.name} lacks the {text}. Is the file complete? Download it again.")


def _mapped_reader(
    file: Path, header: Mapping[str, Any]
) -> Callable[[list[str]], dict[str, Tensor]]:
    def read(keys: list[str]) -> dict[str, Tensor]:
        with open_tensors(file, header) as tensors:
            return {key: tensors.get(key) for key in keys}

    return read


def _host_reader(
    file: Path, load: Callable[[Path], Mapping[str, Tensor]]
) -> Callable[[list[str]], dict[str, Tensor]]:
    def read(keys: list[str]) -> dict[str, Tensor]:
        everything = load(file)
        return {key: everything[key] for key in keys}

    return read


def fold_pair(gain: Tensor, direction: Tensor) -> Tensor:
    """gain * direction / |direction|, the norm over all dimensions but the first.

    Args:
        gain: [out, 1, 1].
        direction: [out, in, taps].

    Returns:
        [out, in, taps] in the dtype of `direction`, computed in float32.

    Source: Salimans and Kingma, arXiv 1602.07868, as torch.nn.utils.weight_norm with dim 0.
    """
    wide = direction.float()
    norm = torch.linalg.vector_norm(wide.flatten(1), dim=1).view(-1, *[1] * (wide.dim() - 1))
    return (wide * (gain.float() / norm)).to(direction.dtype)


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy of a state dict in which every weight-norm pair has become one `.weight`.

    Args:
        tensors: state dict with any key prefix; other tensors are passed on as they are.

    Raises:
        CheckpointError: half of a pair is missing, or the plain weight is there as well.
    """
    folded = dict(tensors)
    for gain_suffix, direction_suffix in _PAIRS:
        names = {
            key[: -len(suffix)]
            for suffix in (gain_suffix, direction_suffix)
            for key in tensors
            if key.endswith(suffix)
        }
        for name in sorted(names):
            gain = folded.pop(name + gain_suffix, None)
            direction = folded.pop(name + direction_suffix, None)
            if gain is None or direction is None:
                lost = gain_suffix if gain is None else direction_suffix
                raise CheckpointError(
                    f"The weight-normalised layer {name!r} lacks its tensor {name + lost!r}. "
                    "Is the file damaged or cut?"
                )
            if name + ".weight" in folded:
                raise CheckpointError(
                    f"The layer {name!r} has both a plain and a weight-normalised weight; "
                    "which one counts cannot be told."
                )
            if gain.shape != (len(direction), *[1] * (direction.dim() - 1)):
                raise CheckpointError(
                    f"The weight-normalised layer {name!r} has gains {list(gain.shape)} for a "
                    f"direction {list(direction.shape)}; there must be one per row. Is the file "
                    "damaged?"
                )
            folded[name + ".weight"] = fold_pair(gain, direction)
    return folded
