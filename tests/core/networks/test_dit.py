"""One DiT call against the reference's, and what must hold for any weights."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sa3_core.checkpoints.load import load_model
from sa3_core.networks.conditioning import Context, join_contexts, null_context
from sa3_core.networks.dit import DiffusionTransformer, DiTConstants
from sa3_core.networks.layers import _frequencies, expo_fourier
from sa3_core.networks.model import SA3Model
from sa3_core.text.conditioning import TextConditioning
from tests.helpers.support import load_golden, rel_l2, tiny_checkpoint

VALID = 58


@pytest.fixture(scope="module", params=["tiny-s", "tiny-m"])
def model(request) -> SA3Model:
    return load_model(tiny_checkpoint(request.param))


@pytest.fixture(scope="module")
def expected(model):
    return load_golden(f"{model.name}/forward")


@pytest.fixture(scope="module")
def inputs():
    return load_golden("inputs")


def half_model(model: SA3Model, dtype: torch.dtype) -> SA3Model:
    return load_model(tiny_checkpoint(model.name), dtype=dtype)


def prompt() -> TextConditioning:
    tokens = load_golden("t5gemma")["tokens.0"][None]
    return TextConditioning(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))


def explicit_context(model: SA3Model, duration: Tensor) -> Tensor:
    """All 257 tokens as the reference has them: text, padding embedding, duration."""
    tokens = prompt().tokens
    padding = model.conditioner.conditioners["prompt"].padding_embedding
    filler = padding.expand(1, 256 - tokens.shape[1], -1)
    return torch.cat([tokens, filler, duration[:, None]], dim=1)


def constants(
    model: SA3Model,
    inputs,
    dtype: torch.dtype = torch.float32,
    mask: Tensor | None = None,
    frames: int = 98,
) -> DiTConstants:
    duration = inputs["seconds.0"][None]
    return model.dit.prepare(
        context=explicit_context(model, duration).to(dtype),
        context_bias=None,
        global_cond=duration,
        local_cond=inputs["forward.local"][..., :frames],
        padding_mask=mask,
        frames=frames,
    )


def prepare(
    model: SA3Model,
    context: Context,
    duration: Tensor,
    dtype: torch.dtype = torch.float32,
    local: Tensor | None = None,
) -> DiTConstants:
    return model.dit.prepare(context.tokens.to(dtype), context.bias, duration, local, None, 98)


def constants_without_local(
    model: SA3Model, inputs, dtype: torch.dtype = torch.float32
) -> DiTConstants:
    duration = inputs["seconds.0"][None]
    context = explicit_context(model, duration).to(dtype)
    return model.dit.prepare(context, None, duration, None, None, 98)


def velocity(model: SA3Model, inputs, prepared: DiTConstants) -> Tensor:
    return model.dit.velocity(inputs["forward.x"], inputs["forward.t"], prepared)


def test_forward_equals_the_reference(model, expected, inputs):
    assert rel_l2(velocity(model, inputs, constants(model, inputs)), expected["out"]) <= 1e-5


def test_a_padding_mask_gives_what_the_valid_frames_alone_give(model, expected, inputs):
    mask = torch.arange(98)[None] < VALID
    out = velocity(model, inputs, constants(model, inputs, mask=mask))[..., :VALID]
    assert rel_l2(out, expected["out_true"]) <= 1e-5
    unmasked = velocity(model, inputs, constants(model, inputs))[..., :VALID]
    assert rel_l2(unmasked, expected["out_true"]) > 0.05
    alone = model.dit.velocity(
        inputs["forward.x"][..., :VALID],
        inputs["forward.t"],
        constants(model, inputs, frames=VALID),
    )
    assert rel_l2(alone, expected["out_true"]) <= 1e-5


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 0.004), (torch.bfloat16, 0.025)])
def test_half_precision_stays_close_because_t_stays_float32(model, expected, inputs, dtype, limit):
    half = half_model(model, dtype)
    prepared = constants(half, inputs, dtype)
    assert rel_l2(velocity(half, inputs, prepared), expected["out"]) <= limit
    rounded = inputs["forward.t"].to(dtype).float()
    out = half.dit.velocity(inputs["forward.x"], rounded, prepared)
    assert rel_l2(out, expected["out"]) > 4 * limit, "rounding t first would have shown"


def test_velocity_comes_in_the_dtype_of_x(model, inputs):
    half = half_model(model, torch.bfloat16)
    prepared = constants(half, inputs, torch.bfloat16)
    assert velocity(half, inputs, prepared).dtype == torch.float32
    out = half.dit.velocity(inputs["forward.x"].bfloat16(), inputs["forward.t"], prepared)
    assert out.dtype == torch.bfloat16


def test_one_weighted_padding_token_equals_all_of_them(model, inputs):
    duration = inputs["seconds.0"][None]
    collapsed = model.conditioner.context(prompt(), duration)
    assert collapsed.tokens.shape[1] == 12  # 10 text tokens, one for all padding, the duration
    out = velocity(model, inputs, prepare(model, collapsed, duration))
    assert rel_l2(out, velocity(model, inputs, constants_without_local(model, inputs))) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_weighted_token_is_as_exact_as_all_of_them_in_half_precision(model, inputs, dtype):
    exact = velocity(model, inputs, constants_without_local(model, inputs))
    half, duration = half_model(model, dtype), inputs["seconds.0"][None]
    collapsed = half.conditioner.context(prompt(), duration)
    one = velocity(half, inputs, prepare(half, collapsed, duration, dtype))
    many = velocity(half, inputs, constants_without_local(half, inputs, dtype))
    assert rel_l2(one, exact) <= 1.2 * rel_l2(many, exact)


def test_one_zero_token_equals_257_of_them(model, inputs):
    duration = inputs["seconds.0"][None]
    out = velocity(model, inputs, prepare(model, null_context(1), duration))
    many = Context(torch.zeros(1, 257, 768), torch.zeros(1, 257))
    assert rel_l2(out, velocity(model, inputs, prepare(model, many, duration))) <= 2e-6


def test_absent_tokens_change_nothing(model, inputs):
    duration = inputs["seconds.0"][None]
    context = model.conditioner.context(prompt(), duration)
    joined = join_contexts([null_context(1), context])
    assert joined.tokens.shape == (2, 12, 768)
    both = model.dit.velocity(
        inputs["forward.x"].repeat(2, 1, 1),
        inputs["forward.t"].repeat(2),
        prepare(model, joined, duration.repeat(2, 1)),
    )
    for item, single in enumerate((null_context(1), context)):
        alone = velocity(model, inputs, prepare(model, single, duration))
        assert rel_l2(both[item : item + 1], alone) <= 2e-6


def test_no_local_condition_equals_zeros_through_the_biases(model, inputs):
    duration = inputs["seconds.0"][None]
    context = model.conditioner.context(prompt(), duration)
    none = velocity(model, inputs, prepare(model, context, duration))
    zeros = prepare(model, context, duration, local=torch.zeros(1, 257, 98))
    assert rel_l2(none, velocity(model, inputs, zeros)) <= 1e-6
    masked = prepare(model, context, duration, local=inputs["forward.local"])
    assert rel_l2(velocity(model, inputs, masked), none) > 0.05


def test_every_input_matters(model, inputs):
    duration = inputs["seconds.0"][None]
    base = velocity(model, inputs, constants(model, inputs))
    other = inputs["seconds.1"][None]
    context = model.conditioner.context(prompt(), other)
    longer = prepare(model, context, other, local=inputs["forward.local"])
    assert rel_l2(velocity(model, inputs, longer), base) > 1e-3
    wordless = prepare(model, null_context(1), duration, local=inputs["forward.local"])
    assert rel_l2(velocity(model, inputs, wordless), base) > 1e-3


def test_attention_is_differential_in_medium_only(model):
    assert model.dit.config.differential == (model.name == "tiny-m")
    rows = model.dit.transformer.layers[0].self_attn.to_qkv.weight.shape[0]
    assert rows == (5 if model.name == "tiny-m" else 3) * 128


def test_a_differential_layer_whose_halves_are_equal_gives_nothing(inputs):
    model = load_model(tiny_checkpoint("tiny-m"))
    layer = model.dit.transformer.layers[0].self_attn
    q, k, v, _, _ = layer.to_qkv.weight.chunk(5)
    layer.to_qkv.weight = torch.nn.Parameter(torch.cat([q, k, v, q, k]), requires_grad=False)
    x = torch.randn(1, 162, 128, generator=torch.Generator().manual_seed(0))
    prepared = constants(model, inputs)
    assert layer(x, prepared).abs().max() <= 1e-5


def test_velocity_leaves_its_inputs_and_constants_alone(model, inputs):
    prepared = constants(model, inputs)
    x, t = inputs["forward.x"].clone(), inputs["forward.t"].clone()
    first = model.dit.velocity(x, t, prepared)
    assert torch.equal(x, inputs["forward.x"])
    assert torch.equal(model.dit.velocity(x, t, prepared), first)


def test_meta_net_has_the_published_keys(model):
    net = DiffusionTransformer(model.dit.config, device=torch.device("meta"))
    keys = set(net.state_dict())
    assert len(keys) == 18 + 3 * 21
    assert {"transformer.rotary_pos_emb.inv_freq", "to_timestep_embed.2.bias"} <= keys
    assert "transformer.layers.2.to_local_embed.2.bias" in keys


def test_fourier_arguments_are_rounded_in_the_references_order():
    value = torch.tensor([0.37], dtype=torch.float32)
    arguments = ((value * _frequencies(128, value.device)) * 2) * torch.pi
    features = expo_fourier(value, 256)
    assert rel_l2(features[0, :128], arguments.cos()) <= 1e-6
    assert rel_l2(features[0, 128:], arguments.sin()) <= 1e-6


@pytest.mark.parametrize(("frames", "batch", "spare"), [(97, 1, 1), (98, 1, 0), (97, 2, 0)])
@pytest.mark.parametrize("masked", [False, True])
def test_an_odd_number_of_rows_gets_one_that_changes_nothing(model, frames, batch, spare, masked):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 256, frames, generator=generator)
    source = torch.randn(batch, 257, frames, generator=generator)
    context = torch.randn(batch, 12, 768, generator=generator)
    mask = torch.arange(frames)[None] < VALID if masked else None
    prepared = model.dit.prepare(
        context, None, context[:, 0], local_cond=source, padding_mask=mask, frames=frames
    )
    total = 64 + frames
    assert prepared.spare == spare
    assert len(prepared.rotary[0]) == total + spare
    table = prepared.rotary[0][:total], prepared.rotary[1][:total]
    plain = replace(prepared, spare=0, rotary=table)
    t = torch.full((batch,), 0.4)
    shown = VALID if masked else frames
    a, b = (model.dit.velocity(x, t, c)[..., :shown] for c in (prepared, plain))
    assert a.shape == (batch, 256, shown)
    assert rel_l2(a, b) < 2e-6


def test_fourier_frequencies_are_the_references_bits_on_every_machine():
    """Sums of the bit patterns: one float32 rounding of one frequency moves latents by 1e-4."""
    frequencies = _frequencies(128, torch.device("cpu"))
    bits = frequencies.view(torch.int32).long()
    assert (int(bits.sum()), int((bits * torch.arange(1, 129)).sum())) == (
        142901195511,
        9382045260524,
    )
    exact = torch.linspace(math.log(0.5), math.log(1e4), 128, dtype=torch.float64).exp()
    assert rel_l2(frequencies, exact) < 1e-6
    assert rel_l2(_frequencies(64, torch.device("cpu"))[[0, -1]], exact[[0, -1]]) < 1e-7
