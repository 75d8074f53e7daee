"""Weights that a file keeps in 8 bits, in ComfyUI's layouts, and how they become wide again.

- `<layer>.comfy_quant`: JSON bytes that name the format, with `<layer>.weight_scale`; or the same
  JSON for all layers in the header's metadata.
- the older `scaled_fp8`: a marker tensor above layers with a `scale_weight` each.
- plain float8: no scale at all.

Scales of activations (`input_scale`, `scale_input`) are for products in 8 bits, which are not made
here. What cannot be read exactly is refused: a scale that is overlooked would be noise.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

FORMATS: Mapping[str, tuple[str, ...]] = {  # by ComfyUI's names: types in a file's header
    "float8_e4m3fn": ("F8_E4M3",),
    "float8_e5m2": ("F8_E5M2",),
    "int8_tensorwise": ("I8",),
}
FLOAT8 = ("F8_E4M3", "F8_E5M2")
_MARK, _OLD_MARK, _IN_METADATA = ".comfy_quant", "scaled_fp8", "_quantization_metadata"
_SCALE, _OLD_SCALE = ".weight_scale", ".scale_weight"
_UNUSED = (".input_scale", ".scale_input")  # of activations
_FOREIGN = (".pre_quant_scale", ".weight_scale_2")  # of formats that are not read

Read = Callable[[list[str]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class QuantisedWeights:
    """Which tensors of a file are stored in 8 bits.

    Attributes:
        scales: name of a weight -> name of its scale; None = it has none.
        beside: names of tensors that only describe others.
    """

    scales: Mapping[str, str | None] = field(default_factory=dict)
    beside: frozenset[str] = frozenset()

    def needed(self, names: Iterable[str]) -> list[str]:
        """The tensors to read for these: themselves, and their scales."""
        wanted = list(names)
        scales = (self.scales.get(name) for name in wanted)
        return [*wanted, *(scale for scale in scales if scale is not None)]

    def widened(
        self, name: str, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None
    ) -> Tensor:
        """A weight of the file, computed in float32 where it is stored in 8 bits.

        Args:
            name: of the tensor.
            tensors: what `needed` names.
            dtype: of a weight that is stored in 8 bits; None = float32.
        """
        value = tensors[name]
        if name not in self.scales:
            return value
        scale = self.scales[name]
        wide = value.float()
        if scale is not None:
            factor = tensors[scale].float()  # one, or one for each output channel
            shape = (-1, *[1] * (wide.dim() - 1)) if factor.numel() > 1 else ()
            wide.mul_(factor.reshape(shape))
        return wide.to(dtype or torch.float32)


def find_quantised(
    header: Mapping[str, Any], metadata: Mapping[str, str], read: Read, file: Path
) -> QuantisedWeights:
    """Find the weights that a file keeps in 8 bits.

    Args:
        header: tensor name -> entry, without the metadata.
        metadata: of the header.
        read: returns tensors by name; called for descriptions, which are a few bytes each.
        file: for messages.

    Raises:
        CheckpointError: a format that is not known, or a scale that is missing or does not fit,
            naming the layer.
    """
    layers = _described(header, metadata, read, file)
    scales: dict[str, str | None] = {}
    beside = {name for name in header if name.endswith(_MARK)}
    for layer, (conf, suffix) in layers.items():
        weight, scale = f"{layer}.weight", layer + suffix
        _check_layer(header, layer, conf, scale, file)
        scales[weight] = scale
        beside |= {scale, *(layer + end for end in _UNUSED if layer + end in header)}
    beside |= {name for name in header if _is_old_mark(name)}
    plain = (name for name, entry in header.items() if entry["dtype"] in FLOAT8)
    scales |= {name: None for name in plain if name not in scales and name not in beside}
    return QuantisedWeights(scales, frozenset(beside))


def description(format: str) -> bytes:
    """What `<layer>.comfy_quant` holds of a layer in one of FORMATS."""
    return json.dumps({"format": format}).encode()


def beside_names(weight: str) -> tuple[str, str]:
    """The names of a quantised weight's scale and description."""
    layer = weight.removesuffix(".weight")
    return layer + _SCALE, layer + _MARK


