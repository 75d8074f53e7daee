"""LoRAs as the command line gives them: found, matched with the model, built."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from ..adapters.build import build_adapter, match, require_fit
from ..adapters.changes import WeightChange
from ..adapters.file import read_adapter
from ..adapters.use import AdapterUse
from ..checkpoints.reader import Checkpoint, open_checkpoint
from ..errors import AdapterError, InputError
from ..files.names import name_fault, short_name
from .files import Bars, models_dir
from .values import given_loras


def find_lora(args: argparse.Namespace, file: str) -> Path:
    """A LoRA file by its path, else below `loras` in the models folder."""
    path = Path(file).expanduser()
    if fault := name_fault(path):
        raise AdapterError(f"The LoRA {short_name(path)} {fault}.")
    inside = models_dir(args) / "loras" / file
    return inside if not path.exists() and inside.is_file() else path


def load_loras(
    args: argparse.Namespace, model: Path
) -> list[AdapterUse[Mapping[str, WeightChange]]]:
    """Read the command's LoRAs and match each with the model file.

    Raises:
        AdapterError: a file that cannot be read or does not fit.
        InputError: a filter that leaves no layer.
    """
    uses = given_loras(args)
    if not uses:
        return []
    checkpoint = open_checkpoint(model, ("dit", "conditioner"))
    return [use.with_lora(_build(args, use, checkpoint)) for use in uses]


def _build(
    args: argparse.Namespace, use: AdapterUse[str], checkpoint: Checkpoint
) -> Mapping[str, WeightChange]:
    file = read_adapter(find_lora(args, use.lora))
    keys = require_fit(match(file, checkpoint.adaptable_shapes()), use.partial)
    if not use.layers.count(keys):
        raise InputError(
            f"is {use.layers.text!r}; it leaves none of the {len(keys)} layers of {file.name}, "
            f"which are named like {keys[0]}.",
            "layer_filter",
        )
    with Bars() as on_progress:
        return build_adapter(
            file,
            checkpoint.originals(),  # of the file: those of a loaded model may be rounded
            keys,
            (lambda done, total: on_progress(file.name, done, total)) if file.is_xs else None,
        )
