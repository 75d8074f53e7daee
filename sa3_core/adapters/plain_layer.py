"""One layer of a LoRA file in PEFT's, diffusers', kohya's or LyCORIS' style."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .changes import Added, DiffusersRows, SetTo
from .config import AdapterConfig
from .keys import Module
from .kinds import Difference, GLoRA, LoHa, LoKr, Update
from .layer import Layer, LayerTensors, OtherLayer
from .roles import alpha_of, check_numbers, low_rank_pair, own_alpha, require
from .rotations import BOFT, OFT
from .rules import LowRank


@dataclass(frozen=True, eq=False)
class PlainLayer:
    """What a layer's tensors in PEFT's, diffusers', kohya's or LyCORIS' style do.

    Attributes:
        weight: to the weight, or to the parameter that is named.
        bias: to the bias beside it.
        roles: which tensors each of the two was read from.
        unused: tensors that do nothing.
    """

    weight: Layer | None
    bias: Layer | None
    weight_roles: tuple[str, ...]
    bias_roles: tuple[str, ...]
    unused: tuple[str, ...]


def plain_layer(
    path: str, module: Module, roles: Mapping[str, Tensor], config: AdapterConfig
) -> PlainLayer:
    """Find out what one layer's tensors are; ValueError says what is wrong with them.

    Where several change the same tensor the last of lora, loha, lokr, glora, oft, boft, w_norm,
    diff and set_weight counts, as in ComfyUI, and the others are unused.
    """
    used: tuple[str, ...] = ()
    weight: Layer | None = None
    for reader, triggers, others in _READERS:
        if not any(trigger in roles for trigger in triggers):
            continue
        wanted = tuple(role for role in roles if role in (*triggers, *others))
        found = reader(path, {role: roles[role] for role in wanted}, config)
        if found is not None:
            weight, used = found, wanted
            if isinstance(found, LayerTensors) and found.magnitudes:
                used = tuple(role for role in wanted if role != "dora_scale")
    if weight is not None and _has_fused_rows(module):
        weight = _from_diffusers(weight)
    bias, bias_roles = _bias(roles, 1.0 if weight is None else weight.scale)
    taken = {*used, *bias_roles}
    unused = tuple(role for role in roles if role not in taken)
    return PlainLayer(weight, bias, used, bias_roles, unused)


def _lora(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    pair = low_rank_pair(roles)
    scale = config.scale(alpha_of(path, roles, config, pair.rank), pair.rank)
    if "magnitude" in roles:
        magnitude = roles["magnitude"].flatten()
        if magnitude.numel() != pair.sizes[0]:
            raise ValueError(f"magnitude has {magnitude.numel()} values, not {pair.sizes[0]}.")
        return LayerTensors(pair, None, (magnitude,), scale, pair.sizes, "dora-rows")
    if "reshape_weight" in roles:
        target = [int(side) for side in roles["reshape_weight"].flatten().tolist()]
        if (*target[:1], math.prod(target[1:])) != pair.sizes:
            raise ValueError(f"reshape_weight is {target}, its factors make {list(pair.sizes)}.")
    if "dora_scale" in roles:
        return _added("lora", pair, scale, roles["dora_scale"])
    return LayerTensors(pair, None, (), scale, pair.sizes)


def _loha(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    require(roles, names)
    if ("hada_t1" in roles) != ("hada_t2" in roles):
        raise ValueError("with one of hada_t1 and hada_t2; both or none are needed.")
    update = LoHa(**{role: tensor for role, tensor in roles.items() if role.startswith("hada_")})
    return _scaled("loha", update, path, roles, config)


def _lokr(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    update = LoKr(**{role: tensor for role, tensor in roles.items() if role.startswith("lokr_")})
    return _scaled("lokr", update, path, roles, config)


def _glora(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    names = ("a1.weight", "a2.weight", "b1.weight", "b2.weight")
    require(roles, names)
    a1, a2, b1, b2 = (roles[name] for name in names)
    update = GLoRA(a1, a2, b1, b2)
    update = replace(update, alpha=_stated_alpha(path, roles, config, update.rank))
    return _added("glora", update, 1.0, roles.get("dora_scale"))


def _oft(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer | None:
    if roles["oft_blocks"].ndim != 3:
        return None
    return _added("oft", OFT(roles["oft_blocks"], own_alpha(roles)), 1.0, None)


def _boft(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer | None:
    if roles["oft_blocks"].ndim == 3:
        return None
    update = BOFT(roles["oft_blocks"], roles.get("rescale"), own_alpha(roles))
    return _added("boft", update, 1.0, None)


def _difference(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    (tensor,) = roles.values()
    return _added("diff", Difference(tensor), 1.0, None)


def _set_weight(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    tensor = roles["set_weight"]
    check_numbers(roles)
    stands_for = Difference(tensor)
    return OtherLayer("set_weight", SetTo(tensor), 0, 1.0, stands_for.sizes, stands_for.fits)


_Reader = Callable[[str, Mapping[str, Tensor], AdapterConfig], Layer | None]
_READERS: tuple[tuple[_Reader, tuple[str, ...], tuple[str, ...]], ...] = (
    # reader, roles that call for it, roles it reads as well
    (
        _lora,
        ("lora_A", "lora_B"),
        ("lora_mid", "magnitude", "alpha", "dora_scale", "reshape_weight"),
    ),
    (
        _loha,
        ("hada_w1_a",),
        ("hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "alpha", "dora_scale"),
    ),
    (
        _lokr,
        ("lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w2_a"),
        ("lokr_w1_b", "lokr_w2_b", "lokr_t2", "alpha", "dora_scale"),
    ),
    (_glora, ("a1.weight",), ("a2.weight", "b1.weight", "b2.weight", "alpha", "dora_scale")),
    (_oft, ("oft_blocks",), ("alpha",)),
    (_boft, ("oft_blocks",), ("rescale", "alpha")),
    (_difference, ("w_norm",), ()),
    (_difference, ("diff",), ()),
    (_set_weight, ("set_weight",), ()),
)


def _bias(roles: Mapping[str, Tensor], scale: float) -> tuple[Layer | None, tuple[str, ...]]:
    """The last of lora_B's bias (scaled like the pair), b_norm and diff_b."""
    for role in ("diff_b", "b_norm", "lora_B.bias"):
        if role not in roles:
            continue
        factor = scale if role == "lora_B.bias" else 1.0
        return _added("bias", Difference(roles[role]), factor, None), (role,)
    return None, ()


