"""Window attention folded into blocks equals dense attention under a band mask."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from sa3_core.networks.same_layers import WindowTile
from sa3_core.networks.same_resampler import even_spans


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("start", "stop", "total", "reach"),
    [
        (0, 17, 17, 17),
        (0, 100, 100, 17),
        (0, 64, 200, 17),
        (64, 128, 200, 17),
        (64, 199, 200, 17),
        (192, 200, 200, 17),
        (64, 128, 300, 34),
        (10, 42, 60, 34),
    ],
)
def test_a_piece_equals_dense_attention(rel_l2, batch, start, stop, total, reach):
    generator = torch.Generator().manual_seed(stop)
    q, k, v = torch.randn(3, batch, total, 4, 8, generator=generator)
    position = torch.arange(total)
    band = (position[:, None] - position[None]).abs() <= reach
    dense = scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=band
    )
    tile = WindowTile(start, stop, total, reach)
    part = slice(tile.low, tile.high)
    folded = tile.attend(q[:, part], k[:, part], v[:, part])
    assert rel_l2(folded, dense.transpose(1, 2)[:, start:stop]) < 1e-6


def test_spans_are_few_even_and_cover_everything():
    for count in range(1, 60):
        for most in (1, 2, 7, 100):
            spans = even_spans(count, most)
            sizes = [stop - start for start, stop in spans]
            assert [n for start, stop in spans for n in range(start, stop)] == list(range(count))
            assert max(sizes) <= most
            assert len(spans) <= -(-count // most)
            assert sizes[:-1] == [sizes[0]] * (len(sizes) - 1)
