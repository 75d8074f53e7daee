#!/usr/bin/env python3
"""Write a random-weight Stable Audio 3 checkpoint in the published file format.

    python make_checkpoint.py --variant tiny-s --seed 0 --out DIR [--dtype fp32]

DIR gets model.safetensors, model_config.json and (full models only) t5gemma-b-b-ul2/
(config.json, model.safetensors, tokenizer.json, tokenizer_config.json).

Needs only torch, safetensors and tokenizers: tensor names and shapes are spelled out here, taken
from no implementation. The reference implementation loads the folder with no missing, extra or
wrongly shaped tensor. tiny-s has the SAME-S autoencoder and plain attention, tiny-m the SAME-L
one and differential attention; their golden tensors are in tests/golden.

Each tensor's values depend only on (seed, tensor name, shape): variants that share a name and a
shape share values, and the order of writing does not matter.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

if __package__:
    from tests.helpers import checkpoint_tensors as tensors
else:  # run as a script: its own folder is on the path
    import checkpoint_tensors as tensors

SAMPLE_RATE = 44100
AUTOENCODERS = ("same-s", "same-l")
VARIANTS = (
    *("tiny-s", "tiny-m", "small-music", "small-sfx", "small-music-base"),
    *("medium", "medium-base", *AUTOENCODERS),
)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DIT_SIZES = {"tiny": (128, 3, 2), "small": (1024, 20, 16), "medium": (1536, 24, 24)}


# --- model_config.json --------------------------------------------------------------------------
def _is_medium(variant: str) -> bool:
    return variant.startswith("medium") or variant == "tiny-m"


def autoencoder_config(large: bool, tiny: bool) -> dict[str, Any]:
    """The `pretransform` config of SAME-L (large) or SAME-S, at real or at toy size."""
    real_channels, real_depth = (256, 12) if large else (128, 6)
    common = {
        "channels": 32 if tiny else real_channels,
        "c_mults": [6],
        "strides": [16],
        "latent_dim": tensors.LATENT_CHANNELS,
        "transformer_depths": [4 if tiny else real_depth],
        "differential": True,
        "dyt": True,
        "dim_heads": 64,
        "variable_stride": True,
    }
    if large:
        common |= {"sliding_window": [1, 1], "chunk_midpoint_shift": False}
    else:
        common |= {"sliding_window": None, "chunk_size": 32, "chunk_midpoint_shift": True}
    sinusoidal = (3 if tiny else 8) if large else 0
    encoder = {"in_channels": 512, "conv_mapping": False, **common}
    decoder = {
        "out_channels": 512,
        "sinusoidal_blocks": [sinusoidal],
        "conv_mapping": not large,
        **common,
    }
    if not large:
        decoder["mask_noise"] = 0.01
    bottleneck = {"dim": tensors.LATENT_CHANNELS, "noise_augment_dim": 0, "noise_regularize": True}
    return {
        "encoder": {"type": "same", "config": encoder},
        "decoder": {"type": "same", "config": decoder},
        "bottleneck": {
            "type": "softnorm",
            "config": {**bottleneck, "auto_scale": True, "freeze": True},
        },
        "pretransform": {"type": "patched", "config": {"channels": 2, "patch_size": 256}},
        "latent_dim": tensors.LATENT_CHANNELS,
        "downsampling_ratio": 4096,
        "io_channels": 2,
    }


def dit_config(variant: str) -> dict[str, Any]:
    """The `diffusion.config` of a full model."""
    embed_dim, depth, num_heads = DIT_SIZES[variant.split("-")[0]]
    return {
        "io_channels": tensors.LATENT_CHANNELS,
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
        "cond_token_dim": tensors.TEXT_WIDTH,
        "global_cond_dim": tensors.TEXT_WIDTH,
        "local_add_cond_dim": 257,
        "transformer_type": "continuous_transformer",
        "global_cond_type": "adaLN",
        "timestep_features_type": "expo",
        "timestep_features_logsnr": False,
        "num_memory_tokens": 64,
        "norm_type": "rms_norm",
        "norm_kwargs": {"force_fp32": True},
        "attn_kwargs": {"qk_norm": "rms", "differential": _is_medium(variant)},
    }


def conditioning_config(medium: bool) -> dict[str, Any]:
    """The `conditioning` config: T5Gemma tokens and the duration in seconds."""
    prompt = {
        "model_name": "google/t5gemma-b-b-ul2",
        "max_length": 256,
        "padding_mode": "learned",
        "repo_id": "stabilityai/stable-audio-3-" + ("medium" if medium else "small-music"),
        "subfolder": "t5gemma-b-b-ul2",
    }
    seconds = {"min_val": 0, "max_val": 384, "fourier_features_type": "expo"}
    configs = [
        {"id": "prompt", "type": "t5gemma", "config": prompt},
        {"id": "seconds_total", "type": "number", "config": seconds},
    ]
    return {"cond_dim": tensors.TEXT_WIDTH, "configs": configs}


def model_config(variant: str) -> dict[str, Any]:
    """The whole model_config.json of one variant."""
    medium = _is_medium(variant) or variant == "same-l"
    top = {
        "model_type": "autoencoder" if variant in AUTOENCODERS else "diffusion_cond_inpaint",
        "sample_size": 16777216 if medium else 5292032,
        "sample_rate": SAMPLE_RATE,
        "audio_channels": 2,
    }
    autoencoder = autoencoder_config(medium, tiny=variant.startswith("tiny"))
    if variant in AUTOENCODERS:
        return {**top, "model": autoencoder}
    shift = {"type": "full", "min_length": 256, "max_length": 4096}
    diffusion = {
        "type": "dit",
        "diffusion_objective": "rectified_flow" if variant.endswith("-base") else "rf_denoiser",
        "cross_attention_cond_ids": ["prompt", "seconds_total"],
        "global_cond_ids": ["seconds_total"],
        "local_add_cond_ids": ["inpaint_mask", "inpaint_masked_input"],
        "distribution_shift_options": shift,
        "config": dit_config(variant),
    }
    model = {
        "pretransform": {"type": "autoencoder", "config": autoencoder},
        "conditioning": conditioning_config(medium),
        "diffusion": diffusion,
        "io_channels": tensors.LATENT_CHANNELS,
    }
    return {**top, "model": model}


# --- text encoder -------------------------------------------------------------------------------
CORPUS = (
    "warm analog synth pad slow attack lush reverb 120 BPM drum loop punchy kick snare hi hat "
    "acoustic guitar fingerpicking melancholic piano ballad in C minor orchestral strings epic "
    "rain on a tin roof distant thunder footsteps on gravel car passing by door slam glass "
    "breaking ambient drone lo-fi house techno jazz trio walking bass brushed drums saxophone "
    "solo low quality noise distorted vocals choir bright dark airy field recording birdsong "
    "morning forest ocean waves crashing TrackType: Music, VocalType: Instrumental, "
    "Genre: Electronic"
)


def text_encoder_config(tiny: bool) -> dict[str, Any]:
    """config.json of the T5Gemma folder."""
    heads = 2 if tiny else 12
    shared = {"vocab_size": 512 if tiny else 256000}
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    module = {
        "model_type": "t5_gemma_module",
        **shared,
        "hidden_size": tensors.TEXT_WIDTH,
        "intermediate_size": 64 if tiny else 2048,
        "num_hidden_layers": 2 if tiny else 12,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": 64,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        **tokens,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "query_pre_attn_scalar": 64,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "layer_types": ["sliding_attention", "full_attention"] * (1 if tiny else 6),
    }
    return {
        "architectures": ["T5GemmaForConditionalGeneration"],
        "model_type": "t5gemma",
        "is_encoder_decoder": True,
        **shared,
        **tokens,
        "dtype": "float32",
        "encoder": {**module, "is_decoder": False},
        "decoder": {**module, "is_decoder": True},
    }


def write_tokenizer(folder: Path, seed: int) -> None:
    """Train a 512-token BPE on random lines of the corpus."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    tokenizer.decoder = decoders.Replace("\u2581", " ")
    words = CORPUS.split()
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(len(words), (12,), generator=generator) for _ in range(400)]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
        initial_alphabet=[*map(chr, range(33, 127)), "\u2581"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [" ".join(words[i] for i in row.tolist()) for row in rows], trainer
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "bos_token": "<bos>",
        "unk_token": "<unk>",
        "padding_side": "right",
        "model_max_length": 1000000000,
    }
    write_json(folder / "tokenizer_config.json", config)


