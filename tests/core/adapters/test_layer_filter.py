"""The layer filter: parts of names, number ranges, exclusions, unreadable texts."""

from __future__ import annotations

import pytest

from sa3_core.adapters.layer_filter import LayerFilter
from sa3_core.errors import InputError

KEYS = [
    *(
        f"model.model.transformer.layers.{i}.{part}.weight"
        for i in range(24)
        for part in ("self_attn.to_qkv", "self_attn.to_out", "cross_attn.to_out", "ff.ff.0.proj")
    ),
    "model.model.to_cond_embed.0.weight",
    "conditioner.conditioners.seconds_total.embedder.embedding.1.weight",
]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 98),
        ("  \n, ", 98),
        ("self_attn", 48),
        ("SELF_attn", 48),
        ("self_attn, ff", 72),
        ("self_attn\nff", 72),
        ("layers[0-5]", 24),
        ("layers.[0-5]", 24),
        ("layers.[0-5].", 24),
        ("layers[ 0 - 5 ]", 24),
        ("layers[3]", 4),
        ("layers[1-2]", 8),  # neither 10-19 nor 20-23
        ("layers.1", 44),  # a plain part of the name: 1 and 10-19
        ("layers.1.", 4),
        ("layers[20-99]", 16),
        ("layers[0-5].self_attn", 12),
        ("layers[0-1].ff.ff[0-1]", 2),
        ("-layers[0-5]", 74),
        ("!layers[0-5]", 74),
        ("- layers[0-5], -conditioner", 73),
        ("self_attn, -to_out", 24),
        ("-to_out, self_attn", 24),
        ("layers[0-11], -layers[6-99]", 24),
        ("nothing", 0),
    ],
)
def test_how_many_layers_stay_active(text, count):
    layers = LayerFilter(text)
    assert layers.count(KEYS) == count
    assert layers.text == text
    assert sum(layers.matches(key) for key in KEYS) == count


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layers[5-0]", r"write \[0-5\]"),
        ("layers[0-", "unreadable"),
        ("layers]", "unreadable"),
        ("layers[a-b]", "unreadable"),
        ("layers[0-5", "unreadable"),
        ("layers[]", "unreadable"),
        ("self_attn, -", "names no layer"),
        ("!", "names no layer"),
    ],
)
def test_unreadable_texts_are_refused_at_once(text, said):
    with pytest.raises(InputError, match=said):
        LayerFilter(text)


def test_equal_texts_are_equal_filters():
    assert LayerFilter("a") == LayerFilter("a") != LayerFilter("b")
    assert len({LayerFilter("a"), LayerFilter("a")}) == 1


def test_its_terms_are_told_as_written():
    layers = LayerFilter("self_attn, layers[0-5]\n!To_Out, - ff")
    assert layers.include == ("self_attn", "layers[0-5]")
    assert layers.exclude == ("To_Out", "ff")
    assert LayerFilter().include == LayerFilter().exclude == ()
