"""What is asked of any tensor file: a header that holds, and exactly the tensors a net needs."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..checks import shown
from ..errors import CheckpointError, InputError
from .json_text import unique_keys
from .names import name_fault, short_name
from .published import DTYPES

Net = TypeVar("Net", bound=nn.Module)
_MAX_HEADER = 100_000_000  # the format's own limit, in bytes
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}


def read_header(path: Path) -> dict[str, Any]:
    """Read a safetensors header and check that the file holds all it promises.

    Args:
        path: the file.

    Returns:
        Tensor name -> {"dtype", "shape", "data_offsets"}; "__metadata__" too where there is one.

    Raises:
        CheckpointError: the file is missing, unreadable, cut short, too long or no safetensors.
    """
    if fault := name_fault(path):
        raise CheckpointError(f"The path {short_name(path)} {fault}.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or not 2 <= length <= _MAX_HEADER:
                raise _no_safetensors(path, start)
            if 8 + length > size:
                raise _cut_short(path, size, 8 + length)
            text = file.read(length)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.name}: there is no such file ({path}).") from error
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error} ({path}).") from error
    header = _parse(path, text)
    end = _data_size(path, header)
    if header.get("__metadata__", "") is None:
        del header["__metadata__"]
    if 8 + length + end > size:
        raise _cut_short(path, size, 8 + length + end)
    if 8 + length + end < size:
        raise CheckpointError(
            f"{path.name} is {size - 8 - length - end} bytes longer than its header says; the file "
            "is damaged. Delete it and download it again."
        )
    return header


class Tensors:
    """An open safetensors file.

    Attributes:
        header: tensor name -> {"dtype", "shape", "data_offsets"}, checked.
        metadata: of the header.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], handle: Any) -> None:
        self.header = {name: entry for name, entry in header.items() if name != "__metadata__"}
        self.metadata: dict[str, str] = dict(header.get("__metadata__") or {})
        self._path, self._handle = path, handle

    def get(self, name: str) -> Tensor:
        """One tensor, memory-mapped.

        Raises:
            CheckpointError: it cannot be read.
        """
        try:
            return self._handle.get_tensor(name)
        except (SafetensorError, OSError, AttributeError, RuntimeError, TypeError) as error:
            raise _unreadable(self._path, f"{shown(name)}: {error}") from error


@contextmanager
def open_tensors(path: Path, header: Mapping[str, Any] | None = None) -> Iterator[Tensors]:
    """Open a safetensors file whose header holds.

    Args:
        path: the file.
        header: as `read_header` gave it, where that was done already.

    Raises:
        CheckpointError: as `read_header`, or a type of tensors that is not known here.
    """
    header = read_header(path) if header is None else header
    try:
        opened = safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, _unknown_type(header) or str(error)) from error
    with opened as handle:
        yield Tensors(path, header, handle)


def _unknown_type(header: Mapping[str, Any]) -> str | None:
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] not in _BITS:
            return f"{shown(name)} is of the type {shown(entry['dtype'])}, not known here"
    return None


def _unreadable(path: Path, cause: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} cannot be read ({cause}). Delete it and download it again, or use another "
        "file."
    )


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        if "twice" not in str(error):
            raise _no_safetensors(path, text[:8]) from error
        raise CheckpointError(
            f"{path.name} has a damaged header ({error}). Delete it and download it again."
        ) from error
    if not isinstance(header, dict):
        raise _no_safetensors(path, text[:8])
    return header


def _check_metadata(path: Path, metadata: object) -> None:
    """Refuse a `__metadata__` that is not text by name."""
    sound = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if metadata is not None and not sound:
        raise CheckpointError(
            f"{path.name} has a damaged header (at '__metadata__': it must hold texts). Delete it "
            "and download it again."
        )


def _check_places(path: Path, header: dict[str, Any]) -> None:
    """Refuse tensors that lie on each other or leave a gap; reads nothing but the header."""
    places = sorted((*entry["data_offsets"], name) for name, entry in header.items())
    end, before = 0, "the start"
    for first, last, name in places:
        if first != end:
            fault = "overlap" if first < end else "leave a gap"
            raise CheckpointError(
                f"{path.name} has a damaged header ({shown(before)} and {shown(name)} "
                f"{fault}). Delete it and download it again."
            )
        end, before = last, name


