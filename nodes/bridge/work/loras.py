"""What the LoRA nodes do: read, match, apply, describe and merge."""

import uuid
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths

from ....sa3_core.adapters.build import MatchReport, build_adapter, match, require_fit
from ....sa3_core.adapters.file import AdapterFile, read_adapter
from ....sa3_core.adapters.layer_filter import LayerFilter
from ....sa3_core.adapters.merge import MergeItem, merge_checkpoint
from ....sa3_core.adapters.rules import AdapterWeight
from ....sa3_core.checkpoints.reader import Checkpoint, open_checkpoint
from ....sa3_core.errors import InputError
from ....sa3_core.files.published import CONDITIONER_PREFIX, DIT_PREFIX, DTYPES
from ..host.running import chunk_reporter
from ..sockets.lora_patch import SA3Adapter, add_interval_wrapper
from ..sockets.model import SA3BaseModel, require_sa3

FOLDER = "loras"
ATTACHMENT = "sa3_loras"
_KEPT_FILES = 8  # LoRAs remembered, so that a change of strength reads nothing

_built: "OrderedDict[tuple[Any, ...], _Built]" = OrderedDict()


@dataclass(frozen=True)
class LoraUse:
    """One LoRA as a node sets it.

    Attributes:
        name: combo value, a file below a `loras` folder.
        strength: for the diffusion transformer.
        strength_conditioner: for the duration embedding.
        interval: lowest and highest noise level at which the DiT layers act.
        layer_filter: see LayerFilter.
        partial: apply the layers that fit although others do not.
    """

    name: str
    strength: float = 1.0
    strength_conditioner: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    layer_filter: str = ""
    partial: bool = False


@dataclass(frozen=True)
class _Built:
    file: AdapterFile
    report: MatchReport
    weights: dict[str, AdapterWeight]


def lora_names() -> list[str]:
    """LoRA files found, as plain names with forward slashes."""
    names = (name.replace("\\", "/") for name in folder_paths.get_filename_list(FOLDER))
    return [name for name in names if name.endswith(".safetensors")]


def lora_path(name: str) -> Path:
    """The file of a combo value; it cannot leave the `loras` folders."""
    if ".." in name.replace("\\", "/").split("/"):
        raise InputError(f"LoRA {name!r} points out of the loras folders.")
    return Path(folder_paths.get_full_path_or_raise(FOLDER, name))


def lora_fingerprint(name: str) -> str:
    """Changes when the file is replaced."""
    try:
        status = lora_path(name).stat()
    except (OSError, InputError):
        return name
    return f"{name}:{status.st_size}:{status.st_mtime_ns}"


def apply_lora(patcher: Any, use: LoraUse, node: str) -> tuple[Any, list[str]]:
    """A clone of a MODEL with a LoRA on it, and what the node says.

    Raises:
        AdapterError: the file is no LoRA for this model.
        InputError: not our MODEL, or settings out of range.
    """
    model = require_sa3(patcher, node)
    low, high = use.interval
    if not 0 <= low <= high <= 1:
        raise InputError(f"LoRA interval {low:g}-{high:g} must lie within 0-1 and go up.")
    layers = LayerFilter(use.layer_filter)
    built = _build(model, use)
    active = {key: weight for key, weight in built.weights.items() if layers.matches(key)}
    clone = patcher.clone()
    gated = use.interval != (0.0, 1.0)
    gate = (uuid.uuid4().hex, low, high) if gated else None
    for key, weight in active.items():
        dit = key.startswith(DIT_PREFIX)
        strength = use.strength if dit else use.strength_conditioner
        if strength != 0:
            adapter = SA3Adapter.of(weight, gate if dit else None)
            clone.add_patches({_host_key(key): adapter}, strength)
    if gated:
        add_interval_wrapper(clone)
    before = patcher.get_attachment(ATTACHMENT) or ()
    clone.set_attachments(ATTACHMENT, (*before, use))
    return clone, _describe(built, use, len(active))


def _host_key(key: str) -> str:
    return f"diffusion_model.{key.removeprefix(DIT_PREFIX)}" if key.startswith(DIT_PREFIX) else key


