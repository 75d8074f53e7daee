"""Reading T5Gemma encoder files: which tensors, which sizes, what the config adds.

Two layouts: a Hugging Face folder (config.json, model.safetensors, tokenizer files) and one
repackaged safetensors file that carries its SentencePiece model in the tensor `spiece_model`, or
has a tokenizer beside it.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checks import shown
from ..errors import CheckpointError, ConfigError
from ..files.json_text import parse_json
from ..files.published import TEXT_ENCODER_FILE, TEXT_ENCODER_FOLDER, WEIGHTS_FILE
from ..files.states import FileStates
from ..files.tensor_file import check_finite, check_floats, open_tensors
from .conditioning import TEXT_WIDTH
from .tokenizers import SPIECE

log = logging.getLogger(__name__)

PREFIXES = ("model.encoder.", "encoder.")  # the second: saved from the encoder alone
OTHER_PARTS = ("model.decoder.", "decoder.", "lm_head.", SPIECE)  # known, not used here


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of a T5Gemma encoder; the defaults are those of t5gemma-b-b-ul2.

    Attributes:
        vocabulary, layers, mlp_width, heads, kv_heads: read from tensor shapes.
        query_scalar: attention logits are divided by its square root.
        softcap: logits become softcap * tanh(logits / softcap).

    Source: arXiv 2504.06225 and the published config.json of google/t5gemma-b-b-ul2.
    """

    vocabulary: int
    layers: int
    mlp_width: int
    heads: int
    kv_heads: int
    head_dim: int = 64
    query_scalar: int = 64
    softcap: float = 50.0
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    sliding_window: int = 4096


@dataclass(frozen=True)
class EncoderFile:
    """What a text encoder file holds.

    Attributes:
        path: the safetensors file.
        config: sizes.
        tensors: encoder weights under their names inside the encoder, memory-mapped.
        files: the safetensors file as it was before it was read.
    """

    path: Path
    config: EncoderConfig
    tensors: dict[str, Tensor]
    files: FileStates = field(default_factory=FileStates)


def read_encoder_file(path: Path) -> EncoderFile:
    """Find, map and measure the encoder in a folder or a single file.

    Raises:
        CheckpointError: nothing there, damaged, or no T5Gemma encoder in it.
        ConfigError: config.json is unreadable, contradicts the tensors or is not supported.
    """
    folder = _folder_of(path)
    file = path if folder is None else folder / WEIGHTS_FILE
    files = FileStates.of([file])
    prefix, tensors = _read_tensors(file)
    settings = {} if folder is None else _read_settings(folder / "config.json")
    config = _infer_config(file, prefix, tensors, settings)
    _check_settings(config, settings, folder)
    return EncoderFile(file, config, tensors, files)


def _folder_of(path: Path) -> Path | None:
    """The Hugging Face folder that `path` is, or is the weights file of."""
    if path.is_dir():
        return path
    if path.name == WEIGHTS_FILE and (path.parent / "config.json").is_file():
        return path.parent
    return None


def _read_tensors(file: Path) -> tuple[str, dict[str, Tensor]]:
    """Prefix and encoder tensors (memory-mapped) of a file."""
    with open_tensors(file) as source:
        keys = list(source.header)
        prefix = _find_prefix(file, keys)
        tensors = {
            key.removeprefix(prefix): source.get(key) for key in keys if key.startswith(prefix)
        }
    others = [key for key in keys if not key.startswith((prefix, *OTHER_PARTS))]
    if others:
        log.info("%s: ignored %d other tensors (%s, ...)", file.name, len(others), others[0])
    return prefix, tensors


def _find_prefix(file: Path, keys: list[str]) -> str:
    """What precedes the encoder's names."""
    for prefix in PREFIXES:
        if prefix + "embed_tokens.weight" in keys:
            return prefix
    raise CheckpointError(
        f"{file.name} holds no T5Gemma encoder (no {PREFIXES[0]}embed_tokens.weight among its "
        f"{len(keys)} tensors). Choose {TEXT_ENCODER_FILE} or a {TEXT_ENCODER_FOLDER} folder."
    )


