"""Reading Stable Audio 3 checkpoints: safetensors only, strictly, in all published layouts.

A file holds up to three parts, told apart by prefix: `dit` (`model.model.`), `same`
(`pretransform.model.`, or no prefix in a standalone autoencoder) and `conditioner`
(`conditioner.`). Some files carry extra path levels in front; they are dropped. Tensors under
other prefixes are ignored with one log line; under ours, every tensor must be known.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .conditioning import Conditioner
from .config import ModelConfig, build_config, read_config
from .dit import DiffusionTransformer
from .errors import CheckpointError
from .ops import Ops, TorchOps
from .same import SAMEAutoencoder
from .weight_norm import fold_weight_norm

log = logging.getLogger(__name__)

Net = TypeVar("Net", bound=nn.Module)
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
WEIGHTS_NAME, CONFIG_NAME = "model.safetensors", "model_config.json"

# An extra `model.` level would itself look like the DiT's prefix, hence the look-ahead.
_PREFIXES = {
    "dit": re.compile(r"model\.model\.(?!model\.)"),
    "same": re.compile(r"pretransform\.model\.(?=(?:encoder|decoder|bottleneck)\.)"),
    "conditioner": re.compile(r"conditioner\.(?=conditioners\.)"),
}
_STANDALONE = re.compile(r"(?:encoder|decoder|bottleneck)\.")


@dataclass(frozen=True)
class Checkpoint:
    """An opened weights file.

    Attributes:
        path: the safetensors file.
        parts: part name -> {key inside the part: key in the file}.
        shapes: part name -> {key inside the part: shape}, weight norm not yet folded.
        config: sizes and settings of what it holds.
        read: returns the file's tensors for a list of file keys.
    """

    path: Path
    parts: Mapping[str, Mapping[str, str]]
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
    config: ModelConfig
    metadata: Mapping[str, str] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    read: Callable[[list[str]], dict[str, Tensor]] = field(default=lambda keys: {}, repr=False)

    def tensors(self, part: str, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The part's tensors by key, weight norm folded, memory-mapped where dtype already fits.

        Args:
            part: `dit`, `same` or `conditioner`.
            dtype: None keeps the file's; rotary frequencies stay as they are.
        """
        names = self.parts[part]
        raw = self.read(list(names.values()))
        found = {key: raw[file_key] for key, file_key in names.items()}
        wrong = [k for k, v in found.items() if v.dtype not in FLOATS]
        if wrong:
            raise CheckpointError(
                f"{self.path.name}: {wrong[0]!r} is {found[wrong[0]].dtype}; weights must be "
                "float32, bfloat16 or float16. Use an unquantised file."
            )
        found = fold_weight_norm(found)
        if dtype is None:
            return found
        return {k: v if k.endswith("inv_freq") else v.to(dtype) for k, v in found.items()}


def open_checkpoint(
    path: Path,
    need: tuple[str, ...] = ("dit", "same", "conditioner"),
    read: Callable[[Path], Mapping[str, Tensor]] | None = None,
) -> Checkpoint:
    """Open a model folder, a single file or a standalone autoencoder.

    Args:
        path: a folder with model.safetensors (and model_config.json), or a .safetensors file.
        need: parts that must be there.
        read: the host's own file reader; by default tensors are memory-mapped as they are used.

    Raises:
        CheckpointError: no such file, not safetensors, truncated, or the needed parts are missing.
        ConfigError: model_config.json contradicts the tensors or asks for something unknown here.
    """
    file = path / WEIGHTS_NAME if path.is_dir() else path
    shapes, metadata, dtype = _read_header(file)
    parts = _split(shapes, file)
    _require(parts, need, file)
    part_shapes = {
        part: {key: shapes[name] for key, name in names.items()} for part, names in parts.items()
    }
    config_path = file.parent / CONFIG_NAME
    has_config = file.name == WEIGHTS_NAME and config_path.is_file()
    raw = read_config(config_path) if has_config else None
    config = build_config(part_shapes.get("dit"), part_shapes.get("same"), raw)
    reader = _mapped_reader(file) if read is None else _host_reader(file, read)
    return Checkpoint(file, parts, part_shapes, config, metadata, dtype, reader)


def _read_header(
    file: Path,
) -> tuple[dict[str, tuple[int, ...]], dict[str, str], torch.dtype]:
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file. Download the model or check its folder.")
    if file.suffix != ".safetensors":
        raise CheckpointError(
            f"{file.name}: only .safetensors files are loaded; {file.suffix or 'this'} files may "
            "hold executable pickles. Convert it with safetensors, or download the official file."
        )
    try:
        with safe_open(str(file), framework="pt") as handle:
            keys = handle.keys()
            shapes = {key: tuple(handle.get_slice(key).get_shape()) for key in keys}
            dtypes = {handle.get_slice(key).get_dtype() for key in keys}
            metadata = dict(handle.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file.name}: damaged or truncated safetensors file ({error}). Download it again."
        ) from error
    known = {"BF16": torch.bfloat16, "F16": torch.float16}
    dtype = known.get(next(iter(dtypes)), torch.float32) if len(dtypes) == 1 else torch.float32
    return shapes, metadata, dtype


