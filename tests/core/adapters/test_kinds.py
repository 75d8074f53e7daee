"""LoRA files of other trainers: what is read from them, and what is named as unused or wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sa3_core.adapters.build import build_adapter, match, require_fit
from sa3_core.adapters.file import AdapterFile, read_adapter
from sa3_core.adapters.kinds import LoHa, LoKr
from sa3_core.errors import AdapterError
from tests.helpers import lora_tensors
from tests.helpers.support import rel_l2

BLOCK = "transformer.layers.1."
OUT = f"model.model.{BLOCK}self_attn.to_out.weight"
FF, FF_BIAS = (f"model.model.{BLOCK}ff.ff.2.{name}" for name in ("weight", "bias"))
SHAPES = {OUT: (16, 16), FF: (16, 32), FF_BIAS: (16,)}
PATHS = {OUT: f"{BLOCK}self_attn.to_out", FF: f"{BLOCK}ff.ff.2"}


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "piano.safetensors"


def read(path: Path, tensors: dict[str, Tensor], **metadata: object) -> AdapterFile:
    save_file(tensors, path, {key: json.dumps(value) for key, value in metadata.items()} or None)
    return read_adapter(path)


def changed(adapter: AdapterFile, key: str, strength: float = 1.0) -> Tensor:
    """What the file makes of zeros."""
    return build_adapter(adapter, {}, [key])[key].apply(torch.zeros(SHAPES[key]), strength)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


STYLES = {
    "comfyui": "diffusion_model.{}.",
    "comfyui, conditioner too": "model.diffusion_model.{}.",
    "plain": "{}.",
    "kohya": "lora_unet_{flat}.",
    "lycoris": "lycoris_{flat}.",
    "peft": "base_model.model.{}.",
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", lora_tensors.kinds((16, 16)))
def test_every_kind_in_every_key_style(file, kind, style):
    tensors = lora_tensors.kinds((16, 16))[kind]
    path = PATHS[OUT]
    stem = STYLES[style].format(path, flat=path.replace(".", "_"))
    adapter = read(file, {stem + name: tensor for name, tensor in tensors.items()})
    assert list(adapter.layers) == [OUT]
    assert require_fit(match(adapter, SHAPES)) == (OUT,)
    expected = read(file, {f"{path}.{name}": tensor for name, tensor in tensors.items()})
    assert torch.equal(changed(adapter, OUT), changed(expected, OUT))
    family = kind.partition(",")[0]
    assert adapter.adapter_type.startswith(
        {"w_norm": "diff", "all of them": "diff"}.get(family, family)
    )


def test_a_bias_beside_the_factors_acts_with_their_scale(file):
    a, b, bias = drawn(4, 32), drawn(16, 4), drawn(16, seed=1)
    stem = f"base_model.model.{PATHS[FF]}."
    tensors = {f"{stem}lora_A.weight": a, f"{stem}lora_B.weight": b, f"{stem}lora_B.bias": bias}
    adapter = read(file, tensors, lora_config={"r": 4, "lora_alpha": 8})
    assert set(adapter.layers) == {FF, FF_BIAS}
    assert adapter.adapter_type == "lora, bias"
    assert rel_l2(changed(adapter, FF, 0.5), b @ a) < 1e-6  # alpha / rank is 2
    assert rel_l2(changed(adapter, FF_BIAS, 0.5), bias) < 1e-6
    assert match(adapter, SHAPES).unused == ()


def test_biases_of_layers_without_one_are_named_and_do_not_stop_the_rest(file, caplog):
    stem = f"base_model.model.{PATHS[OUT]}."
    tensors = {
        f"{stem}lora_A.weight": drawn(4, 16),
        f"{stem}lora_B.weight": drawn(16, 4),
        f"{stem}lora_B.bias": drawn(16),
    }
    report = match(read(file, tensors), SHAPES)
    assert require_fit(report) == (OUT,)
    assert report.unused == (f"{stem}lora_B.bias",)
    assert f"1 tensor is not used: {stem}lora_B.bias" in caplog.text


def test_a_bias_of_another_size_does_not_fit(file):
    adapter = read(file, {f"{PATHS[FF]}.diff_b": drawn(8), f"{PATHS[FF]}.diff": drawn(16, 32)})
    with pytest.raises(AdapterError, match="8 values in the LoRA, 16 in the model"):
        require_fit(match(adapter, SHAPES))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.float16])
def test_alpha_of_any_number_type(file, dtype):
    pair = {"lora_up.weight": drawn(16, 4), "lora_down.weight": drawn(4, 16)}
    tensors = {**pair, "alpha": torch.tensor(2, dtype=dtype)}
    adapter = read(file, {f"{PATHS[OUT]}.{name}": tensor for name, tensor in tensors.items()})
    assert adapter.layers[OUT].scale == 0.5


def test_two_named_adapters_are_both_applied(file):
    pairs = {name: (drawn(4, 16, seed=i), drawn(16, 4, seed=9)) for i, name in enumerate("ab")}
    tensors = {}
    for name, (a, b) in pairs.items():
        tensors[f"{PATHS[OUT]}.lora_A.{name}.weight"] = a
        tensors[f"{PATHS[OUT]}.lora_B.{name}.weight"] = b
    tensors[f"{PATHS[OUT]}.alpha"] = torch.tensor(8)  # of both
    adapter = read(file, {name: tensor.clone() for name, tensor in tensors.items()})
    assert adapter.adapters == ("a", "b")
    expected = sum(2 * (b @ a) for a, b in pairs.values())
    assert rel_l2(changed(adapter, OUT), expected) < 1e-6
    assert set(adapter.names[OUT]) == set(tensors)
    one = {name: tensor for name, tensor in tensors.items() if ".b." not in name}
    assert read(file, one).adapters == ()


def test_a_text_encoders_layers_are_named_and_give_no_wrong_advice(file, caplog):
    pair = {"lora_A.weight": drawn(4, 16), "lora_B.weight": drawn(16, 4)}
    paths = (
        PATHS[OUT],
        "text_encoder.layers.0.q_proj",
        "lora_te_layers_0_mlp",
        "text_encoders.x.y",
    )
    tensors = {f"{path}.{name}": t.clone() for path in paths for name, t in pair.items()}
    adapter = read(file, tensors)
    assert list(adapter.layers) == [OUT]
    assert len(adapter.unused) == 6
    require_fit(match(adapter, SHAPES))
    assert "6 tensors are not used" in caplog.text


def test_the_model_that_is_loaded_is_not_advised(file):
    qkv = f"{BLOCK}self_attn.to_qkv"
    tensors = {f"{qkv}.lora_A.weight": drawn(4, 16), f"{qkv}.lora_B.weight": drawn(48, 4)}
    for path in (f"{BLOCK}self_attn.to_k", "foo.bar"):
        tensors |= {f"{path}.lora_A.weight": drawn(4, 16), f"{path}.lora_B.weight": drawn(16, 4)}
    more = {
        f"{PATHS[OUT]}.lora_A.weight": drawn(4, 16),
        f"{PATHS[OUT]}.lora_B.weight": drawn(16, 4),
    }
    adapter = read(file, {**tensors, **more})
    key = f"model.model.{qkv}.weight"
    for shape, advised in (((48, 16), False), ((80, 16), True)):
        with pytest.raises(AdapterError, match="2 are not in the model") as caught:
            require_fit(match(adapter, {**SHAPES, key: shape}))
        assert ("load that one" in str(caught.value)) is advised


def test_unknown_tensors_beside_a_lora_are_named(file):
    kinds = lora_tensors.kinds((16, 16))
    tensors = {f"{PATHS[OUT]}.{name}": tensor for name, tensor in kinds["oft"].items()}
    odd = {f"{PATHS[OUT]}.rescale": drawn(16, 1), "steps": drawn(1), f"{PATHS[OUT]}.x": drawn(2)}
    adapter = read(file, {**tensors, **odd})
    assert set(adapter.unused) == set(odd)


def test_where_several_change_one_weight_the_last_counts_and_the_rest_is_named(file):
    kinds = lora_tensors.kinds((16, 16))["all of them"]
    adapter = read(file, {f"{PATHS[OUT]}.{name}": tensor for name, tensor in kinds.items()})
    assert torch.equal(changed(adapter, OUT), kinds["diff"])
    assert set(adapter.unused) == {f"{PATHS[OUT]}.{name}" for name in kinds if name != "diff"}


def test_set_weight_ignores_the_strength_but_0(file):
    value = drawn(16, 16)
    adapter = read(file, {f"{PATHS[OUT]}.set_weight": value})
    assert torch.equal(changed(adapter, OUT, 0.2), value)
    assert torch.equal(changed(adapter, OUT, 0.0), torch.zeros(16, 16))


def test_tucker_forms_written_out():
    core, up, down = drawn(4, 4, 3), drawn(4, 16), drawn(4, 8, seed=1)
    weight = torch.zeros(16, 8, 3)
    made = torch.einsum("ijk,ip,jr->prk", core, up, down)
    loha = LoHa(up, down, up, down, core, core)
    assert rel_l2(loha.difference(weight, 1.0), made * made) < 1e-6
    assert loha.fits((16, 8, 3))
    lokr = LoKr(lokr_w1=torch.eye(2), lokr_w2_a=up, lokr_w2_b=down, lokr_t2=core)
    whole = lokr.difference(torch.zeros(32, 16, 3), 1.0)
    assert whole.shape == (32, 16, 3)
    assert torch.equal(whole[:16, :8], whole[16:, 8:])
    assert rel_l2(whole[:16, :8], made) < 1e-6
    assert not whole[:16, 8:].any()


def test_a_locon_core_between_the_factors(file):
    key = "model.model.preprocess_conv.weight"
    up, mid, down = drawn(16, 4, 1), drawn(4, 4, 3), drawn(4, 8, 1)
    tensors = {"lora_up.weight": up, "lora_mid.weight": mid, "lora_down.weight": down}
    adapter = read(file, {f"preprocess_conv.{name}": tensor for name, tensor in tensors.items()})
    assert require_fit(match(adapter, {key: (16, 8, 3)})) == (key,)
    made = build_adapter(adapter, {})[key].apply(torch.zeros(16, 8, 3), 1.0)
    expected = torch.einsum("or,rmk,mi->oik", up[..., 0], mid, down[..., 0])
    assert rel_l2(made, expected) < 1e-6


def test_diffusers_order_of_fused_rows_for_every_kind(file):
    qkv = "transformer.transformer_blocks.1.self_attn.to_qkv."
    key = f"model.model.{BLOCK}self_attn.to_qkv.weight"
    diff = torch.arange(5.0).repeat_interleave(4)[:, None].expand(20, 4).contiguous()
    adapter = read(file, {f"{qkv}diff": diff, f"{qkv}dora_scale": torch.ones(20, 1)})
    made = build_adapter(adapter, {})[key].apply(torch.zeros(20, 4), 1.0)
    assert made[::4, 0].tolist() == [0, 2, 4, 1, 3]  # [q k v q' k'] of [q q' k k' v]
    assert adapter.unused == (f"{qkv}dora_scale",)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"hada_w1_a": drawn(16, 4)}, "without hada_w1_b"),
        ({"lokr_w1": drawn(4, 4)}, "without lokr_w2"),
        ({"lokr_w1": drawn(4), "lokr_w2": drawn(4, 4)}, "must be a matrix"),
        ({"lora_up.weight": drawn(16, 4)}, "without lora_A"),
        ({"a1.weight": drawn(16, 4)}, "without a2.weight"),
        ({f"{n}.weight": drawn(3, 5) for n in ("a1", "a2", "b1", "b2")}, "one rank"),
        ({"oft_blocks": drawn(2, 3)}, "last two sides"),
        ({"oft_blocks": drawn(9, 1, 2, 2)}, "do not divide"),
        ({"oft_blocks": drawn(2, 8, 8), "alpha": torch.tensor(torch.nan)}, "finite"),
        ({"diff": drawn(16, 16) * torch.inf}, "not finite"),
        ({"set_weight": drawn(16, 16).long()}, "not finite"),
        ({"dora_scale": drawn(16, 1)}, "not a LoRA"),
        (
            {
                "lora_up.weight": drawn(16, 4),
                "lora_down.weight": drawn(4, 16),
                "reshape_weight": torch.tensor([16, 20]),
            },
            "reshape_weight is",
        ),
    ],
)
def test_files_that_contradict_themselves(file, tensors, said):
    with pytest.raises(AdapterError) as caught:
        read(file, {f"{PATHS[OUT]}.{name}": tensor for name, tensor in tensors.items()})
    assert said in str(caught.value)
    assert file.name in str(caught.value)


def test_two_spellings_of_one_tensor_are_refused(file):
    pair = {"lora_A.weight": drawn(4, 16), "lora_down.weight": drawn(4, 16)}
    with pytest.raises(AdapterError, match="the same tensor of one layer"):
        read(file, {f"{PATHS[OUT]}.{name}": tensor for name, tensor in pair.items()})