def _data_size(path: Path, header: dict[str, Any]) -> int:
    """Bytes of tensor data that the header promises; every entry is checked on the way."""
    end = 0
    _check_metadata(path, header.get("__metadata__"))
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    for name, entry in tensors.items():
        try:
            first, last = entry["data_offsets"]
            count = math.prod(entry["shape"])
            sizes = (first, last, *entry["shape"])
            sound = all(type(size) is int and 0 <= size < 2**63 for size in sizes)
            sound = sound and first <= last and isinstance(entry["dtype"], str)
            bits = _BITS.get(entry["dtype"])  # unknown (newer) types are left to the reader
            if bits is not None:
                sound = sound and (last - first) * 8 == count * bits
            end = max(end, last)
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise CheckpointError(
                f"{path.name} has a damaged header (at {shown(name)}). Delete it and download it "
                "again."
            )
    _check_places(path, tensors)
    return end


def _no_safetensors(path: Path, start: bytes) -> CheckpointError:
    if start.startswith(b"version "):
        cause = "is a Git LFS pointer, not the weights themselves"
    elif start.lstrip()[:1] == b"<":
        cause = "is a web page, not weights"
    elif not start:
        cause = "is empty"
    else:
        cause = "is not a safetensors file, or its header is damaged"
    return CheckpointError(f"{path.name} {cause}. Delete it and download it again ({path}).")


def _cut_short(path: Path, size: int, expected: int) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is cut short: {size} of at least {expected} bytes are there. "
        f"Delete it and download it again ({path})."
    )


def check_dtype(dtype: torch.dtype | None) -> None:
    """Refuse a dtype that weights are not computed in; None is left to the loader.

    Raises:
        InputError: naming those that are.
    """
    if dtype is not None and dtype not in DTYPES.values():
        known = ", ".join(str(kind).removeprefix("torch.") for kind in DTYPES.values())
        raise InputError(
            f"is {dtype}; known: {known}. Only the diffusion transformer can be stored in 8 bits "
            "(storage='int8').",
            "dtype",
        )


def check_floats(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that are no float32, bfloat16 or float16.

    Args:
        tensors: by key.
        what: file and part, for the message.

    Raises:
        CheckpointError: naming one that is something else.
    """
    for key, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise CheckpointError(
                f"{what}: {key!r} is {tensor.dtype}; weights must be float32, bfloat16 or float16. "
                "Use an unquantised file."
            )


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that hold NaN or infinite values; every value is read once.

    Args:
        tensors: by key, of any dtype; only floats can be at fault.
        what: file and part, for the message.

    Raises:
        CheckpointError: naming the first tensor at fault.
    """
    for key, tensor in tensors.items():
        # A sum is ten times as fast as looking at each value, and NaN and infinity stay in it. It
        # may overflow without them, so that a bad one is only a suspicion.
        if not tensor.is_floating_point() or torch.isfinite(tensor.sum()):
            continue
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if bad:
            raise CheckpointError(
                f"{what}: {bad} of the {tensor.numel()} values of {key!r} are NaN or infinite. The "
                "file is damaged, or was trained or converted until it overflowed. Use another "
                "file, or convert it again from a sound one."
            )


def check_keys_and_shapes(found: Mapping[str, Tensor], expected: nn.Module, what: str) -> None:
    """Compare tensors with a net built for them.

    Raises:
        CheckpointError: listing missing, unknown and mis-shaped tensors.
    """
    wanted = {key: tuple(value.shape) for key, value in expected.state_dict().items()}
    missing = [key for key in wanted if key not in found]
    extra = [key for key in found if key not in wanted]
    shaped = [
        f"{key} {tuple(found[key].shape)} instead of {wanted[key]}"
        for key in wanted
        if key in found and tuple(found[key].shape) != wanted[key]
    ]
    faults = [
        f"{name}: {_listing(keys)}"
        for name, keys in (("missing", missing), ("unknown", extra), ("wrong shape", shaped))
        if keys
    ]
    if faults:
        raise CheckpointError(f"{what}: tensors do not fit; {'; '.join(faults)}.")


def _listing(keys: list[str]) -> str:
    return f"{len(keys)} ({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''})"


def fill(
    net: Net,
    tensors: dict[str, Tensor],
    expected: nn.Module,
    what: str,
    store: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> Net:
    """Assign a file's tensors to a net, which is ready to run without gradients afterwards.

    Args:
        net: built for the file, without weights.
        tensors: by key.
        expected: the same net of plain layers, whose keys and shapes the tensors must have.
        what: file and part, for messages.
        store: makes of the tensors what a host's layers load.

    Raises:
        CheckpointError: listing missing, unknown and mis-shaped tensors.
    """
    check_keys_and_shapes(tensors, expected, what)
    tensors = store(tensors) if store else tensors
    # strict=False: a host's lazy layers list no keys before loading; the check above is stricter.
    net.load_state_dict(tensors, strict=False, assign=True)
    net.requires_grad_(False)
    return net.train(False)
