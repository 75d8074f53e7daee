"""One layer of a LoRA file: its tensors checked, and what they do to the weight and the bias."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .bases import Bases
from .changes import Added, Chained, DiffusersRows, SetTo, WeightChange
from .config import AdapterConfig
from .keys import Module
from .kinds import BOFT, OFT, Difference, GLoRA, LoHa, LoKr, Shape, Sizes, Update, matrix_fits
from .rules import RULES, XS_SUFFIX, AdapterWeight, LowRank, LowRankXS

BasesOf = Callable[[int], Bases]  # singular vectors of a layer's weight by rank
_FACTORS = {False: ("lora_A", "lora_B"), True: ("M_xs",)}


class Layer(Protocol):
    """What a LoRA file does to one tensor of the model."""

    @property
    def kind(self) -> str:
        """What it is called: lora, dora-rows, loha, diff, ..."""
        ...

    @property
    def rank(self) -> int:
        """Of the low-rank part; 0 where there is none."""
        ...

    @property
    def scale(self) -> float:
        """alpha / rank."""
        ...

    @property
    def shape(self) -> Sizes:
        """(out, in) of the weight it was trained on, None where the file does not tell."""
        ...

    def fits(self, shape: Shape) -> bool:
        """Whether a tensor of this shape can be changed."""
        ...

    def change(self, bases: BasesOf) -> WeightChange:
        """What it does; `bases` is only asked by -xs types."""
        ...


@dataclass(frozen=True, eq=False)
class LayerTensors:
    """A layer of Stable Audio 3's own types, in the file's own precision.

    Attributes:
        low_rank: the stored pair; None for -xs types.
        core: [r, r], -xs types only.
        magnitudes: one vector per magnitude of the rule, [out] or [in].
        scale: alpha / rank of this layer.
        shape: (out, in) of the weight it was trained on, None where the file does not tell.
        rule: a name in RULES.
    """

    low_rank: LowRank | None
    core: Tensor | None
    magnitudes: tuple[Tensor, ...]
    scale: float
    shape: Sizes
    rule: str = "lora"

    @property
    def kind(self) -> str:
        """An adapter type."""
        return self.rule + (XS_SUFFIX if self.low_rank is None else "")

    @property
    def rank(self) -> int:
        """Rank of this layer."""
        tensor = self.core if self.low_rank is None else self.low_rank.a
        assert tensor is not None
        return tensor.shape[0]

    def fits(self, shape: Shape) -> bool:
        """By its sizes, and a core of -xs types by the smaller side."""
        if not matrix_fits(self.shape, shape):
            return False
        return self.core is None or self.rank <= min(shape[0], math.prod(shape[1:]))

    def change(self, bases: BasesOf) -> WeightChange:
        """The factor with its rule."""
        factor: LowRank | LowRankXS | None = self.low_rank
        if factor is None:
            assert self.core is not None
            factor = LowRankXS(*bases(self.rank), self.core)
        return AdapterWeight(factor, self.rule, self.magnitudes, self.scale)


@dataclass(frozen=True, eq=False)
class OtherLayer:
    """A layer of another kind, whose change takes nothing but the file.

    Attributes:
        kind: loha, lokr, glora, oft, boft, diff, set_weight, bias; `, dora_scale` behind it.
        made: the change.
        rank: of the low-rank part; 0 where there is none.
        scale: alpha / rank.
        shape: (out, in) of the weight it was trained on, None where the file does not tell.
        fit: tells whether a tensor of a shape can be changed.
    """

    kind: str
    made: WeightChange
    rank: int
    scale: float
    shape: Sizes
    fit: Callable[[Shape], bool]

    def fits(self, shape: Shape) -> bool:
        """As the kind says."""
        return self.fit(shape)

    def change(self, bases: BasesOf) -> WeightChange:
        """The change itself."""
        return self.made


@dataclass(frozen=True, eq=False)
class Layers:
    """Layers of several adapters in one file that change the same tensor, in order."""

    parts: tuple[Layer, ...]

    @property
    def kind(self) -> str:
        """All of theirs."""
        return ", ".join(dict.fromkeys(part.kind for part in self.parts))

    @property
    def rank(self) -> int:
        """All ranks together."""
        return sum(part.rank for part in self.parts)

    @property
    def scale(self) -> float:
        """Of the first."""
        return self.parts[0].scale

    @property
    def shape(self) -> Sizes:
        """Of the first."""
        return self.parts[0].shape

    def fits(self, shape: Shape) -> bool:
        """Where all fit."""
        return all(part.fits(shape) for part in self.parts)

    def change(self, bases: BasesOf) -> WeightChange:
        """One after the other."""
        return Chained(tuple(part.change(bases) for part in self.parts))


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


def native_layer(
    path: str, roles: Mapping[str, Tensor], adapter_type: str, config: AdapterConfig
) -> LayerTensors:
    """Check one layer's tensors against its type; ValueError says what is wrong."""
    rule, is_xs = RULES[adapter_type.removesuffix(XS_SUFFIX)], adapter_type.endswith(XS_SUFFIX)
    wanted = {*_FACTORS[is_xs], *rule.names}
    missing, extra = sorted(wanted - roles.keys()), sorted(roles.keys() - wanted - {"alpha"})
    if missing or extra:
        fault = f"without {', '.join(missing)}" if missing else f"with {', '.join(extra)}"
        raise ValueError(f"{fault}, which does not go with the type {adapter_type!r}.")
    _check_numbers({role: tensor for role, tensor in roles.items() if role != "alpha"})
    magnitudes = tuple(roles[name].flatten() for name in rule.names)
    low_rank, core = None, None
    shape: list[int | None] = [None, None]
    if is_xs:
        core = roles["M_xs"]
        if core.ndim != 2 or not core.numel() or core.shape[0] != core.shape[1]:
            raise ValueError(f"M_xs is {list(core.shape)}; it must be square.")
        rank = core.shape[0]
    else:
        low_rank = _pair(roles)
        rank = low_rank.rank
        shape = list(low_rank.sizes)
    for name, axis, magnitude in zip(rule.names, rule.axes, magnitudes, strict=True):
        if shape[axis] not in (None, magnitude.numel()):
            raise ValueError(f"{name} has {magnitude.numel()} values instead of {shape[axis]}.")
        shape[axis] = magnitude.numel()
    scale = config.scale(_alpha(path, roles, config, rank), rank)
    name = adapter_type.removesuffix(XS_SUFFIX)
    return LayerTensors(low_rank, core, magnitudes, scale, (shape[0], shape[1]), name)


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


