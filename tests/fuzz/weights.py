"""Kinds of files with weights: checkpoints, their configs, LoRAs, text encoders, tokenizers."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from sa3_core.adapters.file import read_adapter
from sa3_core.checkpoints.load import load_autoencoder, model_from
from sa3_core.checkpoints.reader import Checkpoint, open_checkpoint
from sa3_core.networks.config import ModelConfig
from sa3_core.registry import AUTO
from sa3_core.sampling.schedule import chosen_shift
from sa3_core.text.encoder import load_t5gemma
from sa3_core.text.encoder_file import read_encoder_file
from sa3_core.text.tokenizers import FolderTokenizer, SentencePieceTokenizer, open_tokenizer
from tests.helpers.support import GOLDEN, tiny_checkpoint
from tests.helpers.text_encoder_files import FOLDER, spiece_tensor, train_spiece

from .mutants import change_bytes, change_json, change_safetensors, spoil_text
from .trial import Attempt, must, plain_tensors

PROMPT = "warm pad, 120 BPM"
# What the nets do not depend on: names, links, and how a model was trained.
FREE = {"model_type", "model_name", "repo_id", "subfolder", "freeze", "auto_scale", "training"}
FREE |= {"noise_regularize", "noise_augment_dim", "distribution_shift_options"}


def _first_layers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One layer of every stack: as many kinds of tensors, in a tenth of the bytes."""
    later = re.compile(r"(?:transformer\.layers|transformers)\.[1-9]")
    return {key: value for key, value in tensors.items() if not later.search(key)}


def small_checkpoint(folder: Path) -> Path:
    """A model folder of few bytes, with the config that belongs to it."""
    source = tiny_checkpoint("tiny-s")
    folder.mkdir()
    tensors = _first_layers(load_file(source / "model.safetensors"))
    (folder / "model.safetensors").write_bytes(save(tensors, {"format": "pt"}))
    config = json.loads((source / "model_config.json").read_text())
    config["model"]["diffusion"]["config"]["depth"] = 1
    for side in ("encoder", "decoder"):
        config["model"]["pretransform"]["config"][side]["config"]["transformer_depths"] = [1]
    (folder / "model_config.json").write_text(json.dumps(config))
    return folder


def _check_tensors(checkpoint: Checkpoint, path: Path) -> None:
    plain = plain_tensors(path)
    for part, names in checkpoint.parts.items():
        raw = checkpoint.read(list(names.values()))
        for key, name in names.items():
            stored = raw[name].contiguous().view(torch.uint8).numpy().tobytes()
            must(stored == plain[name], f"{part} {key} is not what {name} holds")
        for key, value in checkpoint.tensors(part, None).items():
            must(bool(torch.isfinite(value).all()), f"{part} {key} is not finite")


def single_checkpoint(folder: Path) -> Attempt:
    """A whole model in one file: DiT, conditioner and autoencoder."""
    good = (small_checkpoint(folder / "good") / "model.safetensors").read_bytes()
    path = folder / "stable_audio_3_small_music.safetensors"

    def attempt(rng: random.Random) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(change_safetensors(rng, good))
        checkpoint = open_checkpoint(path)
        model_from(checkpoint, AUTO, torch.float32, torch.device("cpu"))
        load_autoencoder(path)
        _check_tensors(checkpoint, path)

    return attempt


def model_config(folder: Path) -> Attempt:
    """model_config.json beside weights that are as they should be."""
    model = small_checkpoint(folder / "model")
    path = model / "model_config.json"
    text = path.read_text()
    good, base = json.loads(text), open_checkpoint(model).config

    def attempt(rng: random.Random) -> None:
        if rng.randrange(8) == 0:
            path.write_bytes(spoil_text(rng, text.encode()))
            _check_config(open_checkpoint(model).config)
            return
        changed, where = change_json(rng, good)
        path.write_text(json.dumps(changed), encoding="utf-8")
        config = open_checkpoint(model).config
        _check_config(config)
        given, was = _at(changed, where), _at(good, where)
        told = config != base or _is_absent(given) or given == was or was is None
        must(told or bool(FREE & set(where)) or _names_free(good, where), f"{where}: {given!r:.60}")

    return attempt


