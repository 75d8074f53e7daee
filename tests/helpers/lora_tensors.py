"""Random tensors of every kind of LoRA file, by the names they have behind a layer's path."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RANK = 4
Tensors = dict[str, Tensor]


class _Draw:
    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 0.2) -> Tensor:
        return scale * torch.randn(*shape, generator=self._generator)


def kinds(shape: tuple[int, ...], seed: int = 0) -> dict[str, Tensors]:
    """Kind -> tensors for a weight [out, in] or [out, in, k]; out and in divide by 8."""
    draw, (out, width, *taps) = _Draw(seed), shape
    inner, tap = math.prod(shape[1:]), math.prod(taps)
    alpha = {"alpha": torch.tensor(3.0)}
    pair = {"lora_up.weight": draw(out, RANK), "lora_down.weight": draw(RANK, inner)}
    rows = {"dora_scale": 1 + draw(out, *[1] * (len(shape) - 1)).abs()}
    columns = {"dora_scale": 1 + draw(1, width, *[1] * len(taps)).abs()}
    loha = {
        "hada_w1_a": draw(out, RANK),
        "hada_w1_b": draw(RANK, inner),
        "hada_w2_a": draw(out, RANK),
        "hada_w2_b": draw(RANK, inner),
    }
    lokr = {"lokr_w1": draw(8, 8), "lokr_w2": draw(out // 8, inner // 8)}
    halves = {
        "lokr_w1_a": draw(8, 3),
        "lokr_w1_b": draw(3, 8),
        "lokr_w2_a": draw(out // 8, 2),
        "lokr_w2_b": draw(2, inner // 8),
    }
    glora = {
        "a1.weight": draw(width, RANK),
        "a2.weight": draw(RANK, width),
        "b1.weight": draw(out, RANK),
        "b2.weight": draw(RANK, inner),
    }
    old = {
        "a1.weight": draw(RANK, inner),
        "a2.weight": draw(inner, RANK),
        "b1.weight": draw(RANK, inner),
        "b2.weight": draw(out, RANK),
    }
    square = {name: draw(out, out) for name in glora}
    boft = {"oft_blocks": draw(3 if out > 16 else 2, out // 8, 8, 8), "alpha": torch.tensor(0.0)}
    found = {
        "lora": pair,
        "lora, alpha": {**pair, **alpha},
        "lora, whole-number alpha": {**pair, "alpha": torch.tensor(2)},
        "lora, dora rows": {**pair, **alpha, **rows},
        "lora, dora columns": {**pair, **columns},
        "loha": {**loha, **alpha},
        "loha, dora": {**loha, **rows},
        "lokr": {**lokr, **alpha},
        "lokr, one factored": {
            "lokr_w1": halves["lokr_w1_a"] @ halves["lokr_w1_b"],
            **{name: tensor for name, tensor in halves.items() if "w2" in name},
            **alpha,
        },
        "lokr, both factored": {**halves, **alpha},
        "lokr, dora": {**lokr, **columns},
        "glora": {**glora, **alpha},
        "glora, dora": {**glora, **rows},
        "glora, old": {**old, **alpha},
        "oft": {"oft_blocks": draw(out // 8, 8, 8)},
        "oft, limited": {"oft_blocks": draw(out // 8, 8, 8), "alpha": torch.tensor(0.5)},
        "boft": boft,
        "boft, limited": {**boft, "alpha": torch.tensor(0.5)},
        "boft, rescaled": {**boft, "rescale": 1 + draw(out, *[1] * (len(shape) - 1))},
        "diff": {"diff": draw(*shape)},
        "w_norm": {"w_norm": draw(*shape)},
        "set_weight": {"set_weight": draw(*shape)},
        "all of them": {**pair, **loha, "diff": draw(*shape), **alpha},
    }
    if out == width:
        found["glora, rank of the side"] = {**square, **alpha}
    if tap > 1:
        found.pop("glora, old")
    return found