def _build(model: SA3BaseModel, use: LoraUse) -> _Built:
    """Read, match and build a LoRA, or take it from the last few."""
    info = model.info
    path = lora_path(use.name)
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns, info.path, use.partial)
    if key in _built:
        _built.move_to_end(key)
        return _built[key]
    file = read_adapter(path)
    checkpoint = open_checkpoint(Path(info.path), need=("dit", "conditioner"))
    shapes = _shapes(checkpoint)
    report = match(file, shapes)
    keys = require_fit(report, use.partial)
    weights = build_adapter(file, _originals(checkpoint, keys), keys, chunk_reporter())
    _built[key] = _Built(file, report, weights)
    while len(_built) > _KEPT_FILES:
        _built.popitem(last=False)
    return _built[key]


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Shapes by checkpoint key of everything a LoRA may change."""
    parts = (("dit", DIT_PREFIX), ("conditioner", CONDITIONER_PREFIX))
    return {
        prefix + key: shape
        for part, prefix in parts
        for key, shape in checkpoint.shapes[part].items()
    }


def _originals(checkpoint: Checkpoint, keys: Any) -> dict[str, Any]:
    """Functions that read a weight of the file (-xs LoRAs need its singular vectors)."""

    def reader(key: str) -> Any:
        part, prefix = (
            ("dit", DIT_PREFIX)
            if key.startswith(DIT_PREFIX)
            else ("conditioner", CONDITIONER_PREFIX)
        )
        name = checkpoint.parts[part][key.removeprefix(prefix)]
        return lambda: checkpoint.read([name])[name]

    return {key: reader(key) for key in keys}


def _describe(built: _Built, use: LoraUse, active: int) -> list[str]:
    file, report = built.file, built.report
    lines = [
        f"{file.name}: {file.adapter_type}, rank {file.rank}, alpha {file.alpha:g}",
        f"{active} of {report.total} layers active, {len(report.matched)} fit the model",
    ]
    if use.strength == 0 and use.strength_conditioner == 0:
        lines.append("Both strengths are 0: the model is unchanged.")
    if report.trained_on:
        lines.append(f"trained on a {report.trained_on} model")
    if file.include or file.exclude:
        lines.append(f"trained layers: {_listed(file.include)}, without: {_listed(file.exclude)}")
    notes = {k: v for k, v in file.metadata.items() if k not in ("lora_config", "format")}
    lines += [f"{key}: {value[:80]}" for key, value in sorted(notes.items())[:4]]
    return lines


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "-"


def save_merged(patcher: Any, prefix: str, precision: str, text_encoder: bool) -> Path:
    """Write the MODEL's file with its LoRAs merged in.

    Args:
        patcher: MODEL of Load SA3 Model, with LoRAs of our loaders.
        prefix: folder and name inside the output folder.
        precision: auto (the source's), fp32, bf16 or fp16.
        text_encoder: also copy the text encoder's folder.

    Raises:
        InputError: patches that no file can be written for (other nodes', intervals).
    """
    model = require_sa3(patcher, "Save SA3 Model")
    info = model.info
    uses: tuple[LoraUse, ...] = patcher.get_attachment(ATTACHMENT) or ()
    items = [_merge_item(use) for use in uses]
    foreign = _foreign_patches(patcher)
    if foreign:
        raise InputError(
            f"The MODEL carries patches of other nodes on {foreign} weights; Save SA3 Model "
            "merges LoRAs of LoRA Loader only. Load those LoRAs with LoRA Loader."
        )
    source = Path(info.path)
    folder, name, counter, _, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory()
    )
    target = Path(folder) / f"{name}_{counter:05}"
    while target.exists() or target.with_suffix(".safetensors").exists():
        counter += 1
        target = Path(folder) / f"{name}_{counter:05}"
    if not source.is_dir():
        target = target.with_name(target.name + _base_mark(info.objective) + ".safetensors")
    report = chunk_reporter()
    return merge_checkpoint(
        source, items, target, DTYPES.get(precision), text_encoder and source.is_dir(), report
    )


def _base_mark(objective: str) -> str:
    """Single files tell a base model by their name alone."""
    return "_base" if objective == "rectified_flow" else ""


def _merge_item(use: LoraUse) -> MergeItem:
    if use.interval != (0.0, 1.0):
        raise InputError(
            f"{use.name} acts only at noise levels {use.interval[0]:g}-{use.interval[1]:g}; a "
            "merged file has no intervals. Set the interval to 0-1."
        )
    return MergeItem(
        read_adapter(lora_path(use.name)),
        use.strength,
        use.strength_conditioner,
        LayerFilter(use.layer_filter),
        use.partial,
    )


def _foreign_patches(patcher: Any) -> int:
    return sum(
        any(not isinstance(entry[1], SA3Adapter) for entry in entries)
        for entries in patcher.patches.values()
    )
