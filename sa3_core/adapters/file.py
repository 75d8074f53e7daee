"""Reading LoRA files: safetensors in Stable Audio 3's own, PEFT, diffusers and kohya key styles."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import AdapterError, CheckpointError
from ..files.tensor_file import read_header
from .config import LEGACY_DORA, AdapterConfig, native_config, plain_config
from .keys import Module, find_module, guess_family, parse_name
from .rules import RULES, XS_SUFFIX, LowRank

log = logging.getLogger(__name__)

# Row norms that newer training code stores for other runtimes; they follow from what we have.
_DERIVED = frozenset({"baked_vnorm_row"})
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")
_FACTORS = {False: ("lora_A", "lora_B"), True: ("M_xs",)}


@dataclass(frozen=True, eq=False)
class LayerTensors:
    """One layer of a LoRA file, in the file's own precision.

    Attributes:
        low_rank: the stored pair; None for -xs types.
        core: [r, r], -xs types only.
        magnitudes: one vector per magnitude of the rule, [out] or [in].
        scale: alpha / rank of this layer.
        shape: (out, in) of the weight it was trained on, None where the file does not tell.
    """

    low_rank: LowRank | None
    core: Tensor | None
    magnitudes: tuple[Tensor, ...]
    scale: float
    shape: tuple[int | None, int | None]

    @property
    def rank(self) -> int:
        """Rank of this layer."""
        tensor = self.core if self.low_rank is None else self.low_rank.a
        assert tensor is not None
        return tensor.shape[0]


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """A LoRA file, read and checked, not yet matched with a model.

    Attributes:
        name: file name.
        path: where it was read from.
        adapter_type: lora, dora-rows, dora-cols, bora, or one of them with -xs.
        rank: as the file states it, else the most common one.
        alpha: as the file states it, else the rank.
        metadata: the safetensors metadata as it is.
        layers: checkpoint key of a weight (`model.model....weight`, `conditioner....weight`)
            -> its tensors.
        include: what the training was limited to; for display, the tensors decide.
        exclude: what the training left out; for display.
    """

    name: str
    path: Path
    adapter_type: str
    rank: int
    alpha: float
    metadata: Mapping[str, str]
    layers: Mapping[str, LayerTensors] = field(repr=False)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        """Name of the rule in RULES."""
        return self.adapter_type.removesuffix(XS_SUFFIX)

    @property
    def is_xs(self) -> bool:
        """True where singular vectors of the model's weights are needed."""
        return self.adapter_type.endswith(XS_SUFFIX)


def read_adapter(path: Path) -> AdapterFile:
    """Read and check a LoRA file.

    Args:
        path: a .safetensors file.

    Raises:
        AdapterError: missing, damaged, a pickle, no LoRA, for another model family, of a kind
            that is not supported, or with tensors that contradict each other or are not finite.
    """
    path = Path(path)
    tensors, metadata = _load(path)
    groups, native = _group(path.name, tensors)
    config = native_config(path.name, metadata) if native else plain_config(path, metadata)
    modules = {group: find_module(group) for group in groups}
    if 2 * sum(module.known for module in modules.values()) < len(modules):
        raise _foreign(path.name, list(tensors))
    adapter_type = _adapter_type(config, groups)
    layers: dict[str, LayerTensors] = {}
    for group, roles in groups.items():
        module = modules[group]
        if module.key in layers:
            raise AdapterError(f"{path.name} holds {module.key} twice, last as {group!r}.")
        try:
            layers[module.key] = _layer(group, module, roles, adapter_type, config)
        except ValueError as error:
            raise AdapterError(f"{path.name}, layer {group}: {error}") from error
    rank = config.rank or Counter(layer.rank for layer in layers.values()).most_common(1)[0][0]
    alpha = float(rank) if config.alpha is None else config.alpha
    if not native and config.alpha is None and not any("alpha" in r for r in groups.values()):
        log.warning("%s states no alpha; alpha = rank (a scale of 1) is assumed", path.name)
    kept = {key: value for key, value in metadata.items() if isinstance(value, str)}
    include, exclude = config.include, config.exclude
    return AdapterFile(path.name, path, adapter_type, rank, alpha, kept, layers, include, exclude)


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of the file, copied out of it so that it may be replaced or deleted."""
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise AdapterError(
            f"{path.name} is a pickle, which can run any program when it is opened, so it is not "
            "loaded. Convert it where you trust it: convert_lora_ckpt_to_safetensors in "
            "stable_audio_3.models.lora.utils writes the same LoRA as .safetensors."
        )
    if suffix != ".safetensors":
        raise AdapterError(f"{path.name}: LoRA files end in .safetensors. Choose one of those.")
    try:
        read_header(path)
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (CheckpointError, SafetensorError, OSError) as error:
        raise AdapterError(f"LoRA file {error}") from error


def _group(name: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], bool]:
    """Tensors by layer and role, and whether the file is in Stable Audio 3's own style."""
    groups: dict[str, dict[str, Tensor]] = {}
    unknown, indices, styles = [], set(), set()
    for key, tensor in tensors.items():
        found = parse_name(key)
        if found is None:
            unknown.append(key)
            continue
        styles.add(found.index is not None)
        if found.index is not None:
            indices.add(found.index)
        if found.role not in _DERIVED:
            groups.setdefault(found.path, {})[found.role] = tensor
    if not groups:
        raise _foreign(name, list(tensors))
    if unknown:
        if not any(find_module(group).known for group in groups):
            raise _foreign(name, list(tensors))
        raise AdapterError(
            f"{name}: {len(unknown)} of {len(tensors)} tensors are of a kind that is not supported "
            f"({', '.join(unknown[:3])}). Supported are LoRA, DoRA and BoRA (also -xs) in Stable "
            "Audio 3's format, and plain LoRA in PEFT, diffusers and kohya format."
        )
    if len(styles) > 1 or len(indices) > 1:
        raise AdapterError(f"{name} mixes several LoRAs. Save each in a file of its own.")
    return groups, styles == {True}


