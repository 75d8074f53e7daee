"""Reading LoRA files: safetensors in Stable Audio 3's own, PEFT, diffusers and kohya key styles."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..errors import AdapterError, CheckpointError
from ..files.tensor_file import open_tensors
from .config import LEGACY_DORA, AdapterConfig, native_config, plain_config
from .grouping import Group, group_tensors
from .keys import Module, find_module, guess_family, of_text_encoder
from .layer import Layer, LayerTensors, joined, native_layer
from .plain_layer import plain_layer
from .rules import XS_SUFFIX

__all__ = ["AdapterFile", "LayerTensors", "read_adapter"]

log = logging.getLogger(__name__)

# Row norms that newer training code stores for other runtimes; they follow from what we have.
_DERIVED = frozenset({"baked_vnorm_row"})
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """A LoRA file, read and checked, not yet matched with a model.

    Attributes:
        name: file name.
        path: where it was read from.
        adapter_type: lora, dora-rows, dora-cols, bora, or one of them with -xs; in files of other
            trainers the kinds that it holds, like `lora, bias`, `loha` or `diff`.
        rank: as the file states it, else the most common one; 0 where nothing is low-rank.
        alpha: as the file states it, else the rank.
        metadata: the safetensors metadata as it is.
        layers: checkpoint key of a weight, bias or gain (`model.model....weight`,
            `conditioner....weight`) -> what is done to it.
        include: what the training was limited to; for display, the tensors decide.
        exclude: what the training left out; for display.
        names: checkpoint key -> the tensors of the file that it was read from.
        unused: tensors of the file that do nothing, e.g. a text encoder's.
        adapters: names of the adapters inside, where the file names several: all are applied.
    """

    name: str
    path: Path
    adapter_type: str
    rank: int
    alpha: float
    metadata: Mapping[str, str]
    layers: Mapping[str, Layer] = field(repr=False)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    unused: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        """Name of the rule in RULES, of Stable Audio 3's own types."""
        return self.adapter_type.removesuffix(XS_SUFFIX)

    @property
    def is_xs(self) -> bool:
        """True where singular vectors of the model's weights are needed."""
        return self.adapter_type.endswith(XS_SUFFIX)


@dataclass
class _Read:
    """What is read so far; a layer per adapter and checkpoint key."""

    layers: dict[str, dict[str, Layer]] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def put(self, key: str, layer: Layer | None, group: Group, names: tuple[str, ...]) -> None:
        """Take a layer in; ValueError where its adapter has one of that key."""
        if layer is None:
            return
        parts = self.layers.setdefault(key, {})
        if group.adapter in parts:
            raise ValueError(f"the file holds {key} twice, last as {group.path!r}.")
        parts[group.adapter] = layer
        self.names[key] = (*self.names.get(key, ()), *names)


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
    try:
        groups, unknown = group_tensors(tensors)
    except ValueError as error:
        raise AdapterError(f"{path.name}: {error}") from error
    modules = [(group, find_module(group.path)) for group in groups]
    aside = [g for g, module in modules if not module.known and of_text_encoder(g.path)]
    modules = [(group, module) for group, module in modules if group not in aside]
    known = sum(module.known for _, module in modules)
    if not known or 2 * known < len(modules):
        raise _foreign(path.name, list(tensors))
    native = any(group.index is not None for group in groups)
    if native:
        _check_native(path.name, groups, unknown)
    config = native_config(path.name, metadata) if native else plain_config(path, metadata)
    native_type = _native_type(config, groups) if native else None
    read = _Read(unused=unknown + [name for group in aside for name in group.names.values()])
    for group, module in modules:
        try:
            _read_layer(read, group, module, config, native_type)
        except ValueError as error:
            raise AdapterError(f"{path.name}, layer {group.path}: {error}") from error
    if not read.layers:
        raise _foreign(path.name, list(tensors))
    if not native and config.alpha is None and _lacks_alpha(groups):
        log.warning("%s states no alpha; alpha = rank (a scale of 1) is assumed", path.name)
    return _finished(path, metadata, config, native_type, read)


def _read_layer(
    read: _Read, group: Group, module: Module, config: AdapterConfig, native_type: str | None
) -> None:
    """One group's weight and bias; ValueError says what is wrong."""
    if native_type is not None:
        roles = {role: tensor for role, tensor in group.roles.items() if role not in _DERIVED}
        layer = native_layer(group.path, roles, native_type, config)
        read.put(module.key, layer, group, group.named(group.roles))
        return
    plain = plain_layer(group.path, module, group.roles, config)
    read.put(module.key, plain.weight, group, group.named(plain.weight_roles))
    read.put(module.bias, plain.bias, group, group.named(plain.bias_roles))
    read.unused += group.named(plain.unused)


def _finished(
    path: Path,
    metadata: Mapping[str, str],
    config: AdapterConfig,
    native_type: str | None,
    read: _Read,
) -> AdapterFile:
    layers = {key: joined(parts.values()) for key, parts in read.layers.items()}
    ranks = Counter(layer.rank for layer in layers.values() if layer.rank)
    rank = config.rank or (ranks.most_common(1)[0][0] if ranks else 0)
    kinds = (kind for layer in layers.values() for kind in layer.kind.split(", "))
    adapters = sorted({adapter for parts in read.layers.values() for adapter in parts})
    return AdapterFile(
        path.name,
        path,
        native_type or ", ".join(dict.fromkeys(kinds)),
        rank,
        float(rank) if config.alpha is None else config.alpha,
        {key: value for key, value in metadata.items() if isinstance(value, str)},
        layers,
        config.include,
        config.exclude,
        read.names,
        tuple(read.unused),
        tuple(name or "unnamed" for name in adapters) if len(adapters) > 1 else (),
    )


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
        with open_tensors(path) as file:
            return {name: file.get(name).clone() for name in file.header}, file.metadata
    except CheckpointError as error:
        raise AdapterError(f"LoRA file {error}") from error


def _foreign(name: str, names: list[str]) -> AdapterError:
    family = guess_family(names)
    guess = f"; it looks made for {family}" if family else ""
    shown = ", ".join(names[:2]) or "no tensors at all"
    return AdapterError(
        f"{name} is not a LoRA for Stable Audio 3{guess} (it holds {shown}). "
        "Choose a LoRA that was trained on a Stable Audio 3 model."
    )


def _check_native(name: str, groups: list[Group], unknown: list[str]) -> None:
    """A file of Stable Audio 3's own trainer holds one LoRA, and nothing else."""
    if unknown:
        raise AdapterError(
            f"{name}: {len(unknown)} of its tensors are none of a Stable Audio 3 LoRA "
            f"({', '.join(unknown[:3])}). Take the file as the training script saved it."
        )
    if len({group.index for group in groups}) > 1:
        raise AdapterError(f"{name} mixes several LoRAs. Save each in a file of its own.")


def _native_type(config: AdapterConfig, groups: list[Group]) -> str:
    adapter_type = config.adapter_type
    assert adapter_type is not None  # `native_config` sees to it
    if adapter_type != LEGACY_DORA:
        return adapter_type
    magnitudes = [group.roles["magnitude"] for group in groups if "magnitude" in group.roles]
    shapes = [tensor.shape for tensor in magnitudes if tensor.ndim == 2 and tensor.numel() > 1]
    return "dora-cols" if shapes and shapes[0][0] == 1 else "dora-rows"


def _lacks_alpha(groups: list[Group]) -> bool:
    return any("lora_A" in g.roles for g in groups) and not any("alpha" in g.roles for g in groups)
