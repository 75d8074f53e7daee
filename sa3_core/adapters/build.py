"""From a LoRA file to what it does to a given model: matching by name and shape, and building."""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..errors import AdapterError
from .bases import Bases, BasesCache
from .changes import WeightChange
from .file import AdapterFile
from .kinds import Shape

log = logging.getLogger(__name__)

Weight = Tensor | Callable[[], Tensor]
_SHOWN = 3
_BLOCK = re.compile(r"transformer\.layers\.(\d+)\.")


@dataclass(frozen=True)
class ShapeMismatch:
    """A layer that both have, in different sizes.

    Attributes:
        key: checkpoint key of the weight.
        adapter: [out, in] the LoRA was trained on; None where the file does not tell.
        model: the model's shape.
        rank: of the LoRA's layer.
    """

    key: str
    adapter: tuple[int | None, int | None]
    model: Shape
    rank: int

    def __str__(self) -> str:
        if self.adapter == (None, None):
            return f"{self.key}: rank {self.rank} in a weight of {list(self.model)}"
        if self.adapter[1] is None and len(self.model) == 1:
            return f"{self.key}: {self.adapter[0]} values in the LoRA, {self.model[0]} in the model"
        sizes = ", ".join("?" if side is None else str(side) for side in self.adapter)
        return f"{self.key}: [{sizes}] in the LoRA, {list(self.model)} in the model"


@dataclass(frozen=True)
class MatchReport:
    """How a LoRA file and a model fit.

    Attributes:
        file: name of the LoRA file.
        matched: keys that fit, in the file's order.
        missing_in_model: keys of the file that the model does not have.
        shape_mismatch: keys that both have in different sizes.
        trained_on: what the LoRA's sizes say it was trained on ("small", "medium"), where they do.
        hint: something worth telling although everything fits, else empty.
        unused: tensors of the file that do nothing here: of a text encoder, of no known kind,
            or biases of layers that have none.
        architecture: what the model's own sizes say it is, as `trained_on`.
    """

    file: str
    matched: tuple[str, ...]
    missing_in_model: tuple[str, ...]
    shape_mismatch: tuple[ShapeMismatch, ...]
    trained_on: str | None = None
    hint: str = ""
    unused: tuple[str, ...] = ()
    architecture: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """What the file changes, be it in the model or not."""
        misfits = (item.key for item in self.shape_mismatch)
        return (*self.matched, *self.missing_in_model, *misfits)

    @property
    def total(self) -> int:
        """Weights, biases and gains that the file changes."""
        return len(self.keys)


def match(adapter: AdapterFile, shapes: Mapping[str, Shape]) -> MatchReport:
    """Compare a LoRA file with a model's weights.

    Args:
        adapter: the file.
        shapes: checkpoint key -> shape of every weight of the model (DiT and conditioner).
    """
    matched, missing, mismatch = [], [], []
    unused = list(adapter.unused)
    for key, layer in adapter.layers.items():
        if key not in shapes and _has_no_bias(key, shapes):
            unused += adapter.names.get(key, (key,))
        elif key not in shapes:
            missing.append(key)
        elif layer.fits(shapes[key]):
            matched.append(key)
        else:
            mismatch.append(ShapeMismatch(key, layer.shape, tuple(shapes[key]), layer.rank))
    return MatchReport(
        adapter.name,
        tuple(matched),
        tuple(missing),
        tuple(mismatch),
        _architecture({key: layer.shape for key, layer in adapter.layers.items()}),
        _hint(adapter, shapes),
        tuple(unused),
        _architecture(shapes),
    )


def require_fit(report: MatchReport, partial: bool = False) -> tuple[str, ...]:
    """Keys a LoRA may be applied to.

    Args:
        report: from `match`.
        partial: the user's explicit choice to apply the layers that fit and leave the others.

    Raises:
        AdapterError: some layers do not fit (without `partial`), or none does.
    """
    unfit = report.total - len(report.matched)
    if unfit and not (partial and report.matched):
        raise AdapterError(_misfit(report, unfit))
    if unfit:
        log.warning(
            "%s: %d of %d layers do not fit and are left out", report.file, unfit, report.total
        )
    if report.hint:
        log.warning("%s: %s", report.file, report.hint)
    if report.unused:
        log.warning("%s: %s", report.file, unused_note(report.unused))
    return report.matched