def _scaled(
    kind: str, update: Update, path: str, roles: Mapping[str, Tensor], config: AdapterConfig
) -> Layer:
    """An update whose alpha is divided by its rank; a scale of 1 where there is no alpha."""
    rank = update.rank
    alpha = None if rank is None else _stated_alpha(path, roles, config, rank)
    scale = 1.0 if alpha is None or rank is None else config.scale(alpha, rank)
    return _added(kind, update, scale, roles.get("dora_scale"))


def _added(kind: str, update: Update, scale: float, dora_scale: Tensor | None) -> Layer:
    tensors = {name: value for name, value in vars(update).items() if isinstance(value, Tensor)}
    check_numbers(tensors)
    if dora_scale is not None:
        kind += ", dora_scale"
        check_numbers({"dora_scale": dora_scale})
    change = Added(update, scale, dora_scale)
    return OtherLayer(kind, change, update.rank or 0, scale, update.sizes, change.fits)


def _stated_alpha(
    path: str, roles: Mapping[str, Tensor], config: AdapterConfig, rank: int
) -> float | None:
    """The layer's own alpha, else that of the file's settings; None where there is neither."""
    own = own_alpha(roles)
    if own is not None or (config.alpha is None and not config.alpha_pattern):
        return own
    return config.alpha_of(path, rank)


def _has_fused_rows(module: Module) -> bool:
    return module.diffusers and "to_qkv" in module.key


def _from_diffusers(layer: Layer) -> Layer:
    """The same on a differential to_qkv whose rows are [q k v q' k'] instead of [q q' k k' v].

    Source: huggingface/diffusers scripts/convert_stable_audio_3_to_diffusers.py.
    """
    if isinstance(layer, OtherLayer):
        return replace(layer, made=DiffusersRows(layer.made))
    assert isinstance(layer, LayerTensors)
    out, width = layer.shape
    if layer.low_rank is None or width is None or out != 5 * width:
        return layer  # plain attention: [q k v] in both

    def reorder(rows: Tensor) -> Tensor:
        q, q2, k, k2, v = rows.chunk(5)
        return torch.cat((q, k, v, q2, k2))

    pair = LowRank(layer.low_rank.a, reorder(layer.low_rank.b))
    magnitudes = tuple(reorder(magnitude) for magnitude in layer.magnitudes)
    return replace(layer, low_rank=pair, magnitudes=magnitudes)
