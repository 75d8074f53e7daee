"""LoRA maths against the reference's merged weights and against the formulas written out."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from sa3_core.adapters.build import build_adapter
from sa3_core.adapters.file import read_adapter
from sa3_core.adapters.packing import unpack
from sa3_core.adapters.rules import ADAPTER_TYPES, RULES, AdapterWeight, LowRank, LowRankXS
from sa3_core.errors import UnknownNameError
from tests.helpers import support

QKV = "model.model.transformer.layers.0.self_attn.to_qkv.weight"
GOLDEN_KEYS = {  # a Linear, a Conv1d and the conditioner's layer
    QKV: "weight.model.transformer.layers.0.self_attn.to_qkv",
    "model.model.preprocess_conv.weight": "weight.model.preprocess_conv",
    "conditioner.conditioners.seconds_total.embedder.embedding.1.weight": (
        "weight.conditioners.seconds_total.embedder.embedding.1"
    ),
}
SVD = "svd.0.model.transformer.layers.0.self_attn.to_qkv"


@pytest.fixture(scope="module", params=["tiny-s", "tiny-m"])
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def originals(variant) -> dict[str, torch.Tensor]:
    file = support.tiny_checkpoint(variant) / "model.safetensors"
    with safe_open(file, framework="pt") as weights:
        return {key: weights.get_tensor(key) for key in GOLDEN_KEYS}


def built(variant, name, originals, tmp_path):
    """The adapter of a golden file, from a copy so that its cache lands in tmp_path."""
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(support.golden_path(f"{variant}/adapter_{name}").read_bytes())
    return build_adapter(read_adapter(path), originals, GOLDEN_KEYS)


@pytest.mark.parametrize("kind", ADAPTER_TYPES)
def test_merged_weights_equal_the_reference(kind, variant, originals, golden, rel_l2, tmp_path):
    expected = golden(f"{variant}/lora_{kind}")
    adapter = built(variant, kind, originals, tmp_path)
    # -xs: the reference's float32 singular vectors are themselves only good to 4e-5 here
    tolerance = 1e-5 if kind.endswith("-xs") else 1e-6
    for key, name in GOLDEN_KEYS.items():
        merged = adapter[key].apply(originals[key], 1.0)
        assert merged.shape == originals[key].shape
        assert rel_l2(merged[:8], expected[name]) < tolerance


@pytest.mark.parametrize("kind", [kind for kind in ADAPTER_TYPES if kind.endswith("-xs")])
def test_xs_equals_the_reference_with_its_own_singular_vectors(
    kind, variant, originals, golden, rel_l2, tmp_path
):
    bases = golden(f"{variant}/lora_lora-xs")
    ours = built(variant, kind, originals, tmp_path)[QKV]
    factor = LowRankXS(bases[f"{SVD}.U"], bases[f"{SVD}.V"], ours.factor.m)
    merged = AdapterWeight(factor, ours.rule, ours.magnitudes, ours.scale).apply(originals[QKV], 1)
    assert rel_l2(merged[:8], golden(f"{variant}/lora_{kind}")[GOLDEN_KEYS[QKV]]) < 1e-6


def test_a_stack_of_two_equals_the_reference(variant, originals, golden, rel_l2, tmp_path):
    first = built(variant, "stack0_lora", originals, tmp_path)
    second = built(variant, "stack1_dora-rows", originals, tmp_path)
    for key, name in GOLDEN_KEYS.items():
        merged = second[key].apply(first[key].apply(originals[key], 1.0), 1.0)
        assert rel_l2(merged[:8], golden(f"{variant}/lora_stack")[name]) < 1e-6


def written_out(kind, weight, tensors, scale, strength):
    """Spec section 11, one branch per type, in float64."""
    w = weight.double().reshape(len(weight), -1)
    left, core, right, rows, columns = (t if t is None else t.double() for t in tensors)
    product = left @ right.T if core is None else left @ core @ right.T
    v = w + scale * strength * product
    if "dora-rows" in kind or "bora" in kind:
        v = rows[:, None] * v / v.norm(dim=1, keepdim=True)
    if "dora-cols" in kind or "bora" in kind:
        v = columns[None] * v / v.norm(dim=0, keepdim=True)
    return v.view(weight.shape)


@pytest.mark.parametrize("shape", [(24, 16), (12, 20), (10, 4, 3)])
@pytest.mark.parametrize("kind", ADAPTER_TYPES)
def test_formulas_at_other_strengths_and_shapes(kind, shape, rel_l2):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(*shape, generator=generator)
    out, width = weight.flatten(1).shape
    left = torch.randn(out, 4, generator=generator)
    right = torch.randn(width, 4, generator=generator)
    core = torch.randn(4, 4, generator=generator) if kind.endswith("-xs") else None
    rows = torch.rand(out, generator=generator) + 0.5
    columns = torch.rand(width, generator=generator) + 0.5
    rule = kind.removesuffix("-xs")
    magnitudes = tuple((rows, columns)[axis] for axis in RULES[rule].axes)
    factor = LowRank(right.T, left) if core is None else LowRankXS(left, right, core)
    adapter = AdapterWeight(factor, rule, magnitudes, 0.75)
    before = weight.clone()
    for strength in (-2.0, 1e-4, 0.5, 1.7):
        expected = written_out(kind, weight, (left, core, right, rows, columns), 0.75, strength)
        assert rel_l2(adapter.apply(weight, strength), expected) < 1e-6
    assert torch.equal(weight, before)


def adapter(rule: str = "bora") -> AdapterWeight:
    pair = LowRank(torch.randn(2, 6).half(), torch.randn(8, 2).half())
    magnitudes = {"lora": (), "bora": (torch.rand(8).half(), torch.rand(6).half())}[rule]
    return AdapterWeight(pair, rule, magnitudes, 1.5)


@pytest.mark.parametrize("rule", ["lora", "bora"])
def test_strength_zero_is_the_very_weight(rule):
    weight = torch.randn(8, 6)
    assert adapter(rule).apply(weight, 0.0) is weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_computed_in_float32_and_returned_in_the_weights_type(dtype):
    weight, bora = torch.nn.Parameter(torch.randn(8, 6).to(dtype)), adapter()
    new = bora.apply(weight, 1.0)
    assert new.dtype == dtype
    assert not new.requires_grad
    assert torch.equal(new, bora.apply(weight.float(), 1.0).to(dtype))


@pytest.mark.parametrize("kind", ["lora", "bora"])
def test_pack_and_unpack_keep_everything(kind):
    weight, one = torch.randn(8, 6), adapter(kind)
    packed = moved(one.pack())
    assert torch.equal(unpack(packed).apply(weight, 0.3), one.apply(weight, 0.3))
    xs = AdapterWeight(
        LowRankXS(torch.rand(8, 2), torch.rand(6, 2), torch.rand(2, 2)), "lora", (), 1
    )
    assert torch.equal(unpack(xs.pack()).apply(weight, 1), xs.apply(weight, 1))


def moved(packed):
    """Nested tuples as a host may give them back: as lists, the tensors copied."""
    if isinstance(packed, tuple):
        return [moved(item) for item in packed]
    return packed.clone() if isinstance(packed, torch.Tensor) else packed


def test_all_eight_types_have_rules_and_unknown_ones_are_named():
    assert len(ADAPTER_TYPES) == 8
    with pytest.raises(UnknownNameError, match="dora-rows"):
        _ = RULES["dora-row"]
