"""What the DiT attends to: text, learned or zero padding, the duration."""

from __future__ import annotations

import math

import pytest
import torch

from sa3_core.checkpoints.load import load_model
from sa3_core.errors import InputError
from sa3_core.networks.conditioning import (
    Conditioner,
    Context,
    join_contexts,
    local_condition,
    null_context,
)
from sa3_core.networks.config import ModelConfig
from sa3_core.text.conditioning import TextConditioning
from sa3_core.text.encoder import load_t5gemma
from tests.helpers.support import rel_l2

PROMPTS = [
    "warm analog synth pad slow attack lush reverb 120 BPM",
    "footsteps on gravel distant thunder",
    "low quality noise distorted",
]


@pytest.fixture(scope="module")
def conditioner(tiny_s) -> Conditioner:
    return load_model(tiny_s).conditioner


@pytest.fixture(scope="module")
def text(tiny_s) -> TextConditioning:
    return load_t5gemma(tiny_s / "t5gemma-b-b-ul2").encode(PROMPTS)


def made_up(batch: int, length: int, valid: int) -> TextConditioning:
    tokens = torch.randn(batch, length, 768, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(length).expand(batch, -1) < valid
    return TextConditioning(tokens * mask[..., None], mask)


def test_durations_equal_the_reference_fractions_included(conditioner, golden):
    inputs = golden("inputs")
    embedded = conditioner.duration(inputs.settings["seconds"])
    assert embedded.dtype == torch.float32
    assert rel_l2(embedded[0], inputs["seconds.0"]) <= 1e-5
    assert rel_l2(embedded[1], inputs["seconds.1"]) <= 1e-5


def test_durations_are_clamped_and_never_truncated(conditioner):
    low, zero, high, limit = conditioner.duration([-5.0, 0.0, 500.0, 384.0])
    assert torch.equal(low, zero)
    assert torch.equal(high, limit)
    whole, fraction = conditioner.duration([3.0, 3.25])
    assert rel_l2(fraction, whole) > 0.01


def test_a_configs_own_duration_range_is_used(conditioner):
    config = ModelConfig(dit=None, same=None, min_seconds=10.0, max_seconds=20.0)
    narrow = Conditioner(config)
    narrow.load_state_dict(conditioner.state_dict())
    assert rel_l2(narrow.duration([15.0]), conditioner.duration([192.0])) <= 1e-6


def test_context_equals_the_reference(conditioner, text, golden):
    """Text, then the padding embedding for the rest of 256 tokens, then the duration."""
    duration = conditioner.duration([1.5, 1.5, 1.5])
    context = conditioner.context(text, duration)
    for item, count in enumerate((10, 5, 4)):
        expected = golden("t5gemma")[f"tokens.{item}"]
        assert rel_l2(context.tokens[item, :count], expected) <= 1e-5
        assert context.bias[item, :count].eq(0).all()
        assert context.bias[item, count:10].eq(-math.inf).all()
        assert not context.tokens[item, count:10].any()
        assert float(context.bias[item, 10].exp()) == pytest.approx(256 - count)
        padding = conditioner.conditioners["prompt"].padding_embedding
        assert torch.equal(context.tokens[item, 10], padding)
        assert torch.equal(context.tokens[item, 11], duration[item])
        assert context.bias[item, 11] == 0


def test_a_negative_prompt_is_padded_with_zeros(conditioner, text):
    duration = conditioner.duration([1.5] * 3)
    positive = conditioner.context(text, duration)
    negative = conditioner.context(text, duration, negative=True)
    assert torch.equal(positive.bias, negative.bias)
    assert not negative.tokens[:, 10].any()
    assert torch.equal(positive.tokens[:, :10], negative.tokens[:, :10])
    assert torch.equal(positive.tokens[:, 11], negative.tokens[:, 11])


def test_an_empty_prompt_is_all_padding(conditioner, tiny_s):
    text = load_t5gemma(tiny_s / "t5gemma-b-b-ul2").encode([""])
    context = conditioner.context(text, conditioner.duration([2.0]))
    total = context.bias.exp().sum()
    assert float(total) == pytest.approx(257)
    assert torch.isfinite(context.tokens).all()


def test_256_tokens_fill_the_context_and_leave_no_padding(conditioner):
    context = conditioner.context(made_up(1, 256, 256), conditioner.duration([1.0]))
    assert context.tokens.shape == (1, 258, 768)
    assert context.bias[0, 256] == -math.inf
    assert float(context.bias.exp().sum()) == pytest.approx(257)


def test_whatever_lies_past_the_mask_is_dropped(conditioner):
    text = made_up(2, 12, 7)
    noisy = TextConditioning(text.tokens + (~text.mask)[..., None] * 3.0, text.mask)
    duration = conditioner.duration([1.0, 2.0])
    clean, dirty = conditioner.context(text, duration), conditioner.context(noisy, duration)
    assert torch.equal(clean.tokens, dirty.tokens)
    assert torch.equal(clean.bias, dirty.bias)


def test_too_many_tokens_are_refused_with_their_number(conditioner):
    with pytest.raises(InputError, match=r"257 tokens, the model takes 256"):
        conditioner.context(made_up(1, 257, 257), conditioner.duration([1.0]))


def test_a_models_own_token_limit_counts(conditioner):
    config = ModelConfig(dit=None, same=None, max_prompt_tokens=64)
    short = Conditioner(config)
    short.load_state_dict(conditioner.state_dict())
    duration = conditioner.duration([1.0])
    assert float(short.context(made_up(1, 9, 9), duration).bias.exp().sum()) == pytest.approx(65)
    with pytest.raises(InputError, match="65 tokens, the model takes 64"):
        short.context(made_up(1, 65, 65), duration)


def test_conditioning_of_another_width_is_refused():
    with pytest.raises(InputError, match="768"):
        TextConditioning(torch.zeros(1, 4, 1024), torch.ones(1, 4, dtype=torch.bool))


def test_null_context_stands_for_257_equal_zero_tokens():
    context = null_context(3)
    assert context.tokens.shape == (3, 1, 768)
    assert not context.tokens.any()
    assert not context.bias.any()


def test_joined_contexts_keep_their_tokens_and_add_only_absent_ones():
    short, long = null_context(1), Context(torch.ones(2, 4, 768), torch.zeros(2, 4))
    joined = join_contexts([short, long])
    assert joined.tokens.shape == (3, 4, 768)
    assert joined.bias[0].tolist() == [0.0, -math.inf, -math.inf, -math.inf]
    assert joined.bias[1:].eq(0).all()


def test_state_dict_has_the_published_keys(conditioner):
    assert sorted(conditioner.state_dict()) == [
        "conditioners.prompt.padding_embedding",
        "conditioners.seconds_total.embedder.embedding.1.bias",
        "conditioners.seconds_total.embedder.embedding.1.weight",
    ]


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_local_condition_is_the_mask_and_the_masked_source(golden, variant):
    file = golden(f"{variant}/sampling")
    for name in ("inpaint", "continuation"):
        local = file[f"{name}.local"]  # the mask, then every 32nd channel of the masked source
        keep = local[:, :1]
        # where the reference kept nothing its source is unknown here; anything must vanish
        source = torch.where(keep > 0, local[:, 1:], torch.full_like(local[:, 1:], 5.0))
        assert torch.equal(local_condition(source, keep), local)


def test_local_condition_shares_one_mask_and_takes_the_latent_dtype():
    latent = torch.randn(3, 256, 10, dtype=torch.float16)
    keep = torch.zeros(1, 1, 10)
    keep[..., 4:] = 1
    local = local_condition(latent, keep)
    assert local.shape == (3, 257, 10)
    assert local.dtype == torch.float16
    assert not local[:, :, :4].any()
    assert torch.equal(local[:, 1:, 4:], latent[:, :, 4:])
