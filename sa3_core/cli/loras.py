"""LoRAs as the command line gives them: found by path or name, and loaded."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ..adapters.loading import load_adapters
from ..adapters.norms import adapter_changes, describe_changes
from ..adapters.switch import BuiltUse
from ..checkpoints.reader import open_checkpoint
from ..errors import AdapterError
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


def load_loras(args: argparse.Namespace, model: Path) -> list[BuiltUse]:
    """Read the command's LoRAs, match each with the model file, and say what it changes there.

    Raises:
        AdapterError: a file that cannot be read or does not fit.
        InputError: a filter that leaves no layer.
    """
    uses = [use.with_lora(find_lora(args, use.lora)) for use in given_loras(args)]
    with Bars() as on_progress:
        built = load_adapters(model, uses, on_progress)
    _say_changes(built, model)
    return built


def _say_changes(built: Sequence[BuiltUse], model: Path) -> None:
    """A line on stderr for each LoRA: how far it moves the weights of each block at strength 1."""
    if not built:
        return
    originals = open_checkpoint(model, ("dit", "conditioner")).originals()
    for use in built:
        lines = describe_changes(adapter_changes(use.lora, originals))
        tqdm.write(f"{use.name}: {' '.join(lines)}", sys.stderr)
