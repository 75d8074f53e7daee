"""LoRA files read and built for a model in one step."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..checkpoints.reader import Checkpoint, open_checkpoint
from ..errors import InputError
from .build import build_adapter, match, require_fit
from .file import read_adapter
from .switch import BuiltUse
from .use import AdapterUse

OnLayer = Callable[[str, int, int], None]


def load_adapters(
    model: Path,
    uses: Sequence[AdapterUse[Path]],
    on_layer: OnLayer = lambda name, done, total: None,
) -> list[BuiltUse]:
    """Read LoRA files, match each with a model and build what it does; for `AdapterSwitch`.

    Args:
        model: the model's folder or file, as it was loaded from.
        uses: LoRA files and how they are to be used, in order.
        on_layer: told (file name, done, total) while singular vectors are computed (-xs types).

    Raises:
        AdapterError: a file that cannot be read or does not fit.
        CheckpointError: the model cannot be opened.
        InputError: a filter that leaves no layer.
    """
    if not uses:
        return []
    checkpoint = open_checkpoint(model, ("dit", "conditioner"))
    return [_load(use, checkpoint, on_layer) for use in uses]


def _load(use: AdapterUse[Path], checkpoint: Checkpoint, on_layer: OnLayer) -> BuiltUse:
    file = read_adapter(use.lora)
    keys = require_fit(match(file, checkpoint.adaptable_shapes()), use.partial)
    if not use.layers.count(keys):
        raise InputError(
            f"is {use.layers.text!r}; it leaves none of the {len(keys)} layers of {file.name}, "
            f"which are named like {keys[0]}.",
            "layer_filter",
        )

    def report(done: int, total: int) -> None:
        if file.is_xs:
            on_layer(file.name, done, total)

    # Of the file: those of a loaded model may be rounded.
    return use.with_lora(build_adapter(file, checkpoint.originals(), keys, report))