def _locate(key: str) -> tuple[str, str, int] | None:
    """Part, key inside the part and number of dropped path levels of a file key."""
    levels = key.split(".")
    for dropped in range(len(levels) - 1):
        rest = ".".join(levels[dropped:])
        for part, pattern in _PREFIXES.items():
            match = pattern.match(rest)
            if match:
                return part, rest[match.end() :], dropped
    return None


def _split(shapes: Mapping[str, object], file: Path) -> dict[str, dict[str, str]]:
    parts: dict[str, dict[str, str]] = {}
    level: dict[tuple[str, str], int] = {}
    other: list[str] = []
    for name in shapes:
        found = _locate(name)
        if found is None:
            other.append(name)
            continue
        part, key, dropped = found
        if dropped < level.get((part, key), 99):
            parts.setdefault(part, {})[key] = name
            level[part, key] = dropped
    if not parts:
        for dropped in range(2):
            cut = {name.split(".", dropped)[-1]: name for name in other}
            same = {key: name for key, name in cut.items() if _STANDALONE.match(key)}
            if any(".new_tokens" in key for key in same):
                parts["same"] = same
                other = [name for name in other if name not in set(same.values())]
                break
    if other and parts:
        log.info("%s: %d tensors of other models ignored (%s)", file.name, len(other), other[0])
    return parts


def _require(parts: Mapping[str, object], need: tuple[str, ...], file: Path) -> None:
    missing = [part for part in need if part not in parts]
    if not missing:
        return
    if not parts:
        raise CheckpointError(
            f"{file.name} is not a Stable Audio 3 file: none of its tensors belongs to the model "
            "(it looks like another kind of checkpoint). Choose a stable_audio_3 file."
        )
    if set(parts) == {"same"}:
        raise CheckpointError(
            f"{file.name} holds a SAME autoencoder only, no diffusion model. Use Load SAME for it, "
            "or choose a full model here."
        )
    names = {"dit": "diffusion transformer", "same": "autoencoder", "conditioner": "conditioner"}
    text = " and ".join(names[part] for part in missing)
    raise CheckpointError(f"{file.name} lacks the {text}. Is the file complete? Download it again.")


def _mapped_reader(file: Path) -> Callable[[list[str]], dict[str, Tensor]]:
    def read(keys: list[str]) -> dict[str, Tensor]:
        with safe_open(str(file), framework="pt") as handle:
            return {key: handle.get_tensor(key) for key in keys}

    return read


def _host_reader(
    file: Path, load: Callable[[Path], Mapping[str, Tensor]]
) -> Callable[[list[str]], dict[str, Tensor]]:
    def read(keys: list[str]) -> dict[str, Tensor]:
        everything = load(file)
        return {key: everything[key] for key in keys}

    return read


def _listing(keys: list[str]) -> str:
    return f"{len(keys)} ({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''})"


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


def _fill(net: Net, tensors: dict[str, Tensor], expected: nn.Module, what: str) -> Net:
    check_keys_and_shapes(tensors, expected, what)
    # strict=False: a host's lazy layers list no keys before loading; the check above is stricter.
    net.load_state_dict(tensors, strict=False, assign=True)
    net.requires_grad_(False)
    return net.train(False)


def load_dit(checkpoint: Checkpoint, net: DiffusionTransformer, dtype: torch.dtype) -> None:
    """Assign the checkpoint's tensors to a DiT that was built for its config."""
    expected = DiffusionTransformer(net.config, TorchOps, torch.device("meta"))
    what = f"{checkpoint.path.name}, diffusion transformer"
    _fill(net, checkpoint.tensors("dit", dtype), expected, what)


def load_conditioner(checkpoint: Checkpoint, net: Conditioner) -> None:
    """Assign the checkpoint's conditioner, always in float32 (it is tiny and sensitive)."""
    expected = Conditioner(net.config, TorchOps, torch.device("meta"))
    tensors = checkpoint.tensors("conditioner", torch.float32)
    _fill(net, tensors, expected, f"{checkpoint.path.name}, conditioner")


def load_same(
    checkpoint: Checkpoint, dtype: torch.dtype | None = None, ops: Ops = TorchOps
) -> SAMEAutoencoder:
    """Build the checkpoint's autoencoder and assign its tensors.

    Args:
        checkpoint: opened with `same` among the needed parts.
        dtype: of the weights; None keeps the file's.
        ops: layer classes.
    """
    config, meta = checkpoint.config.same, torch.device("meta")
    if config is None:
        raise CheckpointError(f"{checkpoint.path.name} holds no autoencoder.")
    dtype = dtype or checkpoint.dtype
    net = SAMEAutoencoder(config, ops, meta, dtype)
    expected = SAMEAutoencoder(config, TorchOps, meta)
    what = f"{checkpoint.path.name}, autoencoder"
    return _fill(net, checkpoint.tensors("same", dtype), expected, what)
