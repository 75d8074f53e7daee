"""Stand-ins for what the papers' extractors are published in, with the published call signatures.

Sources of the signatures: hear21passt 0.0.26 (base.py, models/passt.py), h5py 3 (File, attrs),
soxr 0.5 (resample), openl3 0.4.2 (names and layout of its weights). CLAP needs none: transformers
is installed, and a tiny model of its own classes is written in the published folder's layout.
"""

from __future__ import annotations

import gzip
import importlib
import io
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import resample_poly
from torch import nn

PASST_WEIGHTS = "passt-s-f128-p16-s10-ap.476-swa.pt"
PASST_URL = f"https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset/{PASST_WEIGHTS}"
OPENL3_WEIGHTS = "openl3_audio_mel256_music-v0_4_0.h5"
CLAP_FOLDER = "clap-htsat-fused"
WORDS = ("<s>", "<pad>", "</s>", "<unk>", "a", "drum", "rain", "loop", "on", "roof")


class Passt(nn.Module):
    """Logits that are a linear map of a window's mean and power, and what it was given."""

    def __init__(self, weights: dict[str, torch.Tensor], mode: str) -> None:
        super().__init__()
        self.head = nn.Linear(2, 527)
        self.head.load_state_dict(weights)
        self.mode, self.given = mode, list[torch.Tensor]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("x", x.shape)  # noqa: T201 - as the package does
        self.given.append(x)
        return self.head(torch.stack([x.mean(1), (x**2).mean(1)], 1))


def passt_package(url: str = PASST_URL) -> dict[str, types.ModuleType]:
    """hear21passt: its model is loaded by torch's hub, which fetches what it does not hold."""
    models = types.ModuleType("hear21passt.models.passt")
    models.default_cfgs = {"passt_s_swa_p16_128_ap476": {"url": url}}  # type: ignore[attr-defined]

    def get_basic_model(
        arch: str = "passt_s_swa_p16_128_ap476", mode: str = "all", **kwargs: Any
    ) -> Passt:
        where = models.default_cfgs[arch]["url"]
        weights = torch.hub.load_state_dict_from_url(where, progress=False, map_location="cpu")
        return Passt(weights, mode, **kwargs)

    base = types.ModuleType("hear21passt.base")
    base.get_basic_model = get_basic_model  # type: ignore[attr-defined]
    names = ("hear21passt", "hear21passt.models")
    packages = {name: types.ModuleType(name) for name in names}
    return {**packages, base.__name__: base, models.__name__: models}


def write_passt(folder: Path) -> nn.Linear:
    """Weights where they are looked for; the head that they make."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    head = nn.Linear(2, 527)
    torch.save(head.state_dict(), folder / PASST_WEIGHTS)
    return head


class _Node(dict[str, Any]):
    """A file or group of HDF5: items, and attributes beside them."""

    def __init__(self, attrs: dict[str, Any], items: dict[str, Any]) -> None:
        super().__init__(items)
        self.attrs = attrs

    def __enter__(self) -> _Node:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


def _h5_file(name: Path | io.BytesIO, mode: str = "r") -> _Node:
    """h5py.File of what `write_openl3` wrote.

    Raises:
        OSError: as h5py's, for any other file.
    """
    held = name.getvalue() if isinstance(name, io.BytesIO) else Path(name).read_bytes()
    try:
        layers = pickle.loads(held)
    except pickle.UnpicklingError:
        raise OSError("Unable to synchronously open file (file signature not found)") from None
    groups = {
        layer: _Node({"weight_names": [n.encode() for n in weights]}, weights)
        for layer, weights in layers.items()
    }
    return _Node({"layer_names": np.array([n.encode() for n in groups])}, groups)


def h5py_package() -> types.ModuleType:
    """h5py, as far as Keras' weights are read by it."""
    package = types.ModuleType("h5py")
    package.File = _h5_file  # type: ignore[attr-defined]
    return package


def write_openl3(path: Path, widths: tuple[int, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Random weights in Keras' layout and order: a norm, then convolutions with norms between."""
    rng = np.random.default_rng(4)
    layers: dict[str, dict[str, np.ndarray]] = {"input_1": {}}
    for place, (ins, outs) in enumerate(zip((1, *widths), widths, strict=False), 1):
        norm, conv = f"batch_normalization_{place}", f"conv2d_{place}"
        if place == len(widths):
            conv = "audio_embedding_layer"
        layers[norm] = {
            f"{norm}/gamma:0": rng.uniform(0.5, 1.5, ins),
            f"{norm}/beta:0": rng.normal(size=ins) * 0.1,
            f"{norm}/moving_mean:0": rng.normal(size=ins) * 0.1,
            f"{norm}/moving_variance:0": rng.uniform(0.5, 1.5, ins),
        }
        kernel = rng.normal(size=(3, 3, ins, outs)) / np.sqrt(9 * ins)
        layers[conv] = {f"{conv}/kernel:0": kernel, f"{conv}/bias:0": rng.normal(size=outs) * 0.1}
    held = pickle.dumps(layers)
    path.write_bytes(gzip.compress(held) if path.suffix == ".gz" else held)
    return layers


class Soxr(types.ModuleType):
    """soxr: `resample(x, in_rate, out_rate)` of [N] or [N, channels], and what it was asked."""

    def __init__(self) -> None:
        super().__init__("soxr")
        self.asked = list[tuple[tuple[int, ...], float, float]]()

    def resample(
        self, x: np.ndarray, in_rate: float, out_rate: float, quality: str = "HQ"
    ) -> np.ndarray:
        assert quality == "HQ"
        assert x.ndim == 1 or x.shape[1] < x.shape[0], "time is the first axis"
        self.asked.append((x.shape, in_rate, out_rate))
        size = round(len(x) * out_rate / in_rate)
        return resample_poly(x, int(out_rate), int(in_rate), axis=0)[:size].astype(x.dtype)


def write_clap(folder: Path) -> None:
    """A tiny CLAP with feature fusion of random weights, as the published folder holds it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        PreTrainedTokenizerFast,
    )

    place = folder / CLAP_FOLDER
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    special = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), WORDS, strict=False))
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(place)
    text = {
        **{"vocab_size": len(WORDS), "hidden_size": 8, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 90},
        "pad_token_id": WORDS.index("<pad>"),
    }
    audio = {
        **{"patch_embeds_hidden_size": 8, "hidden_size": 64, "depths": [1, 1, 1, 1]},
        **{"num_attention_heads": [1, 1, 1, 1], "window_size": 8, "aff_block_r": 2},
        **{"enable_fusion": True, "enable_patch_layer_norm": True},
    }
    torch.manual_seed(5)
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=6)
    ClapModel(config).save_pretrained(place)
    ClapFeatureExtractor(truncation="fusion", padding="repeatpad").save_pretrained(place)


def put_in(monkeypatch: Any, *packages: types.ModuleType) -> None:
    """Let imports find the packages.

    transformers comes first: it remembers for good what of them it found.
    """
    importlib.import_module("transformers.models.clap.feature_extraction_clap")
    for package in packages:
        monkeypatch.setitem(sys.modules, package.__name__, package)