def _is_absent(given: Any) -> bool:
    """Whether nothing is said: the tensors tell, and keys that are not known are warned of."""
    return given is None or given in ([], {}, {"type": "x"})


def _names_free(config: Any, where: tuple[Any, ...]) -> bool:
    """Whether everything below a place is free."""
    value = _at(config, where)
    return isinstance(value, dict) and set(value) <= FREE


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        inside = isinstance(value, dict) and key in value
        if not inside and not (isinstance(value, list) and key in range(len(value))):
            return None
        value = value[key]
    return value


def _check_config(config: ModelConfig) -> None:
    """Nothing in it may be what no model can have."""
    numbers = [config.max_prompt_tokens, config.min_seconds, config.max_seconds]
    must(all(math.isfinite(n) and 0 <= n <= 1e6 for n in numbers), f"{numbers}")
    must(config.min_seconds < config.max_seconds, f"{numbers}")
    must(type(config.max_prompt_tokens) is int and config.max_prompt_tokens > 0, f"{numbers}")
    size = config.sample_size
    must(size is None or (type(size) is int and 4096 <= size < 2**31), f"sample_size {size!r}")
    assert config.same is not None
    for side in (config.same.encoder, config.same.decoder):
        span = side.chunk or side.window
        must(type(span) is int and 0 < span <= 4096, f"chunk or window {span!r}")
        must(type(side.sinusoidal) is int and 0 <= side.sinusoidal <= 1000, f"{side.sinusoidal}")
        must(0 <= side.mask_noise <= 1, f"{side.mask_noise}")
    if config.shift is not None:
        chosen_shift(AUTO, {}, config.shift)


def lora(folder: Path) -> Attempt:
    """LoRA files of all sorts, native and plain."""
    sorts = [
        GOLDEN / "tiny-s" / f"adapter_{kind}.safetensors"
        for kind in ("lora", "dora-rows", "bora", "lora-xs", "dora-cols-xs")
    ]
    goods = [path.read_bytes() for path in sorts] + [_plain_lora(sorts[0])]
    path = folder / "lora.safetensors"

    def attempt(rng: random.Random) -> None:
        path.write_bytes(change_safetensors(rng, rng.choice(goods)))
        file = read_adapter(path)
        plain = plain_tensors(path)
        values = set(plain.values())
        must(bool(file.layers), "no layers")
        for key, layer in file.layers.items():
            tensors = [layer.core, *layer.magnitudes]
            tensors += [] if layer.low_rank is None else [layer.low_rank.a, layer.low_rank.b]
            for tensor in tensors:
                if tensor is None:
                    continue
                must(bool(torch.isfinite(tensor.float()).all()), f"{key} is not finite")
                stored = tensor.contiguous().view(torch.uint8).numpy().tobytes()
                must(stored in values, f"{key} holds what is not in the file")
            must(math.isfinite(layer.scale), f"{key}: scale {layer.scale}")
        must(math.isfinite(file.alpha) and 0 < file.rank < 1e6, f"{file.alpha} {file.rank}")

    return attempt


def _plain_lora(native: Path) -> bytes:
    """The same LoRA under PEFT's names, with PEFT's metadata."""
    tensors = {
        f"base_model.{key.replace('.parametrizations.weight.0.', '.')}.weight": value
        for key, value in load_file(native).items()
    }
    notes = {"r": 4, "lora_alpha": 8, "target_modules": ["to_qkv"], "alpha_pattern": {"to_qkv": 2}}
    return save(tensors, {"lora_adapter_metadata": json.dumps(notes)})


def _small_encoder() -> dict[str, torch.Tensor]:
    tensors = load_file(tiny_checkpoint("tiny-s") / FOLDER / "model.safetensors")
    return {k: v for k, v in tensors.items() if ".decoder." not in k}