def build_adapter(
    adapter: AdapterFile,
    weights: Mapping[str, Weight],
    keys: Collection[str] | None = None,
    on_layer: Callable[[int, int], None] | None = None,
) -> dict[str, WeightChange]:
    """Turn a LoRA file into functions of weights.

    Args:
        adapter: the file.
        weights: checkpoint key -> the model's ORIGINAL weight, or a function that returns it;
            only read for -xs types, which need its singular vectors.
        keys: layers to build, as from `require_fit`; None means all of the file.
        on_layer: called as (done, total) after each layer; may raise to stop.

    Returns:
        Checkpoint key -> what the LoRA does to that weight, in the order of the file.
    """
    wanted = [key for key in adapter.layers if keys is None or key in keys]
    cache = BasesCache(adapter.path) if adapter.is_xs else None
    built: dict[str, WeightChange] = {}
    try:
        for done, key in enumerate(wanted, start=1):

            def bases(rank: int, key: str = key) -> Bases:
                assert cache is not None
                source = weights[key]
                return cache.bases(source if isinstance(source, Tensor) else source(), rank)

            built[key] = adapter.layers[key].change(bases)
            if on_layer is not None:
                on_layer(done, len(wanted))
    finally:
        if cache is not None:
            cache.save()  # also what was computed before a stop
    return built


def unused_note(names: Collection[str]) -> str:
    """Says which tensors of a file do nothing."""
    shown = ", ".join(list(names)[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    count = "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"
    return f"{count} not used: {shown}{more}"


def layer_count(keys: Collection[str]) -> int:
    """How many layers some checkpoint keys belong to: a weight and its bias are one."""
    return len({re.sub(r"\.(?:weight|bias|gamma)$", "", key) for key in keys})


def _has_no_bias(key: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether the key is the bias of a layer that the model has, without one."""
    return key.endswith(".bias") and f"{key.removesuffix('.bias')}.weight" in shapes


def _architecture(sizes: Mapping[str, tuple[int | None, ...]]) -> str | None:
    """What sizes of weights belong to: small has plain, medium differential attention."""
    for key, size in sizes.items():
        if key.endswith("self_attn.to_qkv.weight") and None not in size:
            out, width = size[:2]
            return {3 * (width or 0): "small", 5 * (width or 0): "medium"}.get(out or 0)
    return None


def _hint(adapter: AdapterFile, shapes: Mapping[str, Shape]) -> str:
    """A lora-xs file states no sizes, so only the number of blocks may give it away."""
    if any(side is not None for layer in adapter.layers.values() for side in layer.shape):
        return ""
    ours = {int(hit[1]) for hit in map(_BLOCK.search, shapes) if hit}
    theirs = {int(hit[1]) for hit in map(_BLOCK.search, adapter.layers) if hit}
    if not theirs or not ours or max(theirs) >= max(ours):
        return ""
    return (
        f"its last block is {max(theirs)}, the model's {max(ours)}. A {adapter.adapter_type} file "
        "does not tell sizes, so make sure that it was trained on this model"
    )


def _misfit(report: MatchReport, unfit: int) -> str:
    faults = []
    if report.shape_mismatch:
        shown = "; ".join(str(item) for item in report.shape_mismatch[:_SHOWN])
        faults.append(f"{len(report.shape_mismatch)} differ in shape ({shown})")
    if report.missing_in_model:
        shown = ", ".join(report.missing_in_model[:_SHOWN])
        faults.append(f"{len(report.missing_in_model)} are not in the model ({shown})")
    advice = "Choose a LoRA for this model"
    if report.trained_on and report.trained_on != report.architecture:
        advice = f"It looks trained on a {report.trained_on} model; load that one, or another LoRA"
    if report.matched:
        advice += f", or choose partial to apply only the {len(report.matched)} that fit"
    return (
        f"{report.file} does not fit this model: of its {report.total} layers "
        f"{' and '.join(faults)}. {advice}."
    )
