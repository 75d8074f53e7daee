"""A LoRA being trained: its branches on a model, their start, and their file."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..adapters.bases import svd_bases
from ..adapters.file import AdapterFile
from ..adapters.layer import LayerTensors
from ..adapters.layer_filter import LayerFilter
from ..adapters.norms import relative_changes
from ..adapters.rules import ADAPTER_TYPES, RULES, XS_SUFFIX
from ..checks import check_number, check_one_of, check_positive, check_whole
from ..errors import AdapterError, InputError
from ..files.published import CONDITIONER_PREFIX, DIT_PREFIX
from ..files.whole_file import whole_file, write_failure
from ..networks.model import SA3Model
from ..networks.quantised import QuantisedLinear
from .branches import Branch
from .draws import item_seed

_NAME = "{path}.parametrizations.weight.0.{tensor}"


@dataclass(frozen=True)
class AdapterSettings:
    """What kind of LoRA is trained.

    Attributes:
        adapter_type: one of ADAPTER_TYPES.
        rank: of every layer; less where a layer's smaller side is.
        alpha: None = the rank, a scale of 1.
        dropout: probability that an input channel is left out of the low-rank part in a step.
        include: parts of layer names that are trained, `layers[0-5]` for ranges; none = all.
        exclude: parts of layer names that are not.
    """

    adapter_type: str = "dora-rows"
    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_one_of("adapter_type", self.adapter_type, ADAPTER_TYPES)
        check_whole("rank", self.rank, 1)
        if self.alpha is not None:
            check_positive("alpha", self.alpha)
        check_number("dropout", self.dropout, 0.0, 0.9)

    @property
    def scale(self) -> float:
        """Factor of the low-rank part."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def layers(self) -> LayerFilter:
        """Include and exclude as one filter."""
        return LayerFilter(", ".join([*self.include, *("-" + part for part in self.exclude)]))