def refuse_rewriting(header: Mapping[str, Any], metadata: Mapping[str, str], file: Path) -> None:
    """Refuse a file with weights in 8 bits where a changed copy of it is to be written.

    Raises:
        CheckpointError: naming the file.
    """
    marked = any(name.endswith(_MARK) or entry["dtype"] in FLOAT8 for name, entry in header.items())
    if marked or _IN_METADATA in metadata:
        raise CheckpointError(
            f"{file.name} holds weights in 8 bits; a changed copy would round them again. Use the "
            "unquantised file of the model."
        )


def _described(
    header: Mapping[str, Any], metadata: Mapping[str, str], read: Read, file: Path
) -> dict[str, tuple[Mapping[str, Any], str]]:
    """Layer -> what the file says of it, and the suffix of its scale."""
    layers: dict[str, tuple[Mapping[str, Any], str]] = {}
    for name in header:
        if _is_old_mark(name):
            above = name.removesuffix(_OLD_MARK)
            ours = (n for n in header if n.startswith(above) and n.endswith(_OLD_SCALE))
            for layer in (n.removesuffix(_OLD_SCALE) for n in ours):
                stored = header.get(f"{layer}.weight", {}).get("dtype")
                kind = "float8_e5m2" if stored == "F8_E5M2" else "float8_e4m3fn"
                layers[layer] = ({"format": kind}, _OLD_SCALE)
    listed = metadata.get(_IN_METADATA)
    if listed is not None:
        found = _read_json(listed, f"{file.name}: {_IN_METADATA!r}").get("layers")
        for layer, conf in (found if isinstance(found, dict) else {}).items():
            whole = [n for n in header if n == f"{layer}.weight" or n.endswith(f".{layer}.weight")]
            layers |= {n.removesuffix(".weight"): (conf, _SCALE) for n in whole[:1]}
    marks = [name for name in header if name.endswith(_MARK)]
    for name, tensor in read(marks).items() if marks else ():
        text = bytes(tensor.flatten().to(torch.uint8).tolist())
        layers[name.removesuffix(_MARK)] = (_read_json(text, f"{file.name}: {name!r}"), _SCALE)
    return layers


def _is_old_mark(name: str) -> bool:
    return name == _OLD_MARK or name.endswith("." + _OLD_MARK)


def _read_json(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CheckpointError(f"{what} is no description of a quantised layer. Is it damaged?")
    return value


def _check_layer(
    header: Mapping[str, Any], layer: str, conf: object, scale: str, file: Path
) -> None:
    """Refuse what could not be widened exactly."""
    given = conf if isinstance(conf, dict) else {}
    params, name = given.get("params"), str(given.get("format"))
    more = params if isinstance(params, dict) else {}
    shown = f"{name} with convrot" if given.get("convrot") or more.get("convrot") else name
    foreign = any(layer + suffix in header for suffix in _FOREIGN)
    if shown not in FORMATS or foreign:
        raise CheckpointError(
            f"{file.name}: the layer {layer!r} is quantised as {shown}, which is not read here; "
            f"known: {', '.join(FORMATS)}. Use another form of the model."
        )
    weight = header.get(f"{layer}.weight")
    if weight is None or weight["dtype"] not in FORMATS[name]:
        holds = "is missing" if weight is None else f"is {weight['dtype']}"
        raise CheckpointError(
            f"{file.name}: the layer {layer!r} is said to be {name}, but its weight {holds}. Is "
            "the file damaged?"
        )
    sizes = (1, weight["shape"][0] if weight["shape"] else 1)
    if scale not in header or math.prod(header[scale]["shape"]) not in sizes:
        fault = "has the wrong size" if scale in header else "is missing"
        raise CheckpointError(
            f"{file.name}: the layer {layer!r} is {name}, but its scale {scale!r} {fault}. Is the "
            "file damaged?"
        )
