"""Files that a stopped training goes on from."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checks import shown
from ..errors import AdapterError, CheckpointError
from ..files.json_text import parse_json
from ..files.tensor_file import open_tensors, read_header
from ..files.tensor_writer import write_tensors
from ..files.whole_file import whole_file, write_failure

_ENTRY = "training_state"
Reader = Callable[[str], Tensor]


def write_state(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a state; an older one is replaced when the new one is complete.

    Args:
        path: the file.
        tensors: parameters and what the optimizer knows of them.
        state: plain JSON values.

    Raises:
        AdapterError: it cannot be written; an older file is untouched.
    """
    try:
        with whole_file(path) as whole:
            write_tensors(whole.file, tensors, {_ENTRY: json.dumps(state)})
    except OSError as error:
        raise AdapterError(write_failure(path, error)) from error


def read_state(
    path: Path, own: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]
) -> tuple[dict[str, Any], AbstractContextManager[Reader]]:
    """Check a state against the run that is to go on.

    Args:
        path: the file.
        own: settings that must be the same.
        shapes: tensors that must be there, with their sizes.

    Returns:
        The state's JSON, and its tensors one by one.

    Raises:
        AdapterError: no such state, or one of other settings, clips or layers.
    """
    try:
        header = read_header(path)
        state = parse_json(header.get("__metadata__", {}).get(_ENTRY, "null"))
    except (CheckpointError, ValueError) as error:
        raise AdapterError(f"Training state {error}") from error
    if not isinstance(state, dict):
        raise AdapterError(f"{path.name} is no training state.")
    counts = [state.get(key) for key in ("step", "updates")]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise AdapterError(f"{path.name} is damaged: it does not tell its steps. Start anew.")
    other = _differences(own, state)
    fits = all(name in header and header[name]["shape"] == [*shapes[name]] for name in shapes)
    if other or not fits:
        raise AdapterError(
            f"{path.name} was trained with another setting of {', '.join(other) or 'layers'}. "
            "Set what it was trained with, or start anew in another folder."
        )
    return state, _reader(path)


def _differences(own: Mapping[str, Any], before: Mapping[str, Any], of: str = "") -> list[str]:
    """Settings that are not as they were, with both values where those are short."""
    found = []
    for key in own:
        now, then, name = own[key], before.get(key), f"{of}{key}"
        if now == then:
            continue
        if isinstance(now, dict) and isinstance(then, dict):
            found += _differences(now, then, f"{name} ")
        elif isinstance(now, list | dict) or isinstance(then, list | dict):
            found.append(name)
        else:
            found.append(f"{name} ({shown(then)}, now {shown(now)})")
    return found


@contextmanager
def _reader(path: Path) -> Iterator[Reader]:
    try:
        with open_tensors(path) as file:
            yield file.get
    except CheckpointError as error:
        raise AdapterError(f"Training state {error}") from error
