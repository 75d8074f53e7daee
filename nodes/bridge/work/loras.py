"""What the LoRA nodes do: read, match, apply, describe and merge."""

import functools
import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths

from ....sa3_core.adapters.build import (
    MatchReport,
    build_adapter,
    layer_count,
    match,
    require_fit,
    unused_note,
)
from ....sa3_core.adapters.changes import WeightChange
from ....sa3_core.adapters.file import AdapterFile, read_adapter
from ....sa3_core.adapters.merge import merge_checkpoint
from ....sa3_core.adapters.norms import adapter_changes, describe_changes
from ....sa3_core.adapters.use import AdapterUse
from ....sa3_core.checkpoints.reader import open_checkpoint
from ....sa3_core.errors import AdapterError, CheckpointError, InputError
from ....sa3_core.files.published import DIT_PREFIX, DTYPES
from ....sa3_core.files.states import FileStates
from ....sa3_core.files.whole_file import FreeName, claim_folder, whole_file, write_failure
from ....sa3_core.networks.quantised import STORAGES
from ..host.folders import FileState, file_state, roots
from ..host.running import check_files, chunk_reporter, device_for, watch_files
from ..sockets.lora_patch import SA3Adapter, add_change, add_interval_wrapper
from ..sockets.model import require_sa3
from ..sockets.stock_run import LORAS
from ..sockets.trained_lora import file_of
from .names import filled_prefix, output_names, place_inside

FOLDER = "loras"
_WEIGHT_BYTES = 2**30  # more than the largest weight takes while it is compared
_KEPT_FILES = 8  # LoRAs remembered, so that a change of strength reads nothing


@dataclass(frozen=True)
class _Built:
    file: AdapterFile
    report: MatchReport
    weights: dict[str, WeightChange]
    changes: dict[str, float]


def lora_names() -> list[str]:
    """LoRA files found, as plain names with forward slashes."""
    names = (name.replace("\\", "/") for name in folder_paths.get_filename_list(FOLDER))
    return [name for name in names if name.endswith(".safetensors")]


class FileName(str):
    """What stands for a LoRA that is no file of the `loras` folders.

    Attributes:
        path: where it lies.
    """

    path: Path

    @classmethod
    def of(cls, lora: Any) -> "FileName":
        """The name of a LORA_MODEL.

        Raises:
            InputError: it is none.
        """
        path = file_of(lora)
        name = cls(path)
        name.path = path
        return name


def save_trained(lora: Any, prefix: str, hidden: Any = None) -> str:
    """Write a LORA_MODEL into the first `loras` folder, never over another file.

    Args:
        lora: LORA_MODEL.
        prefix: folder and name, with tokens.
        hidden: the node's hidden inputs (prompt and workflow), for tokens of the prefix.

    Returns:
        Its name there.

    Raises:
        AdapterError: it cannot be written.
        InputError: no LORA_MODEL, or a prefix that is no name.
    """
    source, checked = file_of(lora), filled_prefix(prefix, hidden)
    base = Path(os.path.abspath(roots(FOLDER)[0]))
    path = place_inside(base, checked)
    place = FreeName(path.parent, path.name, ".safetensors")
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as whole, source.open("rb") as file:
            shutil.copyfileobj(file, whole.file)
    except OSError as error:
        raise AdapterError(write_failure(place, error)) from error
    return whole.path.relative_to(base).as_posix()


def lora_path(name: str) -> Path:
    """The file of a combo value; it cannot leave the `loras` folders."""
    if isinstance(name, FileName):
        return name.path
    if ".." in name.replace("\\", "/").split("/"):
        raise InputError(f"LoRA {name!r} points out of the loras folders.")
    return Path(folder_paths.get_full_path_or_raise(FOLDER, name))


def lora_fingerprint(name: str) -> str:
    """Changes when the file is replaced."""
    try:
        return f"{name}:{file_state(lora_path(name))}"
    except (OSError, InputError):
        return name


def apply_lora(patcher: Any, use: AdapterUse[str], node: str) -> tuple[Any, list[str]]:
    """A clone of a MODEL with a LoRA on it, and what the node says.

    Raises:
        AdapterError: the file is no LoRA for this model.
        InputError: not our MODEL, or settings out of range.
    """
    info = require_sa3(patcher, node).info
    path = lora_path(use.lora)
    check_files(patcher)
    states = FileStates.of([path])
    built = _build(path, file_state(path), info.files, use.partial)
    active = [key for key in built.weights if use.layers.matches(key)]
    clone = patcher.clone()
    gate = None if use.always else (uuid.uuid4().hex, *use.interval)
    for key in active:
        strength = use.strength_for(key)
        if strength != 0:
            own = gate if key.startswith(DIT_PREFIX) else None
            add_change(clone, _host_key(key), built.weights[key], strength, own)
    if gate is not None:
        add_interval_wrapper(clone)
    watch_files(clone, states)
    before = patcher.get_attachment(LORAS) or ()
    clone.set_attachments(LORAS, (*before, use))
    return clone, _describe(built, use, active)


