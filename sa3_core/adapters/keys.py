"""The tensor names LoRA files use, and the Stable Audio 3 modules they mean.

Four styles: Stable Audio 3's own (`<path>.parametrizations.weight.0.lora_A`), PEFT
(`base_model.model.<path>.lora_A.weight`), diffusers (`transformer.<path>.lora_A.weight`, also
`.lora.down.weight`) and kohya (`lora_unet_<path with _>.lora_down.weight`). A path may carry the
host's own levels in front and name modules as Stable Audio 3 or as diffusers does.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..files.published import CONDITIONER_PREFIX, DIT_PREFIX

_BLOCK = "transformer.layers.#."  # '#' stands for the number of the block
_DIT_BLOCK = (
    "self_attn.to_qkv",
    "self_attn.to_out",
    "cross_attn.to_q",
    "cross_attn.to_kv",
    "cross_attn.to_out",
    "ff.ff.0.proj",
    "ff.ff.2",
    "to_local_embed.0",
    "to_local_embed.2",
)
_DIT = (
    "preprocess_conv",
    "postprocess_conv",
    "to_timestep_embed.0",
    "to_timestep_embed.2",
    "to_cond_embed.0",
    "to_cond_embed.2",
    "to_global_embed.0",
    "to_global_embed.2",
    "transformer.project_in",
    "transformer.project_out",
    "transformer.global_cond_embedder.0",
    "transformer.global_cond_embedder.2",
    *(_BLOCK + name for name in _DIT_BLOCK),
)
_CONDITIONER = "conditioners.seconds_total.embedder.embedding.1"
# Where diffusers' names differ beyond transformer.layers -> transformer_blocks.
# Source: huggingface/diffusers scripts/convert_stable_audio_3_to_diffusers.py, convert_dit.
_DIFFUSERS = {
    "transformer.project_in": "proj_in",
    "transformer.project_out": "proj_out",
    "transformer.global_cond_embedder.0": "global_cond_embedder.0",
    "transformer.global_cond_embedder.2": "global_cond_embedder.2",
    _BLOCK + "ff.ff.0.proj": "transformer_blocks.#.ff.proj_in",
    _BLOCK + "ff.ff.2": "transformer_blocks.#.ff.proj_out",
    _CONDITIONER: "duration_embedder.linear",
}
_HOSTS = "base_model|model|transformer|diffusion_model|unet|dit|conditioner"
_HOST_DOTTED = re.compile(rf"(?:{_HOSTS})\.")
_HOST_FLAT = re.compile(rf"(?:{_HOSTS})_")
_NUMBER = re.compile(r"(?<=layers[._])\d+|(?<=transformer_blocks[._])\d+")

_NATIVE = re.compile(r"(?P<path>.+)\.parametrizations\.weight\.(?P<index>\d+)\.(?P<name>\w+)")
_PLAIN = re.compile(
    r"(?P<path>.+)\.(?:(?P<name>lora_A|lora_down|lora\.down|lora_B|lora_up|lora\.up"
    r"|lora_magnitude_vector)(?:\.\w+)?(?:\.weight)?|(?P<alpha>alpha))"
)
_ROLES = {
    "lora_A": "lora_A",
    "lora_down": "lora_A",
    "lora.down": "lora_A",
    "lora_B": "lora_B",
    "lora_up": "lora_B",
    "lora.up": "lora_B",
    "lora_magnitude_vector": "magnitude",
}
_FAMILIES = (
    (r"single_transformer_blocks|(?:double|single)_blocks", "Flux or a relative of it"),
    (r"joint_(?:transformer_)?blocks|add_[kqv]_proj", "an image model such as Stable Diffusion 3"),
    (
        r"lora_te|text_model|text_encoder|(?:down|up|mid|input|output|middle)_blocks?",
        "an image model such as Stable Diffusion or SDXL",
    ),
    (r"lyric|speaker_embed", "ACE-Step"),
    (r"[._](?:q|k|v|o|gate|up|down)_proj", "a language model"),
    (r"transformer_blocks[._]\d+[._](?:attn|img_|txt_|ff[._]net)", "an image or video model"),
    (r"blocks[._]\d+[._](?:self_attn|cross_attn|ffn)", "a video model such as Wan"),
)


@dataclass(frozen=True)
class Module:
    """A layer that a path in a LoRA file names.

    Attributes:
        key: the layer's weight in a published checkpoint.
        known: False where the path is no layer of Stable Audio 3 (the key is then a guess).
        diffusers: the path follows diffusers' names, whose fused projections differ in row order.
    """

    key: str
    known: bool = True
    diffusers: bool = False


@dataclass(frozen=True)
class TensorName:
    """A tensor name taken apart.

    Attributes:
        path: the layer, as the file writes it.
        role: lora_A, lora_B, alpha, magnitude, ... (native names as they are).
        index: the number in `parametrizations.weight.<index>`; None in the other styles.
    """

    path: str
    role: str
    index: int | None = None


def parse_name(name: str) -> TensorName | None:
    """Take a tensor name apart, or None where no style knows it."""
    found = _NATIVE.fullmatch(name)
    if found:
        return TensorName(found["path"], found["name"], int(found["index"]))
    found = _PLAIN.fullmatch(name)
    if found:
        return TensorName(found["path"], "alpha" if found["alpha"] else _ROLES[found["name"]])
    return None


def find_module(path: str) -> Module:
    """The layer that a LoRA file's path means, whatever the host put in front of it."""
    flat = re.match(r"(?:lora|lycoris)_", path)
    table, host = (_FLAT, _HOST_FLAT) if flat else (_DOTTED, _HOST_DOTTED)
    rest = path[flat.end() :] if flat else path
    while True:
        found = table.get(_NUMBER.sub("#", rest))
        if found is not None:
            block = _NUMBER.search(rest)
            sa3_path, diffusers = found
            return Module(_key(sa3_path.replace("#", block[0] if block else "")), True, diffusers)
        level = host.match(rest)
        if level is None:
            return Module(_key(path), known=False)
        rest = rest[level.end() :]


def guess_family(names: Iterable[str]) -> str | None:
    """What model a LoRA that is not for Stable Audio 3 was probably made for."""
    text = "\n".join(names)
    return next((label for pattern, label in _FAMILIES if re.search(pattern, text)), None)


def _key(path: str) -> str:
    """Checkpoint key of a module path that is relative to the DiT or to the conditioner."""
    if path.startswith("conditioners."):
        return f"{CONDITIONER_PREFIX}{path}.weight"
    prefix = "model." if path.startswith("model.") else DIT_PREFIX
    return f"{prefix}{path}.weight"


def _dotted_table() -> dict[str, tuple[str, bool]]:
    """Path in a file, block number as '#' -> (Stable Audio 3's path, named by diffusers)."""
    table = {path: (path, False) for path in (*_DIT, _CONDITIONER)}
    for path in (*_DIT, _CONDITIONER):
        other = _DIFFUSERS.get(path, path.replace("transformer.layers", "transformer_blocks"))
        table.setdefault(other, (path, True))
    return table


_DOTTED = _dotted_table()
_FLAT = {path.replace(".", "_"): entry for path, entry in _DOTTED.items()}
