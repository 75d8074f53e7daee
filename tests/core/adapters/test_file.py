"""Reading LoRA files: all types, all key styles, and every way a file can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sa3_core.adapters.file import read_adapter
from sa3_core.adapters.rules import ADAPTER_TYPES
from sa3_core.errors import AdapterError
from tests.helpers import support

BLOCK = "transformer.layers.1."
QKV = f"model.model.{BLOCK}self_attn.to_qkv.weight"
CONDITIONER = "conditioner.conditioners.seconds_total.embedder.embedding.1.weight"
BARE = f"{BLOCK}self_attn.to_qkv"  # without the leading model.
NATIVE = ".parametrizations.weight.0."
A, B = torch.arange(12.0).view(2, 6), torch.arange(16.0).view(8, 2)  # rank 2, 6 -> 8


def write(path: Path, tensors: dict[str, Tensor], **metadata: object) -> Path:
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    save_file({k: v.clone() for k, v in tensors.items()}, path, metadata=texts or None)
    return path


def native(path: str = f"model.{BLOCK}self_attn.to_qkv", **tensors: Tensor) -> dict[str, Tensor]:
    return {f"{path}{NATIVE}{name}": value for name, value in tensors.items()}


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "piano.safetensors"


@pytest.mark.parametrize("kind", ADAPTER_TYPES)
@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_published_files_are_read_completely(variant, kind):
    adapter = read_adapter(support.golden_path(f"{variant}/adapter_{kind}"))
    assert (adapter.adapter_type, adapter.rank, adapter.alpha) == (kind, 4, 6.0)
    assert len(adapter.layers) == 40
    assert CONDITIONER in adapter.layers
    weights = load_file(support.tiny_checkpoint(variant) / "model.safetensors")
    for key, layer in adapter.layers.items():
        matrix = weights[key].flatten(1).shape
        assert layer.scale == 1.5
        assert all(mine in (None, size) for mine, size in zip(layer.shape, matrix, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_any_precision_and_ranks_per_layer(file, dtype):
    tensors = native(lora_A=A.to(dtype), lora_B=B.to(dtype))
    other = native("model.preprocess_conv", lora_A=torch.ones(5, 3), lora_B=torch.ones(4, 5))
    settings = {"rank": 2, "alpha": 4, "adapter_type": "lora", "include": ["a"], "exclude": ["b"]}
    adapter = read_adapter(write(file, {**tensors, **other}, lora_config=settings))
    found = {key: (layer.rank, layer.scale) for key, layer in adapter.layers.items()}
    assert found == {QKV: (2, 2.0), "model.model.preprocess_conv.weight": (5, 0.8)}
    assert adapter.layers[QKV].low_rank.a.dtype == dtype
    assert (adapter.include, adapter.exclude) == (("a",), ("b",))
    assert json.loads(adapter.metadata["lora_config"]) == settings


def test_without_alpha_it_equals_the_rank(file):
    adapter = read_adapter(write(file, native(lora_A=A, lora_B=B), lora_config={"rank": 2}))
    assert (adapter.adapter_type, adapter.alpha, adapter.layers[QKV].scale) == ("lora", 2.0, 1.0)


@pytest.mark.parametrize(
    ("magnitude", "kind"),
    [
        (torch.ones(1, 6), "dora-cols"),
        (torch.ones(8, 1), "dora-rows"),
        (torch.ones(8), "dora-rows"),
    ],
)
def test_legacy_dora_is_told_apart_by_the_magnitudes_shape(file, magnitude, kind):
    tensors = native(lora_A=A, lora_B=B, magnitude=magnitude)
    config = {"rank": 2, "alpha": 2, "adapter_type": "dora"}
    adapter = read_adapter(write(file, tensors, lora_config=config))
    assert adapter.adapter_type == kind
    assert adapter.layers[QKV].magnitudes[0].ndim == 1


def test_stored_row_norms_of_newer_files_are_not_needed(file):
    tensors = native(lora_A=A, lora_B=B, magnitude=torch.ones(8), baked_vnorm_row=torch.ones(8))
    config = {"rank": 2, "alpha": 2, "adapter_type": "dora-rows", "baked_norms": 1}
    assert list(read_adapter(write(file, tensors, lora_config=config)).layers) == [QKV]


@pytest.mark.parametrize(
    "path", [f"{BLOCK}self_attn.to_qkv", f"model.model.{BLOCK}self_attn.to_qkv"]
)
def test_native_paths_may_be_relative_to_the_dit_or_to_the_whole_model(file, path):
    tensors = native(path, lora_A=A, lora_B=B)
    assert list(read_adapter(write(file, tensors, lora_config={})).layers) == [QKV]


PLAIN = {
    "peft": ("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight"),
    "peft, model. kept": (
        "base_model.model.model.{}.lora_A.weight",
        "base_model.model.model.{}.lora_B.weight",
    ),
    "peft, adapter name": ("{}.lora_A.default.weight", "{}.lora_B.default.weight"),
    "comfyui": ("diffusion_model.{}.lora_A.weight", "diffusion_model.{}.lora_B.weight"),
    "diffusers": ("transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight"),
    "diffusers, old": ("transformer.{}.lora.down.weight", "transformer.{}.lora.up.weight"),
}
PATHS = {
    f"{BLOCK}self_attn.to_qkv": QKV,
    f"{BLOCK}ff.ff.0.proj": f"model.model.{BLOCK}ff.ff.0.proj.weight",
    f"{BLOCK}to_local_embed.2": f"model.model.{BLOCK}to_local_embed.2.weight",
    "transformer.project_in": "model.model.transformer.project_in.weight",
    "to_global_embed.0": "model.model.to_global_embed.0.weight",
    "conditioners.seconds_total.embedder.embedding.1": CONDITIONER,
}


@pytest.mark.parametrize("style", PLAIN)
def test_plain_lora_in_other_key_styles(file, style):
    down, up = PLAIN[style]
    tensors = {}
    for path in PATHS:
        tensors |= {down.format(path): A, up.format(path): B}
    adapter = read_adapter(write(file, tensors))
    assert set(adapter.layers) == set(PATHS.values())
    assert adapter.adapter_type == "lora"
    layer = adapter.layers[QKV]
    assert torch.equal(layer.low_rank.a, A)
    assert torch.equal(layer.low_rank.b, B)
    assert (layer.scale, adapter.alpha) == (1.0, 2.0)


@pytest.mark.parametrize(
    "prefix", ["lora_unet_", "lora_transformer_", "lora_unet_model_", "lycoris_"]
)
def test_kohya_style_with_its_alpha_per_layer_and_convolutions(file, prefix):
    tensors = {}
    for path in PATHS:
        name = prefix + path.replace(".", "_")
        tensors |= {
            f"{name}.lora_down.weight": A[..., None],
            f"{name}.lora_up.weight": B[..., None],
            f"{name}.alpha": torch.tensor(1.0),
        }
    adapter = read_adapter(write(file, tensors))
    assert set(adapter.layers) == set(PATHS.values())
    assert {layer.scale for layer in adapter.layers.values()} == {0.5}
    assert torch.equal(adapter.layers[QKV].low_rank.b, B)


def test_diffusers_own_module_names_and_its_order_of_fused_rows(file):
    def pair(name: str, out: int) -> dict[str, Tensor]:
        return {
            f"transformer.{name}.lora_A.weight": torch.ones(2, 4),
            f"transformer.{name}.lora_B.weight": torch.arange(2.0 * out).view(out, 2),
        }

    tensors = {
        **pair("transformer_blocks.1.self_attn.to_qkv", 20),  # differential: 5 * 4 rows
        **pair("transformer_blocks.2.self_attn.to_qkv", 12),  # plain: 3 * 4 rows
        **pair("transformer_blocks.1.ff.proj_in", 8),
        **pair("transformer_blocks.1.cross_attn.to_kv", 8),
        **pair("proj_out", 8),
    }
    layers = read_adapter(write(file, tensors)).layers
    assert set(layers) == {
        QKV,
        QKV.replace("layers.1", "layers.2"),
        f"model.model.{BLOCK}ff.ff.0.proj.weight",
        f"model.model.{BLOCK}cross_attn.to_kv.weight",
        "model.model.transformer.project_out.weight",
    }
    rows = layers[QKV].low_rank.b[:, 0] / 2  # row numbers in the file: [q q' k k' v]
    assert rows.view(5, 4)[:, 0].tolist() == [0, 8, 16, 4, 12]  # [q k v q' k']
    plain = layers[QKV.replace("layers.1", "layers.2")].low_rank.b[:, 0] / 2
    assert plain.tolist() == list(range(12))


def test_peft_settings_beside_the_file_and_in_the_metadata(tmp_path):
    down, up = PLAIN["peft"]
    other = "to_global_embed.0"
    tensors = {}
    for path in (f"{BLOCK}self_attn.to_qkv", other):
        tensors |= {down.format(path): A, up.format(path): B}
    settings = {"r": 2, "lora_alpha": 8, "alpha_pattern": {"to_global_embed.0": 2}}
    file = write(tmp_path / "adapter_model.safetensors", tensors)
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    adapter = read_adapter(file)
    assert (adapter.alpha, adapter.layers[QKV].scale) == (8.0, 4.0)
    assert adapter.layers["model.model.to_global_embed.0.weight"].scale == 1.0
    flat = {"transformer.r": 2, "transformer.lora_alpha": 8, "transformer.use_rslora": True}
    file = write(tmp_path / "x.safetensors", tensors, lora_adapter_metadata=flat)
    assert read_adapter(file).layers[QKV].scale == pytest.approx(8 / 2**0.5)


def test_peft_dora_is_dora_rows(file):
    stem = f"base_model.model.{BLOCK}self_attn.to_qkv."
    tensors = {
        f"{stem}lora_A.weight": A,
        f"{stem}lora_B.weight": B,
        f"{stem}lora_magnitude_vector": torch.ones(8),
    }
    adapter = read_adapter(write(file, tensors))
    assert adapter.adapter_type == "dora-rows"
    assert adapter.layers[QKV].magnitudes[0].shape == (8,)


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(AdapterError) as caught:
        read_adapter(path)
    text = str(caught.value)
    assert path.name in text
    for part in parts:
        assert part in text, text


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_pickles_are_refused_with_the_way_to_convert_them(tmp_path, suffix):
    path = tmp_path / f"piano{suffix}"
    path.write_bytes(b"\x80\x02")
    refused(path, "pickle", "convert_lora_ckpt_to_safetensors")


def test_missing_foreign_and_damaged_files(tmp_path):
    refused(tmp_path / "gone.safetensors", "no such file")
    text = tmp_path / "notes.txt"
    text.write_text("x", encoding="utf-8")
    refused(text, ".safetensors")
    whole = support.golden_path("tiny-s/adapter_lora").read_bytes()
    for name, data in (("cut", whole[:-100]), ("header", whole[:50]), ("empty", b"")):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        refused(path)


CONFIG = {"rank": 2, "alpha": 2, "adapter_type": "lora"}
DORA = {**CONFIG, "adapter_type": "dora-rows"}
XS = {**CONFIG, "adapter_type": "lora-xs"}


@pytest.mark.parametrize(
    ("tensors", "config", "said"),
    [
        (native(lora_A=A, lora_B=B), None, "lora_config"),
        (native(lora_A=A, lora_B=B), "{", "JSON"),
        (native(lora_A=A, lora_B=B), [1], "object"),
        (native(lora_A=A, lora_B=B), {**CONFIG, "adapter_type": "dora-rwos"}, "'dora-rows'?"),
        (native(lora_A=A, lora_B=B), {**CONFIG, "rank": 0}, "rank is 0"),
        (native(lora_A=A, lora_B=B), {**CONFIG, "alpha": "x"}, "alpha is 'x'"),
        (native(lora_A=A, lora_B=torch.ones(8, 3)), CONFIG, "one rank"),
        (native(lora_A=A), CONFIG, "without lora_B"),
        (native(lora_A=A, lora_B=B), DORA, "without magnitude"),
        (native(lora_A=A, lora_B=B, magnitude=torch.ones(8)), CONFIG, "with magnitude"),
        (native(lora_A=A, lora_B=B, magnitude=torch.ones(6)), DORA, "6 values instead of 8"),
        (native(M_xs=torch.ones(2, 3)), XS, "square"),
        (native(lora_A=A * torch.nan, lora_B=B), CONFIG, "not finite"),
        (native(lora_A=A.long(), lora_B=B), CONFIG, "not finite"),
        ({**native(lora_A=A, lora_B=B), "extra.weight": A}, CONFIG, "extra.weight"),
        (
            {**native(lora_A=A, lora_B=B), f"model.preprocess_conv{NATIVE[:-2]}1.lora_A": A},
            CONFIG,
            "several LoRAs",
        ),
        (
            {
                **native(lora_A=A, lora_B=B),
                **native(f"{BLOCK}self_attn.to_qkv", lora_A=A, lora_B=B),
            },
            CONFIG,
            "twice",
        ),
        ({"model.weight": A}, None, "not a LoRA"),
    ],
)
def test_files_that_contradict_themselves(file, tensors, config, said):
    refused(write(file, tensors, **({} if config is None else {"lora_config": config})), said)


@pytest.mark.parametrize(
    ("stem", "family"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in", "Stable Diffusion"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", "Stable Diffusion"),
        ("lora_unet_double_blocks_0_img_attn_proj", "Flux"),
        ("transformer.single_transformer_blocks.0.attn.to_q", "Flux"),
        ("transformer.transformer_blocks.0.attn.add_k_proj", "Stable Diffusion 3"),
        ("diffusion_model.blocks.0.self_attn.q", "Wan"),
        ("base_model.model.model.layers.0.self_attn.q_proj", "language model"),
        ("something.else", "not a LoRA for Stable Audio 3 (it holds"),
    ],
)
def test_loras_of_other_models_are_named(file, stem, family):
    refused(write(file, {f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}), family)


def test_a_file_may_be_replaced_after_it_was_read(file):
    adapter = read_adapter(write(file, native(lora_A=A, lora_B=B), lora_config=CONFIG))
    write(file, native(lora_A=A + 1, lora_B=B), lora_config=CONFIG)
    assert torch.equal(adapter.layers[QKV].low_rank.a, A)