def text_encoder(folder: Path) -> Attempt:
    """The repackaged text encoder with its tokenizer inside."""
    good = save(_small_encoder() | {"spiece_model": spiece_tensor(train_spiece())})
    path = folder / "t5gemma_b_b_ul2.safetensors"

    def attempt(rng: random.Random) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(change_safetensors(rng, good))
        open_tokenizer(path).tokenize(PROMPT, 256)
        file = read_encoder_file(path)
        plain = plain_tensors(path)
        for name, tensor in file.tensors.items():
            stored = tensor.contiguous().view(torch.uint8).numpy().tobytes()
            same = stored in (plain.get("model.encoder." + name), plain.get("encoder." + name))
            must(same, f"{name} is not what the file holds")
        if rng.randrange(40) == 0:  # seconds instead of milliseconds
            tokens = load_t5gemma(path).encode([PROMPT]).tokens
            must(bool(torch.isfinite(tokens).all()), "tokens are not finite")

    return attempt


def encoder_config(folder: Path) -> Attempt:
    """config.json of a text encoder's folder."""
    model = folder / "encoder"
    shutil.copytree(tiny_checkpoint("tiny-s") / FOLDER, model)
    path = model / "config.json"
    text = path.read_text()
    good, base = json.loads(text), read_encoder_file(model).config

    def attempt(rng: random.Random) -> None:
        if rng.randrange(8) == 0:
            path.write_bytes(spoil_text(rng, text.encode()))
            read_encoder_file(model)
            return
        changed, where = change_json(rng, {"encoder": good["encoder"]})
        path.write_text(json.dumps(good | changed), encoding="utf-8")
        config = read_encoder_file(model).config
        numbers = (config.head_dim, config.query_scalar, config.softcap, config.norm_eps)
        numbers += (config.rope_theta, config.sliding_window)
        must(all(math.isfinite(n) and 0 < n < 1e9 for n in numbers), f"{where} {numbers}")
        must(type(config.head_dim) is int and type(config.sliding_window) is int, f"{numbers}")
        key, given, was = where[-1], _at(changed, where), _at(good, where)
        told = config != base or _is_absent(given) or given == was or was is None
        must(told or key in _READER_FREE or isinstance(was, list), f"{where}: {given!r:.60}")

    return attempt


# What a T5Gemma config says that its encoder does not depend on here.
_READER_FREE = {"model_type", "attention_dropout", "dropout_rate", "initializer_range", "use_cache"}
_READER_FREE |= {"max_position_embeddings", "layer_types", "bos_token_id", "eos_token_id"}
_READER_FREE |= {
    "final_logit_softcapping",
    "pad_token_id",
    "torch_dtype",
    "dtype",
    "architectures",
    "is_decoder",
}


def _check_tokens(tokenize: Callable[[str, int], Any]) -> None:
    for prompt in (PROMPT, "", "é \u4e16\u754c", "a" * 300):
        found = tokenize(prompt, 64)
        must(all(type(i) is int and i >= 0 for i in found.ids), f"{found.ids[:9]}")
        must(len(found.ids) <= 64 and len(found.ids) <= found.total, f"{found.total}")


def spiece(folder: Path) -> Attempt:
    """The SentencePiece model inside of a repackaged file."""
    good = train_spiece()

    def attempt(rng: random.Random) -> None:
        data = change_bytes(rng, good) or b"\0"
        _check_tokens(SentencePieceTokenizer(spiece_tensor(data), "x.safetensors").tokenize)

    return attempt


def tokenizer_folder(folder: Path) -> Attempt:
    """tokenizer.json and tokenizer_config.json of a text encoder's folder."""
    model = folder / "encoder"
    shutil.copytree(tiny_checkpoint("tiny-s") / FOLDER, model)
    names = ("tokenizer.json", "tokenizer_config.json")
    goods = {name: (model / name).read_bytes() for name in names}

    def attempt(rng: random.Random) -> None:
        for name, data in goods.items():
            (model / name).write_bytes(data)
        name = rng.choice(names)
        if rng.randrange(3):
            changed = json.dumps(change_json(rng, json.loads(goods[name]))[0]).encode()
        else:
            changed = spoil_text(rng, goods[name])
        (model / name).write_bytes(changed)
        _check_tokens(FolderTokenizer(model).tokenize)

    return attempt
