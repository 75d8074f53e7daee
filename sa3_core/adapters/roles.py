"""Tensors of a layer by role: what is asked of them, whatever trainer wrote them."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .config import AdapterConfig
from .rules import LowRank


def require(roles: Mapping[str, Tensor], names: Iterable[str]) -> None:
    """ValueError where a role is missing."""
    missing = [name for name in names if name not in roles]
    if missing:
        raise ValueError(f"without {', '.join(missing)}.")


def check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """ValueError where a tensor is no floats or not finite."""
    for role, tensor in tensors.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{role} holds values that are not finite numbers.")


def own_alpha(roles: Mapping[str, Tensor]) -> float | None:
    """The alpha that a layer stores itself, of any number type."""
    if "alpha" not in roles:
        return None
    tensor = roles["alpha"]
    if tensor.numel() != 1 or tensor.is_complex() or not math.isfinite(tensor.item()):
        raise ValueError(f"alpha is {tensor.tolist()}; it must be one finite number.")
    return float(tensor.item())


def alpha_of(path: str, roles: Mapping[str, Tensor], config: AdapterConfig, rank: int) -> float:
    """The layer's own alpha, else that of the file's settings, else the rank."""
    own = own_alpha(roles)
    return config.alpha_of(path, rank) if own is None else own


def low_rank_pair(roles: Mapping[str, Tensor]) -> LowRank:
    """A and B as matrices; convolutions store them with their kernel axes, LoCon with a core."""
    require(roles, ("lora_A", "lora_B"))
    a, b = roles["lora_A"], roles["lora_B"]
    pair = {role: roles[role] for role in ("lora_A", "lora_B", "lora_mid") if role in roles}
    check_numbers(pair)
    if "magnitude" in roles:
        check_numbers({"magnitude": roles["magnitude"]})
    if a.ndim < 2 or b.ndim < 2 or not a.shape[0] or a.shape[0] != b.flatten(1).shape[1]:
        raise ValueError(
            f"lora_A {list(a.shape)} and lora_B {list(b.shape)} do not share one rank."
        )
    core = roles.get("lora_mid")
    if core is not None:
        if core.ndim < 2 or core.shape[:2] != (a.shape[0], a.shape[0]):
            raise ValueError(f"lora_mid is {list(core.shape)}, the rank {a.shape[0]}.")
        a = torch.einsum("mn...,nj->mj...", core.float(), a.flatten(1).float())
    return LowRank(a.flatten(1), b.flatten(1))