class TrainedAdapter(nn.Module):
    """Branches on the layers of a model, by checkpoint key, in the model's own order.

    Attributes:
        settings: type, rank, scale.
        stem: what its files are called.
        suffix: of its files.
    """

    stem, suffix = "lora", ".safetensors"

    def __init__(
        self,
        model: SA3Model,
        settings: AdapterSettings,
        seed: int = 0,
        on_layer: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Make branches that leave the model as it is.

        Args:
            model: its layers are Linear, or Conv1d of one tap.
            settings: what is trained.
            seed: of the starting values; each layer draws its own.
            on_layer: told (done, total); -xs types take a while for each.

        Raises:
            InputError: the filter leaves no layer, the rank does not fit one, or an -xs type on a
                model that is stored in 8 bits.
        """
        super().__init__()
        if model.storage is not None and settings.adapter_type.endswith(XS_SUFFIX):
            raise InputError(
                f"is {model.storage!r}, which moves the singular vectors that {XS_SUFFIX} types "
                "build on. Load the model without it, or choose another type.",
                "storage",
            )
        self.settings = settings
        chosen = {k: m for k, m in trainable_layers(model).items() if settings.layers().matches(k)}
        if not chosen:
            raise InputError(
                f"include {list(settings.include)} and exclude {list(settings.exclude)} leave no "
                "layer to train. Shorten the list, or leave both out to train all."
            )
        self._branches: dict[str, Branch] = {}
        for done, (key, layer) in enumerate(chosen.items(), start=1):
            self._branches[key] = self._branch(key, layer, seed)
            on_layer(done, len(chosen))
        self._modules.update({k.replace(".", "/"): b for k, b in self._branches.items()})

    def _branch(self, key: str, layer: nn.Module, seed: int) -> Branch:
        weight, settings = layer.get_parameter("weight"), self.settings
        smaller = min(weight.flatten(1).shape)
        if settings.rank > smaller:
            raise InputError(
                f"is {settings.rank}; {key} has only {smaller} channels on its smaller side. "
                "Choose a lower rank or exclude that layer.",
                "rank",
            )
        xs = settings.adapter_type.endswith(XS_SUFFIX)
        bases = svd_bases(weight.float(), settings.rank) if xs else None
        generator = torch.Generator().manual_seed(item_seed(seed, "start", key))
        kind, rank = settings.adapter_type, settings.rank
        return Branch(layer, kind, rank, settings.scale, bases, generator)

    @property
    def branches(self) -> Mapping[str, Branch]:
        """Checkpoint key of a weight -> its branch."""
        return self._branches

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The model computes with the branches inside of this block, and as before after it."""
        handles = [handle for branch in self._branches.values() for handle in branch.attach()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin_step(self, seed: int | None = None) -> None:
        """Prepare all branches for a forward pass; a seed turns dropout on."""
        dropout = 0.0 if seed is None else self.settings.dropout
        for key, branch in self._branches.items():
            generator = None
            if dropout > 0:
                generator = torch.Generator().manual_seed(item_seed(seed or 0, "dropout", key))
            branch.begin_step(dropout, generator)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters by their names in a LoRA file, float32."""
        return {
            _NAME.format(path=file_path(key), tensor=name): parameter
            for key, branch in self._branches.items()
            for name, parameter in branch.named_parameters()
        }

    @property
    def scales_inputs(self) -> bool:
        """Whether there are magnitudes of columns."""
        return 1 in RULES[self.settings.adapter_type.removesuffix(XS_SUFFIX)].axes

    @property
    def keeps_inputs(self) -> bool:
        """Whether the layers' inputs are asked for again: not where bases stay as they are."""
        return not self.settings.adapter_type.endswith(XS_SUFFIX)

    def end_backward(self) -> None:
        """Gradients are where they belong."""

    def end_step(self) -> None:
        """The branches compute with the parameters themselves."""

    def identity(self) -> dict[str, Any]:
        """Type, rank, scale and layers."""
        return asdict(self.settings)

    def changes(self) -> dict[str, float]:
        """Norm of the change of each block's weights, relative to their own."""
        return relative_changes((key, *b.squares()) for key, b in self._branches.items())

    def write(self, path: Path, notes: Mapping[str, Any]) -> None:
        """Write a LoRA file, see `write_adapter`."""
        write_adapter(path, self, notes)

    @torch.no_grad()
    def load(self, file: AdapterFile) -> None:
        """Take over a LoRA file's values.

        Raises:
            AdapterError: another type, rank, scale or set of layers than are trained.
        """
        ours, settings = set(self._branches), self.settings
        faults = []
        if file.adapter_type != settings.adapter_type:
            faults.append(f"its type is {file.adapter_type}, not {settings.adapter_type}")
        ranks = sorted({layer.rank for layer in file.layers.values()} - {settings.rank})
        if ranks:
            faults.append(f"its rank is {ranks[0]}, not {settings.rank}")
        scales = {layer.scale for layer in file.layers.values()}
        if any(abs(scale - settings.scale) > 1e-6 for scale in scales):
            faults.append(f"its alpha/rank is {min(scales):g}, not {settings.scale:g}")
        if set(file.layers) != ours:
            missing, more = len(ours - set(file.layers)), len(set(file.layers) - ours)
            faults.append(f"it lacks {missing} of the trained layers and has {more} others")
        if file.adapters:
            faults.append(f"it holds {len(file.adapters)} adapters")
        if faults:
            raise AdapterError(
                f"{file.name} cannot be trained on: {'; '.join(faults)}. Set the same type, rank, "
                "alpha and layers as the file's, or start anew."
            )
        for key, branch in self._branches.items():
            layer = file.layers[key]
            assert isinstance(layer, LayerTensors)  # the type is one of ours
            values: dict[str, Tensor] = {}
            if layer.low_rank is None:
                assert layer.core is not None
                values["M_xs"] = layer.core
            else:
                values |= {"lora_A": layer.low_rank.a, "lora_B": layer.low_rank.b}
            values |= dict(zip(RULES[file.rule].names, layer.magnitudes, strict=True))
            for name, parameter in branch.named_parameters():
                if parameter.shape != values[name].shape:
                    raise AdapterError(
                        f"{file.name}: {key} {name} is {list(values[name].shape)}, the model's "
                        f"{list(parameter.shape)}. It was trained on another model."
                    )
                parameter.copy_(values[name])


def trainable_layers(model: SA3Model) -> dict[str, nn.Module]:
    """Every Linear and Conv1d of DiT and conditioner, by the checkpoint key of its weight."""
    found: dict[str, nn.Module] = {}
    for prefix, net in ((DIT_PREFIX, model.dit), (CONDITIONER_PREFIX, model.conditioner)):
        for path, module in net.named_modules():
            if isinstance(module, nn.Linear | nn.Conv1d | QuantisedLinear):
                found[f"{prefix}{path}.weight"] = module
    return found


def file_path(key: str) -> str:
    """A layer's path in a LoRA file, from the checkpoint key of its weight."""
    path = key.removesuffix(".weight")
    if path.startswith(DIT_PREFIX):
        return "model." + path.removeprefix(DIT_PREFIX)
    return path.removeprefix(CONDITIONER_PREFIX)


def write_adapter(path: Path, adapter: TrainedAdapter, notes: Mapping[str, Any]) -> None:
    """Write a LoRA file in the published format: float16, an old one replaced at once.

    Args:
        path: a .safetensors file in an existing folder.
        adapter: what was trained.
        notes: more entries for its `lora_config`, e.g. step and base_model.

    Raises:
        AdapterError: values that are not finite in float16, or the file cannot be written.
    """
    settings = adapter.settings
    config = {
        **notes,
        "rank": settings.rank,
        "alpha": settings.scale * settings.rank,
        "adapter_type": settings.adapter_type,
        "dropout": settings.dropout,
        "include": None,  # the reference loads nothing where its own matching of names fails
        "exclude": None,
    }
    tensors = {k: v.detach().half().cpu().contiguous() for k, v in adapter.tensors().items()}
    bad = [key for key, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise AdapterError(f"{path.name} was not saved: {bad[0]} is not finite in float16.")
    try:
        with whole_file(path) as whole:
            whole.file.write(save(tensors, {"lora_config": json.dumps(config)}))
    except OSError as error:
        raise AdapterError(write_failure(path, error)) from error
