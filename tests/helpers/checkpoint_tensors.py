"""The tensors of a published checkpoint: names, shapes and how to draw random values for them.

Gains are chosen so that activations keep a sane scale at every size; nothing else depends on them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

TEXT_WIDTH = 768
LATENT_CHANNELS = 256


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of shape `shape`: gain * randn + mean, or what `kind` says instead.

    kind: "randn"; "constant" (mean alone); "frequencies" (rotary inverse frequencies over `gain`
    dimensions).
    """

    name: str
    shape: tuple[int, ...]
    gain: float
    mean: float = 0.0
    kind: str = "randn"


def linear(name: str, *shape: int, gain: float = 1.0) -> TensorSpec:
    """A weight that multiplies the scale of white input by `gain`."""
    return TensorSpec(name, shape, gain / math.prod(shape[1:]) ** 0.5)


def normal(name: str, *shape: int, std: float = 0.05) -> TensorSpec:
    return TensorSpec(name, shape, std)


def around(name: str, *shape: int, mean: float = 1.0, std: float = 0.1) -> TensorSpec:
    return TensorSpec(name, shape, std, mean)


def frequencies(name: str, dim: int) -> TensorSpec:
    return TensorSpec(name, (dim // 2,), dim, kind="frequencies")


def under(prefix: str, specs: Iterable[TensorSpec]) -> list[TensorSpec]:
    return [replace(spec, name=prefix + spec.name) for spec in specs]


def dit_layer(width: int, head: int, differential: bool, branch: float) -> list[TensorSpec]:
    """One DiT block; `branch` scales what its branches add to the residual stream."""
    local = LATENT_CHANNELS + 1
    norms = [around(f"{n}.gamma", width) for n in ("pre_norm", "cross_attend_norm", "ff_norm")]
    head_norms = [
        around(f"{attention}.{n}_norm.gamma", head, mean=1.4)
        for attention in ("self_attn", "cross_attn")
        for n in "qk"
    ]
    return [
        *norms,
        *head_norms,
        linear("self_attn.to_qkv.weight", (5 if differential else 3) * width, width),
        linear("self_attn.to_out.weight", width, width, gain=1.2 * branch),
        linear("cross_attn.to_q.weight", (2 if differential else 1) * width, width),
        linear("cross_attn.to_kv.weight", (3 if differential else 2) * width, width),
        linear("cross_attn.to_out.weight", width, width, gain=1.2 * branch),
        linear("ff.ff.0.proj.weight", 8 * width, width),
        normal("ff.ff.0.proj.bias", 8 * width),
        linear("ff.ff.2.weight", width, 4 * width, gain=1.2 * branch),
        normal("ff.ff.2.bias", width, std=0.02),
        normal("to_scale_shift_gate", 6 * width, std=0.2),
        linear("to_local_embed.0.weight", width, local, gain=1.2),
        normal("to_local_embed.0.bias", width),
        linear("to_local_embed.2.weight", width, width, gain=0.8 * branch),
        normal("to_local_embed.2.bias", width, std=0.02),
    ]


def dit_spec(config: dict[str, Any]) -> list[TensorSpec]:
    """Every tensor of the DiT."""
    width, depth, channels = config["embed_dim"], config["depth"], config["io_channels"]
    head = width // config["num_heads"]
    differential = config["attn_kwargs"]["differential"]
    branch = (3.0 / depth) ** 0.5  # falls with depth: the residual stream keeps its scale
    specs = [
        linear("preprocess_conv.weight", channels, channels, 1, gain=0.4),
        linear("postprocess_conv.weight", channels, channels, 1, gain=0.4),
        linear("to_timestep_embed.0.weight", width, 256, gain=1.4),
        normal("to_timestep_embed.0.bias", width),
        linear("to_timestep_embed.2.weight", width, width, gain=1.4),
        normal("to_timestep_embed.2.bias", width),
        linear("to_cond_embed.0.weight", width, config["cond_token_dim"], gain=1.4),
        linear("to_cond_embed.2.weight", width, width, gain=1.8),
        linear("to_global_embed.0.weight", width, config["global_cond_dim"], gain=1.4),
        linear("to_global_embed.2.weight", width, width, gain=1.4),
        linear("transformer.project_in.weight", width, channels),
        linear("transformer.project_out.weight", channels, width, gain=0.6),
        normal("transformer.memory_tokens", config["num_memory_tokens"], width, std=1.0),
        frequencies("transformer.rotary_pos_emb.inv_freq", max(head // 2, 32)),
        linear("transformer.global_cond_embedder.0.weight", width, width),
        normal("transformer.global_cond_embedder.0.bias", width),
        linear("transformer.global_cond_embedder.2.weight", 6 * width, width, gain=0.5),
        normal("transformer.global_cond_embedder.2.bias", 6 * width),
    ]
    for i in range(depth):
        layer = dit_layer(width, head, differential, branch)
        specs += under(f"transformer.layers.{i}.", layer)
    return specs


def same_layer(width: int, head: int, branch: float) -> list[TensorSpec]:
    """One transformer layer of the autoencoder: DynamicTanh norms, differential attention."""
    specs = []
    for norm in ("pre_norm", "ff_norm"):
        specs += [around(f"{norm}.alpha", 1), around(f"{norm}.gamma", width)]
        specs += [normal(f"{norm}.beta", width)]
    for norm in ("self_attn.q_norm", "self_attn.k_norm"):
        specs += [around(f"{norm}.alpha", 1, mean=1.2), around(f"{norm}.gamma", head, mean=2.0)]
        specs += [normal(f"{norm}.beta", head)]
    return [
        *specs,
        linear("self_attn.to_qkv.weight", 5 * width, width, gain=1.6),
        linear("self_attn.to_out.weight", width, width, gain=1.0 * branch),
        linear("ff.ff.0.proj.weight", 6 * width, width, gain=1.2),
        normal("ff.ff.0.proj.bias", 6 * width),
        linear("ff.ff.2.weight", width, 3 * width, gain=1.2 * branch),
        normal("ff.ff.2.bias", width, std=0.02),
        frequencies("rope.inv_freq", head // 2),
    ]


def same_half(config: dict[str, Any]) -> list[TensorSpec]:
    """The resampling block of the encoder or the decoder, without its mapping convolution."""
    depth, width = config["transformer_depths"][0], config["channels"] * config["c_mults"][0]
    specs = [normal("new_tokens", 1, 1, width, std=0.7)]
    for i in range(depth):
        layer = same_layer(width, config["dim_heads"], (3.0 / depth) ** 0.5)
        specs += under(f"transformers.{i}.", layer)
    return specs


def same_spec(config: dict[str, Any]) -> list[TensorSpec]:
    """Every tensor of the autoencoder."""
    encoder, decoder = config["encoder"]["config"], config["decoder"]["config"]
    width = encoder["channels"] * encoder["c_mults"][0]
    kernel_in, kernel_out = (3 if half["conv_mapping"] else 1 for half in (encoder, decoder))
    patch_in, patch_out = encoder["in_channels"], decoder["out_channels"]
    return [
        around("bottleneck.scaling_factor", 1, LATENT_CHANNELS, 1),
        normal("bottleneck.bias", 1, LATENT_CHANNELS, 1),
        normal("bottleneck.noise_scaling_factor", 1, 0, 1),
        TensorSpec("bottleneck.running_std", (1,), 0.0, mean=1.07, kind="constant"),
        around("encoder.layers.0.mapping.weight_g", width, 1, 1, mean=4.0, std=0.4),
        normal("encoder.layers.0.mapping.weight_v", width, patch_in, kernel_in),
        normal("encoder.layers.0.mapping.bias", width),
        *under("encoder.layers.0.", same_half(encoder)),
        linear("encoder.layers.2.weight", LATENT_CHANNELS, width, gain=0.6),
        normal("encoder.layers.2.bias", LATENT_CHANNELS),
        linear("decoder.layers.1.weight", width, LATENT_CHANNELS),
        normal("decoder.layers.1.bias", width),
        *under("decoder.layers.3.", same_half(decoder)),
        around("decoder.layers.3.mapping.weight_g", patch_out, 1, 1, mean=0.1, std=0.01),
        normal("decoder.layers.3.mapping.weight_v", patch_out, width, kernel_out),
        normal("decoder.layers.3.mapping.bias", patch_out, std=0.005),
    ]


def conditioner_spec() -> list[TensorSpec]:
    """The learned padding embedding and the duration embedder."""
    return [
        normal("prompt.padding_embedding", TEXT_WIDTH, std=0.5),
        linear("seconds_total.embedder.embedding.1.weight", TEXT_WIDTH, 256, gain=1.4),
        normal("seconds_total.embedder.embedding.1.bias", TEXT_WIDTH),
    ]


def text_encoder_spec(config: dict[str, Any]) -> list[TensorSpec]:
    """Every tensor of T5Gemma's encoder; norms are near 0 since Gemma multiplies by 1 + weight."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"] * config["head_dim"]
    layer = [
        normal("pre_self_attn_layernorm.weight", width, std=0.1),
        normal("post_self_attn_layernorm.weight", width, std=0.1),
        normal("pre_feedforward_layernorm.weight", width, std=0.1),
        normal("post_feedforward_layernorm.weight", width, std=0.1),
        linear("self_attn.q_proj.weight", heads, width, gain=2.0),
        linear("self_attn.k_proj.weight", heads, width, gain=2.0),
        linear("self_attn.v_proj.weight", heads, width),
        linear("self_attn.o_proj.weight", width, heads),
        linear("mlp.gate_proj.weight", inner, width),
        linear("mlp.up_proj.weight", inner, width),
        linear("mlp.down_proj.weight", width, inner),
    ]
    specs = [normal("embed_tokens.weight", config["vocab_size"], width)]
    specs += [normal("norm.weight", width, std=0.1)]
    for i in range(config["num_hidden_layers"]):
        specs += under(f"layers.{i}.", layer)
    return specs


def _values(spec: TensorSpec, seed: int) -> torch.Tensor:
    if spec.kind == "constant":
        return torch.full(spec.shape, spec.mean)
    if spec.kind == "frequencies":
        return 1.0 / 10000 ** (torch.arange(0, spec.gain, 2).float() / spec.gain)
    digest = hashlib.sha256(f"{seed}/{spec.name}/{spec.shape}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(spec.shape, generator=generator).mul_(spec.gain).add_(spec.mean)


def materialise(
    specs: Iterable[TensorSpec], seed: int, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Draw every tensor; each depends on the seed and its own name and shape only."""
    return {spec.name: _values(spec, seed).to(dtype).contiguous() for spec in specs}
