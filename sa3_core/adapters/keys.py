"""The tensor names LoRA files use, and the Stable Audio 3 parameters they mean.

Four styles: Stable Audio 3's own (`<path>.parametrizations.weight.0.lora_A`), PEFT
(`base_model.model.<path>.lora_A.weight`), diffusers (`transformer.<path>.lora_A.weight`, also
`.lora.down.weight`) and kohya (`lora_unet_<path with _>.lora_down.weight`). LyCORIS and ComfyUI's
trainer use the last two for other tensors (`<path>.hada_w1_a`, `<path>.diff_b`). A path may carry
the host's own levels in front and name modules as Stable Audio 3 or as diffusers does.
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
_NORMS = (
    *(_BLOCK + name for name in ("pre_norm", "cross_attend_norm", "ff_norm")),
    *(_BLOCK + f"{attention}_attn.{name}_norm" for attention in ("self", "cross") for name in "qk"),
)
_LOOSE = (  # parameters of no layer
    _BLOCK + "to_scale_shift_gate",
    "transformer.memory_tokens",
    "conditioners.prompt.padding_embedding",
)
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
_PAIR_ROLES = {  # the lower half of a pair, then the upper one, as trainers call them
    "lora_A": "lora_A",
    "lora_down": "lora_A",
    "lora.down": "lora_A",
    "lora_linear_layer.down": "lora_A",
    "lora_B": "lora_B",
    "lora_up": "lora_B",
    "lora.up": "lora_B",
    "lora_linear_layer.up": "lora_B",
    "lora_mid": "lora_mid",
    "lora_magnitude_vector": "magnitude",
}
_OTHER_ROLES = (
    *("alpha", "dora_scale", "reshape_weight"),
    *("diff", "diff_b", "set_weight", "w_norm", "b_norm"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    *("lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    *("a1.weight", "a2.weight", "b1.weight", "b2.weight", "oft_blocks", "rescale"),
)
_PAIR = re.compile(
    rf"(?P<path>.+?)[._](?P<name>(?<=\.)(?:{'|'.join(map(re.escape, _PAIR_ROLES))})"
    r"|(?<=_)lora\.(?:up|down))"
    r"(?:\.(?!(?:weight|bias)$)(?P<adapter>\w+))?(?:\.(?P<kind>weight|bias))?"
)
_OTHER = re.compile(rf"(?P<path>.+)\.(?P<name>{'|'.join(map(re.escape, _OTHER_ROLES))})")
_TEXT_ENCODER = re.compile(
    r"(?:^|[._])(?:text_encoders?|te\d?|t5gemma|text_model|encoder)[._]|spiece_model"
)
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
    """A layer, or a parameter of none, that a path in a LoRA file names.

    Attributes:
        key: the layer's weight, or the parameter itself, in a published checkpoint.
        known: False where the path is nothing of Stable Audio 3 (the key is then a guess).
        diffusers: the path follows diffusers' names, whose fused projections differ in row order.
    """

    key: str
    known: bool = True
    diffusers: bool = False

    @property
    def bias(self) -> str:
        """Key of the bias beside the weight."""
        return f"{self.key.removesuffix('.weight')}.bias"


@dataclass(frozen=True)
class TensorName:
    """A tensor name taken apart.

    Attributes:
        path: the layer, as the file writes it.
        role: lora_A, lora_B, alpha, magnitude, hada_w1_a, ... (native names as they are); the bias
            of a factor is `lora_B.bias`.
        index: the number in `parametrizations.weight.<index>`; None in the other styles.
        adapter: the adapter's name in PEFT's files, mostly empty.
    """

    path: str
    role: str
    index: int | None = None
    adapter: str = ""


def parse_name(name: str) -> TensorName | None:
    """Take a tensor name apart, or None where no style knows it."""
    found = _NATIVE.fullmatch(name)
    if found:
        return TensorName(found["path"], found["name"], int(found["index"]))
    found = _PAIR.fullmatch(name)
    if found:
        role = _PAIR_ROLES[found["name"]] + (".bias" if found["kind"] == "bias" else "")
        return TensorName(found["path"], role, adapter=found["adapter"] or "")
    found = _OTHER.fullmatch(name)
    return TensorName(found["path"], found["name"]) if found else None


def find_module(path: str) -> Module:
    """The layer or parameter that a LoRA file's path means, whatever the host put before it."""
    flat = re.match(r"(?:lora|lycoris)_", path)
    table, host = (_FLAT, _HOST_FLAT) if flat else (_DOTTED, _HOST_DOTTED)
    rest = path[flat.end() :] if flat else path
    while True:
        found = table.get(_NUMBER.sub("#", rest))
        if found is not None:
            block = _NUMBER.search(rest)
            parameter, diffusers = found
            return Module(_key(parameter.replace("#", block[0] if block else "")), True, diffusers)
        level = host.match(rest)
        if level is None:
            return Module(_key(f"{path}.weight"), known=False)
        rest = rest[level.end() :]


def of_text_encoder(path: str) -> bool:
    """Whether a path that is nothing of the model looks like a text encoder's."""
    return _TEXT_ENCODER.search(path) is not None


def guess_family(names: Iterable[str]) -> str | None:
    """What model a LoRA that is not for Stable Audio 3 was probably made for."""
    text = "\n".join(names)
    return next((label for pattern, label in _FAMILIES if re.search(pattern, text)), None)


def _key(parameter: str) -> str:
    """Checkpoint key of a parameter's path that is relative to the DiT or to the conditioner."""
    if parameter.startswith("conditioners."):
        return CONDITIONER_PREFIX + parameter
    return f"{'model.' if parameter.startswith('model.') else DIT_PREFIX}{parameter}"


def _dotted_table() -> dict[str, tuple[str, bool]]:
    """Path in a file, block number as '#' -> (Stable Audio 3's parameter, named by diffusers)."""
    parameters = {path: f"{path}.weight" for path in (*_DIT, _CONDITIONER)}
    parameters |= {path: f"{path}.gamma" for path in _NORMS}
    parameters |= {name: name for name in (*(f"{path}.gamma" for path in _NORMS), *_LOOSE)}
    table = {path: (parameter, False) for path, parameter in parameters.items()}
    for path, parameter in parameters.items():
        other = _DIFFUSERS.get(path, path.replace("transformer.layers", "transformer_blocks"))
        table.setdefault(other, (parameter, True))
    return table


_DOTTED = _dotted_table()
_FLAT = {path.replace(".", "_"): entry for path, entry in _DOTTED.items()}