def joined(layers: Iterable[Layer]) -> Layer:
    """One layer for several that change the same tensor."""
    parts = tuple(layers)
    return parts[0] if len(parts) == 1 else Layers(parts)


def _lora(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    pair = _pair(roles)
    scale = config.scale(_alpha(path, roles, config, pair.rank), pair.rank)
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
    _require(roles, names)
    if ("hada_t1" in roles) != ("hada_t2" in roles):
        raise ValueError("with one of hada_t1 and hada_t2; both or none are needed.")
    update = LoHa(**{role: tensor for role, tensor in roles.items() if role.startswith("hada_")})
    return _scaled("loha", update, path, roles, config)


def _lokr(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    update = LoKr(**{role: tensor for role, tensor in roles.items() if role.startswith("lokr_")})
    return _scaled("lokr", update, path, roles, config)


def _glora(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    names = ("a1.weight", "a2.weight", "b1.weight", "b2.weight")
    _require(roles, names)
    a1, a2, b1, b2 = (roles[name] for name in names)
    update = GLoRA(a1, a2, b1, b2)
    update = replace(update, alpha=_stated_alpha(path, roles, config, update.rank))
    return _added("glora", update, 1.0, roles.get("dora_scale"))


def _oft(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer | None:
    if roles["oft_blocks"].ndim != 3:
        return None
    return _added("oft", OFT(roles["oft_blocks"], _own_alpha(roles)), 1.0, None)


def _boft(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer | None:
    if roles["oft_blocks"].ndim == 3:
        return None
    update = BOFT(roles["oft_blocks"], roles.get("rescale"), _own_alpha(roles))
    return _added("boft", update, 1.0, None)


def _difference(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    (tensor,) = roles.values()
    return _added("diff", Difference(tensor), 1.0, None)


def _set_weight(path: str, roles: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    tensor = roles["set_weight"]
    _check_numbers(roles)
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
    _check_numbers(tensors)
    if dora_scale is not None:
        kind += ", dora_scale"
        _check_numbers({"dora_scale": dora_scale})
    change = Added(update, scale, dora_scale)
    return OtherLayer(kind, change, update.rank or 0, scale, update.sizes, change.fits)


def _require(roles: Mapping[str, Tensor], names: Iterable[str]) -> None:
    missing = [name for name in names if name not in roles]
    if missing:
        raise ValueError(f"without {', '.join(missing)}.")


def _check_numbers(tensors: Mapping[str, Tensor]) -> None:
    for role, tensor in tensors.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{role} holds values that are not finite numbers.")


def _own_alpha(roles: Mapping[str, Tensor]) -> float | None:
    """The alpha that a layer stores itself, of any number type."""
    if "alpha" not in roles:
        return None
    tensor = roles["alpha"]
    if tensor.numel() != 1 or tensor.is_complex() or not math.isfinite(tensor.item()):
        raise ValueError(f"alpha is {tensor.tolist()}; it must be one finite number.")
    return float(tensor.item())


def _stated_alpha(
    path: str, roles: Mapping[str, Tensor], config: AdapterConfig, rank: int
) -> float | None:
    """The layer's own alpha, else that of the file's settings; None where there is neither."""
    own = _own_alpha(roles)
    if own is not None or (config.alpha is None and not config.alpha_pattern):
        return own
    return config.alpha_of(path, rank)


def _alpha(path: str, roles: Mapping[str, Tensor], config: AdapterConfig, rank: int) -> float:
    own = _own_alpha(roles)
    return config.alpha_of(path, rank) if own is None else own


def _pair(roles: Mapping[str, Tensor]) -> LowRank:
    """A and B as matrices; convolutions store them with their kernel axes, LoCon with a core."""
    _require(roles, ("lora_A", "lora_B"))
    a, b = roles["lora_A"], roles["lora_B"]
    pair = {role: roles[role] for role in ("lora_A", "lora_B", "lora_mid") if role in roles}
    _check_numbers(pair)
    if "magnitude" in roles:
        _check_numbers({"magnitude": roles["magnitude"]})
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