def write_text_encoder(folder: Path, seed: int, tiny: bool, dtype: torch.dtype) -> None:
    """Write the T5Gemma folder: encoder weights, config and a small real tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = text_encoder_config(tiny)
    write_json(folder / "config.json", config)
    specs = tensors.under("model.encoder.", tensors.text_encoder_spec(config["encoder"]))
    weights = tensors.materialise(specs, seed, dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder, seed)


def specs_for(variant: str) -> tuple[dict[str, Any], list[tensors.TensorSpec]]:
    """The config of a variant and every tensor of its model.safetensors."""
    config = model_config(variant)
    if variant in AUTOENCODERS:
        return config, tensors.same_spec(config["model"])
    return config, [
        *tensors.under("model.model.", tensors.dit_spec(config["model"]["diffusion"]["config"])),
        *tensors.under(
            "pretransform.model.", tensors.same_spec(config["model"]["pretransform"]["config"])
        ),
        *tensors.under("conditioner.conditioners.", tensors.conditioner_spec()),
    ]


# --- files --------------------------------------------------------------------------------------
def write_checkpoint(
    variant: str, out: Path, seed: int = 0, dtype: torch.dtype = torch.float32
) -> None:
    """Write the checkpoint folder of one variant."""
    out.mkdir(parents=True, exist_ok=True)
    config, specs = specs_for(variant)
    weights = tensors.materialise(specs, seed, dtype)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    write_json(out / "model_config.json", config)
    if variant not in AUTOENCODERS:
        folder = out / "t5gemma-b-b-ul2"
        write_text_encoder(folder, seed, variant.startswith("tiny"), dtype)


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def count(specs: Iterable[tensors.TensorSpec], prefix: str = "") -> tuple[int, int]:
    """Number of tensors and of elements below a prefix."""
    sizes = [math.prod(spec.shape) for spec in specs if spec.name.startswith(prefix)]
    return len(sizes), sum(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="fp32")
    parser.add_argument("--count-only", action="store_true", help="print tensor counts and stop")
    args = parser.parse_args()
    if not args.count_only and args.out is None:
        parser.error("--out is required")
    specs = specs_for(args.variant)[1]
    parts = (
        () if args.variant in AUTOENCODERS else ("model.", "pretransform.model.", "conditioner.")
    )
    for part in ("", *parts):
        number, elements = count(specs, part)
        name = part or "(all)"
        print(f"{args.variant:18s} {name:22s} tensors {number:5d}  elements {elements:,}")
    if not args.count_only:
        write_checkpoint(args.variant, args.out, args.seed, DTYPES[args.dtype])
        print("wrote", args.out)


if __name__ == "__main__":
    main()
