"""Checkpoints as ComfyUI quantises them, made of a tiny one, with the weights they stand for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

LINEAR = re.compile(r"^model\.model\..*(?:to_\w+|project_\w+|proj|\.[02])\.weight$")
F8, F8_RANGE = torch.float8_e4m3fn, torch.float8_e5m2
# name -> (format, type of the weight); how each lies in a file is in `quantised_tensors`
LAYOUTS = ("int8", "int8-tensor", "fp8", "fp8-range", "metadata", "scaled_fp8", "plain-fp8")
FORMATS = {
    "int8": ("int8_tensorwise", torch.int8),
    "int8-tensor": ("int8_tensorwise", torch.int8),
    "fp8": ("float8_e4m3fn", F8),
    "fp8-range": ("float8_e5m2", F8_RANGE),
    "metadata": ("float8_e4m3fn", F8),
    "scaled_fp8": ("float8_e4m3fn", F8),
    "plain-fp8": ("float8_e4m3fn", F8),
}


@dataclass
class Made:
    """A file's tensors and metadata, and the wide weights that it stands for."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    wide: dict[str, Tensor] = field(default_factory=dict)


def quantised_layers(tensors: Mapping[str, Tensor]) -> list[str]:
    """Layers whose weights have a scale."""
    ends = (".weight_scale", ".scale_weight")
    return [key.rpartition(".")[0] for key in tensors if key.endswith(ends)]


def quantised_tensors(weights: Mapping[str, Tensor], layout: str) -> Made:
    """A file of one of LAYOUTS; every linear layer of the diffusion transformer is in 8 bits."""
    made = Made({}, {}, {})
    name, kind = FORMATS[layout]
    described = {}
    for key, weight in weights.items():
        if not (LINEAR.search(key) and weight.ndim == 2):
            made.tensors[key] = made.wide[key] = weight
            continue
        layer = key.removesuffix(".weight")
        scale = _scale(weight, kind, rows=layout == "int8")
        if layout == "plain-fp8":
            scale = torch.ones(())
        scaled = weight / scale
        values = (scaled.round().clamp(-128, 127) if kind == torch.int8 else scaled).to(kind)
        made.tensors[key] = values
        made.wide[key] = values.float() * scale
        described[layer] = {"format": name}
        old = layout == "scaled_fp8"
        if layout != "plain-fp8":
            made.tensors[layer + (".scale_weight" if old else ".weight_scale")] = scale
            made.tensors[layer + (".scale_input" if old else ".input_scale")] = torch.tensor(0.5)
    if layout == "scaled_fp8":
        made.tensors["model.model.scaled_fp8"] = torch.empty(2, dtype=F8).zero_()
    elif layout == "metadata":
        made.metadata["_quantization_metadata"] = json.dumps({"layers": described})
    elif layout != "plain-fp8":
        for layer, conf in described.items():
            text = json.dumps(conf).encode()
            made.tensors[f"{layer}.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
    return made


def _scale(weight: Tensor, kind: torch.dtype, rows: bool) -> Tensor:
    if kind == torch.int8:
        largest = weight.abs().amax(dim=1, keepdim=True) if rows else weight.abs().amax()
        return largest / 127
    return weight.abs().amax() / torch.finfo(kind).max