def _host_key(key: str) -> str:
    return f"diffusion_model.{key.removeprefix(DIT_PREFIX)}" if key.startswith(DIT_PREFIX) else key


@functools.lru_cache(maxsize=_KEPT_FILES)
def _read(path: Path, state: FileState) -> AdapterFile:
    return read_adapter(path)


def read_lora(name: str) -> AdapterFile:
    """The file of a combo value, read again only when it was replaced.

    Raises:
        AdapterError: it cannot be read.
        InputError: it points out of the loras folders.
    """
    path = lora_path(name)
    return _read(path, file_state(path))


@functools.lru_cache(maxsize=_KEPT_FILES)
def _build(path: Path, state: FileState, model: FileStates, partial: bool) -> _Built:
    """Read a LoRA file and match and build it for a model's file."""
    file = _read(path, state)
    ((weights, _),) = model.states
    checkpoint = open_checkpoint(weights, need=("dit", "conditioner"))
    report = match(file, checkpoint.adaptable_shapes())
    keys = require_fit(report, partial)
    built = build_adapter(file, checkpoint.originals(), keys, chunk_reporter())
    changes = adapter_changes(
        built, checkpoint.originals(), device_for(_WEIGHT_BYTES), chunk_reporter()
    )
    return _Built(file, report, built, changes)


def _describe(built: _Built, use: AdapterUse[str], active: list[str]) -> list[str]:
    file, report = built.file, built.report
    total, fit = layer_count(report.keys), layer_count(report.matched)
    size = f", rank {file.rank}, alpha {file.alpha:g}" if file.rank else ""
    lines = [
        f"{file.name}: {file.adapter_type}{size}",
        f"{layer_count(active)} of {total} layers active, {fit} fit the model",
    ]
    if file.adapters:
        lines.append(f"Holds {len(file.adapters)} adapters, all applied: {_listed(file.adapters)}")
    if report.unused:
        lines.append(unused_note(report.unused))
    if use.strength == 0 and use.strength_conditioner in (0, None):
        lines.append("Both strengths are 0: the model is unchanged.")
    lines += describe_changes(built.changes)
    if report.trained_on:
        lines.append(f"trained on a {report.trained_on} model")
    if file.include or file.exclude:
        lines.append(f"trained layers: {_listed(file.include)}, without: {_listed(file.exclude)}")
    notes = {k: v for k, v in file.metadata.items() if k not in ("lora_config", "format")}
    lines += [f"{key}: {value[:80]}" for key, value in sorted(notes.items())[:4]]
    return lines


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "-"


def save_merged(
    patcher: Any, prefix: str, precision: str, text_encoder: bool, hidden: Any = None
) -> Path:
    """Write the MODEL's file with its LoRAs merged in.

    Args:
        patcher: MODEL of Load SA3 Model, with LoRAs of our loaders.
        prefix: folder and name inside the output folder.
        precision: auto (the source's), fp32, bf16, fp16, or 8 bits for the blocks' matrices.
        text_encoder: also copy the text encoder's folder.
        hidden: the node's hidden inputs (prompt and workflow), for tokens of the prefix.

    Raises:
        InputError: patches that no file can be written for (other nodes', intervals).
    """
    model = require_sa3(patcher, "Save SA3 Model")
    check_files(patcher)
    info = model.info
    uses: tuple[AdapterUse[str], ...] = patcher.get_attachment(LORAS) or ()
    items = [use.with_lora(read_lora(use.lora)) for use in uses]
    foreign = _foreign_patches(patcher)
    if foreign:
        raise InputError(
            f"The MODEL carries patches of other nodes on {foreign} weights; Save SA3 Model "
            "merges LoRAs of LoRA Loader only. Load those LoRAs with LoRA Loader."
        )
    source = Path(info.path)
    names, report = output_names(prefix, hidden), chunk_reporter()
    dtype, storage = DTYPES.get(precision), precision if precision in STORAGES else None
    if not source.is_dir():
        single = names.item(0, _base_mark(info.objective) + ".safetensors")
        return merge_checkpoint(source, items, single, dtype, False, report, storage)
    place = names.item(0, "")
    try:
        target = claim_folder(place)
    except OSError as error:
        raise CheckpointError(write_failure(place, error)) from error
    try:
        return merge_checkpoint(source, items, target, dtype, text_encoder, report, storage)
    finally:
        with suppress(OSError):  # empty where nothing was written
            target.rmdir()


def _base_mark(objective: str) -> str:
    """Single files tell a base model by their name alone."""
    return "_base" if objective == "rectified_flow" else ""


def _foreign_patches(patcher: Any) -> int:
    return sum(
        any(not isinstance(entry[1], SA3Adapter) for entry in entries)
        for entries in patcher.patches.values()
    )
