"""LoRAs as the command line gives them: found, matched with the model, built."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from ..adapters.build import build_adapter, match, require_fit
from ..adapters.file import read_adapter
from ..adapters.layer_filter import LayerFilter
from ..adapters.switch import AdapterUse
from ..checkpoints.reader import Checkpoint, open_checkpoint
from ..errors import InputError
from ..files.published import CONDITIONER_PREFIX, DIT_PREFIX
from .files import Bars, models_dir
from .values import LoraSpec, given_loras

_PARTS = {"dit": DIT_PREFIX, "conditioner": CONDITIONER_PREFIX}


def find_lora(args: argparse.Namespace, file: str) -> Path:
    """A LoRA file by its path, else below `loras` in the models folder."""
    path = Path(file).expanduser()
    inside = models_dir(args) / "loras" / file
    return inside if not path.exists() and inside.is_file() else path


def load_loras(args: argparse.Namespace, model: Path) -> list[AdapterUse]:
    """Read the command's LoRAs and match each with the model file.

    Raises:
        AdapterError: a file that cannot be read or does not fit.
        InputError: a filter that leaves no layer.
    """
    specs = given_loras(args)
    if not specs:
        return []
    checkpoint = open_checkpoint(model, tuple(_PARTS))
    return [_load(args, spec, checkpoint) for spec in specs]


def _load(args: argparse.Namespace, spec: LoraSpec, checkpoint: Checkpoint) -> AdapterUse:
    file = read_adapter(find_lora(args, spec.file))
    shapes = {
        prefix + key: shape
        for part, prefix in _PARTS.items()
        for key, shape in checkpoint.shapes[part].items()
    }
    keys = require_fit(match(file, shapes))
    layers = LayerFilter(spec.layers)
    if not layers.count(keys):
        raise InputError(
            f"--lora-filter {spec.layers!r} leaves none of the {len(keys)} layers of {file.name}; "
            f"they are named like {keys[0]}."
        )
    with Bars() as on_progress:
        weights = build_adapter(
            file,
            _originals(checkpoint),
            keys,
            (lambda done, total: on_progress(file.name, done, total)) if file.is_xs else None,
        )
    return AdapterUse(weights, spec.strength, spec.interval, layers)


def _originals(checkpoint: Checkpoint) -> dict[str, Callable[[], Tensor]]:
    """The file's own weights, for -xs types: those of a loaded model may be rounded."""
    return {
        prefix + key: partial(_read, checkpoint, name)
        for part, prefix in _PARTS.items()
        for key, name in checkpoint.parts[part].items()
    }


def _read(checkpoint: Checkpoint, name: str) -> Tensor:
    return checkpoint.read([name])[name]