def _infer_config(
    file: Path, prefix: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> EncoderConfig:
    """Sizes from tensor shapes, the rest from config.json where there is one."""
    needed = [
        "embed_tokens.weight",
        "layers.0.mlp.gate_proj.weight",
        "layers.0.self_attn.q_proj.weight",
        "layers.0.self_attn.k_proj.weight",
    ]
    missing = [prefix + name for name in needed if name not in tensors]
    if missing:
        raise CheckpointError(f"{file.name} lacks {', '.join(missing)}. Download it again.")
    check_floats(tensors, f"{file.name}, text encoder")
    check_finite(tensors, f"{file.name}, text encoder")
    for name in needed:
        shape = tuple(tensors[name].shape)
        if len(shape) != 2 or shape[1] != TEXT_WIDTH:
            raise CheckpointError(
                f"{file.name}: {prefix}{name} has shape {shape}; Stable Audio 3 needs T5Gemma "
                f"b-b, {TEXT_WIDTH} wide. Choose {TEXT_ENCODER_FOLDER}."
            )
    table, mlp, query, key = (tensors[name].shape for name in needed)
    rest = {name: settings[key] for key, name in _SETTINGS.items() if key in settings}
    head_dim = rest.get("head_dim", EncoderConfig.head_dim)
    heads, kv_heads = query[0] // head_dim, key[0] // head_dim
    if not kv_heads or heads % kv_heads or TEXT_WIDTH % heads or query[0] % head_dim:
        raise CheckpointError(
            f"{file.name}: {query[0]} query and {key[0]} key rows are no heads of {head_dim} "
            f"channels for a width of {TEXT_WIDTH}. Download it again."
        )
    return EncoderConfig(
        vocabulary=table[0],
        layers=1 + max(int(m[1]) for m in map(_LAYER.match, tensors) if m),
        mlp_width=mlp[0],
        heads=heads,
        kv_heads=kv_heads,
        **rest,
    )


_LAYER = re.compile(r"layers\.(\d+)\.")
_SETTINGS = {  # config.json name -> EncoderConfig field, for what shapes cannot tell
    "head_dim": "head_dim",
    "query_pre_attn_scalar": "query_scalar",
    "attn_logit_softcapping": "softcap",
    "rms_norm_eps": "norm_eps",
    "rope_theta": "rope_theta",
    "sliding_window": "sliding_window",
}
_MOST = 1e8  # of any setting
_WHOLE = {"head_dim": 1024, "sliding_window": 2**20}  # settings that count something, and the most
_SIZES = {  # config.json name -> EncoderConfig field, for what shapes do tell
    "vocab_size": "vocabulary",
    "num_hidden_layers": "layers",
    "intermediate_size": "mlp_width",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
}
_KINDS = ("sliding_attention", "full_attention")  # of layers, in turn
_ONLY = {  # config.json name -> the one value that is implemented
    "hidden_size": TEXT_WIDTH,
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_bias": False,
    "rope_type": "default",
    "rope_scaling": None,
}


def _read_settings(file: Path) -> dict[str, Any]:
    """The encoder's section of config.json, RoPE settings flattened as older files have them."""
    try:
        whole = parse_json(file.read_bytes())
        section, rope = whole["encoder"], whole["encoder"].get("rope_parameters")
        if not isinstance(rope, dict | None):
            raise ValueError(f"rope_parameters is {shown(rope)}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{file} cannot be read as a T5Gemma config ({shown(error)}). Download the "
            "folder again."
        ) from error
    section = section | (rope or {})
    for key in _SETTINGS:
        if key in section:
            whole_number = key in _WHOLE
            high = _WHOLE.get(key, _MOST)
            if not _is_within(section[key], high, whole_number):
                raise ConfigError(
                    f"{file}: {key} is {shown(section[key])}; it must be a "
                    f"{'whole ' if whole_number else ''}number above 0, at most {high:g}. Download "
                    "the folder again."
                )
    return section


def _is_within(value: object, high: float, whole: bool) -> bool:
    """Whether `value` is a number (and no bool) above 0 and at most `high`."""
    kinds = int if whole else int | float
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 < value <= high


def _check_settings(
    config: EncoderConfig, settings: Mapping[str, Any], folder: Path | None
) -> None:
    """Raise ConfigError where config.json contradicts the tensors or asks for something else."""
    allowed = _ONLY | {key: getattr(config, name) for key, name in _SIZES.items()}
    if settings.get("layer_types") is not None:
        allowed["layer_types"] = [_KINDS[layer % 2] for layer in range(config.layers)]
    for key, value in allowed.items():
        if key in settings and settings[key] != value:
            raise ConfigError(
                f"{folder}: config.json says {key} = {shown(settings[key])}, but the weights or "
                f"this program need {value!r}. Download the folder again."
            )