def _foreign(name: str, names: list[str]) -> AdapterError:
    family = guess_family(names)
    guess = f"; it looks made for {family}" if family else ""
    shown = ", ".join(names[:2]) or "no tensors at all"
    return AdapterError(
        f"{name} is not a LoRA for Stable Audio 3{guess} (it holds {shown}). "
        "Choose a LoRA that was trained on a Stable Audio 3 model."
    )


def _adapter_type(config: AdapterConfig, groups: Mapping[str, Mapping[str, Tensor]]) -> str:
    magnitudes = [roles["magnitude"] for roles in groups.values() if "magnitude" in roles]
    if config.adapter_type is None:
        return "dora-rows" if magnitudes else "lora"  # PEFT's DoRA norms are per row
    if config.adapter_type != LEGACY_DORA:
        return config.adapter_type
    shapes = [tensor.shape for tensor in magnitudes if tensor.ndim == 2 and tensor.numel() > 1]
    return "dora-cols" if shapes and shapes[0][0] == 1 else "dora-rows"


def _layer(
    path: str,
    module: Module,
    roles: Mapping[str, Tensor],
    adapter_type: str,
    config: AdapterConfig,
) -> LayerTensors:
    """Check one layer's tensors against its type; ValueError says what is wrong."""
    rule, is_xs = RULES[adapter_type.removesuffix(XS_SUFFIX)], adapter_type.endswith(XS_SUFFIX)
    wanted = {*_FACTORS[is_xs], *rule.names}
    missing, extra = sorted(wanted - roles.keys()), sorted(roles.keys() - wanted - {"alpha"})
    if missing or extra:
        fault = f"without {', '.join(missing)}" if missing else f"with {', '.join(extra)}"
        raise ValueError(f"{fault}, which does not go with the type {adapter_type!r}.")
    for role, tensor in roles.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{role} holds values that are not finite numbers.")
    magnitudes = tuple(roles[name].flatten() for name in rule.names)
    low_rank, core = None, None
    shape: list[int | None] = [None, None]
    if is_xs:
        core = roles["M_xs"]
        if core.ndim != 2 or not core.numel() or core.shape[0] != core.shape[1]:
            raise ValueError(f"M_xs is {list(core.shape)}; it must be square.")
        rank = core.shape[0]
    else:
        low_rank = _pair(roles["lora_A"], roles["lora_B"])
        rank = low_rank.a.shape[0]
        shape = [low_rank.b.shape[0], low_rank.a.shape[1]]
    for name, axis, magnitude in zip(rule.names, rule.axes, magnitudes, strict=True):
        if shape[axis] not in (None, magnitude.numel()):
            raise ValueError(f"{name} has {magnitude.numel()} values instead of {shape[axis]}.")
        shape[axis] = magnitude.numel()
    alpha = roles["alpha"].item() if "alpha" in roles else config.alpha_of(path, rank)
    scale = config.scale(alpha, rank)
    layer = LayerTensors(low_rank, core, magnitudes, scale, (shape[0], shape[1]))
    return _from_diffusers(layer) if module.diffusers and "to_qkv" in module.key else layer


def _pair(a: Tensor, b: Tensor) -> LowRank:
    """A and B as matrices; convolutions store them with their kernel axes."""
    if a.ndim < 2 or b.ndim < 2 or not a.shape[0] or a.shape[0] != b.flatten(1).shape[1]:
        raise ValueError(
            f"lora_A {list(a.shape)} and lora_B {list(b.shape)} do not share one rank."
        )
    return LowRank(a.flatten(1), b.flatten(1))


def _from_diffusers(layer: LayerTensors) -> LayerTensors:
    """Rows of a differential to_qkv from diffusers' [q q' k k' v] to [q k v q' k'].

    Source: huggingface/diffusers scripts/convert_stable_audio_3_to_diffusers.py.
    """
    out, width = layer.shape
    if layer.low_rank is None or width is None or out != 5 * width:
        return layer  # plain attention: [q k v] in both

    def reorder(rows: Tensor) -> Tensor:
        q, q2, k, k2, v = rows.chunk(5)
        return torch.cat((q, k, v, q2, k2))

    pair = LowRank(layer.low_rank.a, reorder(layer.low_rank.b))
    magnitudes = tuple(reorder(magnitude) for magnitude in layer.magnitudes)
    return LayerTensors(pair, None, magnitudes, layer.scale, layer.shape)
