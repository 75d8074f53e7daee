"""The demo's text encoder: T5Gemma's layout with one random layer, and a tokenizer of whole words.

Words are told apart by their embeddings; nothing of it is trained. A word that no caption names
is one <unk> token, as the fillers in captions are, so the model learns to pass over it. The layer
adds little to the embeddings: what stands around a word would only blur it. The numbers of BPM
have a part in common, so that one look finds whichever there is, and those that name the same tempo
are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file

from sa3_core.text.small_vocabulary import WORD
from tests.helpers import checkpoint_tensors as tensors
from tests.helpers import make_checkpoint as published

from . import sounds

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
_COMMON = 0.6  # of a number's embedding
_ADDED = 0.2  # of what attention and feed-forward are normalised to
_PIECE = WORD + r"|[^\w\s]"


def words_of(captions: Iterable[str]) -> list[str]:
    """Every word and mark once, in lower case, sorted."""
    found = {word for caption in captions for word in re.findall(_PIECE, caption.lower())}
    return sorted(found)


def write_text_encoder(folder: Path, words: Iterable[str], seed: int = 0) -> None:
    """Write the T5Gemma folder: encoder weights, config, tokenizer.

    Args:
        folder: made if it is not there.
        words: in lower case; others become <unk>.
        seed: of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words))}
    config = published.text_encoder_config(tiny=True)
    for part in (config, config["encoder"], config["decoder"]):
        part["vocab_size"] = len(vocabulary)
    one_layer = {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    for part in (config["encoder"], config["decoder"]):
        part |= {**one_layer, "layer_types": ["sliding_attention"]}
    published.write_json(folder / "config.json", config)
    specs = tensors.under("model.encoder.", tensors.text_encoder_spec(config["encoder"]))
    weights = tensors.materialise(specs, seed, torch.float16)
    _construct(weights, vocabulary)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_tokenizer(folder, vocabulary)


def _construct(weights: dict[str, torch.Tensor], vocabulary: dict[str, int]) -> None:
    """Quieten the layer, and let the numbers that name a tempo be alike."""
    for name in ("self_attn", "feedforward"):
        gain = weights[f"model.encoder.layers.0.post_{name}_layernorm.weight"]
        gain.fill_(_ADDED - 1)  # T5Gemma's norms multiply by 1 + weight
    words = weights["model.encoder.embed_tokens.weight"]
    rows = {
        bpm: words[vocabulary[str(bpm)]].float() for bpm in sounds.BEATS if str(bpm) in vocabulary
    }
    common = sum(rows.values()) / max(1, len(rows)) ** 0.5
    for bpm, own in rows.items():
        row = _COMMON * common + (1 - _COMMON**2) ** 0.5 * own
        for name in {str(bpm + off) for off in (-1, 0, 1)} & vocabulary.keys():
            words[vocabulary[name]] = row.to(words.dtype)


def _write_tokenizer(folder: Path, vocabulary: dict[str, int]) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), "removed", invert=True)
    tokenizer.decoder = decoders.WordPiece(prefix="")
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    published.write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **marks,
            "padding_side": "right",
            "model_max_length": 1000000000,
            "knows": sounds.KNOWS,
            "ignores": [*sounds.FILLERS, "chords"],
        },
    )
