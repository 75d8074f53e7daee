"""Linear layers in whole numbers: int8 weights by channel times activations rounded by token.

Only on devices that multiply 8-bit numbers faster than fractions; what is added up is exact, so all
that is lost is the rounding of each token's activations to 8 bits.
"""

import logging

import torch
from torch import Tensor

from .ops import amx_multiplies_bfloat16

log = logging.getLogger(__name__)

SUMS_AT_ONCE = 1 << 24  # of a card's product, before they are scaled
_MOST = 127.0
_LEAST_SCALE = 1e-30  # of a token of zeros
_ROWS = 256  # whose products stay in the processor's cache until they are scaled
_FEW_ROWS = 17  # below this the rounding costs more than the product saves
_CARD_ROWS = 32  # torch refuses 16 and less on a card; newer ones fill up to 32 themselves
_CARD_MULTIPLE = 16  # of a weight's sizes: bytes that a card's units load at once
# Before Ampere cuBLAS refuses some numbers of rows (ComfyUI's issue 16431).
_LEAST_CAPABILITY = (8, 0)
_SLOW_CAPABILITIES = ((10, 3),)  # Blackwell Ultra has few such units (PyTorch's issue 187094)
_LEAST_CUDA = (12, 4)  # that of CUDA 12.1 made wrong sums of few rows (PyTorch's issue 107671)
_cards: dict[int | None, bool] = {}  # what was found of each, by its index


def cpu_multiplies_integers() -> bool:
    """Whether this CPU has instructions for products of 8-bit numbers (VNNI or AMX)."""
    named = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 and newer
    if "avx512_vnni" in named:
        return any(named.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))
    return getattr(torch.cpu, "_is_vnni_supported", lambda: False)()


IN_INTEGERS = cpu_multiplies_integers()  # constants: compilers trace what asks for them
# From 30 s of audio on AMX takes 1.2 to 1.5 times as long for whole numbers with their rounding as
# for a widened weight in bfloat16, which is also nearer to float32; beside float32's products whole
# numbers are three times as fast.
BFLOAT16_IS_FASTER = amx_multiplies_bfloat16()


def multiplies_integers(x: Tensor) -> bool:
    """Whether x's device multiplies 8-bit numbers, faster than those of x's dtype."""
    if x.is_cpu:
        return IN_INTEGERS and not (BFLOAT16_IS_FASTER and x.dtype == torch.bfloat16)
    return x.is_cuda and card_multiplies_integers(x.device)


def card_multiplies_integers(card: torch.device) -> bool:
    """Whether this card does: one of NVIDIA's with the units, whose sums were seen to be exact.

    Found out once, when nothing is being compiled, as it waits for the card.
    """
    known = _cards.get(card.index)
    if known is None and not torch.compiler.is_compiling():
        known = _cards[card.index] = _has_units(card) and _sums_are_exact(card)
    return bool(known)


def _has_units(card: torch.device) -> bool:
    built_for = torch.version.cuda  # None: for AMD's cards, where such products can end the process
    if built_for is None or tuple(map(int, built_for.split(".")[:2])) < _LEAST_CUDA:
        return False
    capability = torch.cuda.get_device_capability(card)
    return capability >= _LEAST_CAPABILITY and capability not in _SLOW_CAPABILITIES


def _sums_are_exact(card: torch.device) -> bool:
    """Try a product: drivers that stand in for NVIDIA's need not have what they claim."""
    numbers = torch.arange((_CARD_ROWS + 1) * 64).mul(37).remainder(255).sub(127).view(-1, 64)
    rows, weight = numbers.to(torch.int8), numbers[:_CARD_ROWS].flip(1).to(torch.int8)
    try:
        sums = _products(rows.to(card), weight.to(card).t()).cpu()
    except RuntimeError as error:
        log.warning("%s does not multiply int8 (%s); its weights are widened.", card, error)
        return False
    exact = torch.equal(sums.long(), rows.long() @ weight.long().t())
    if not exact:
        log.warning("%s multiplies int8 wrongly; its weights are widened.", card)
    return exact


def integers_pay(x: Tensor, weight: Tensor) -> bool:
    """Whether `integer_linear` can compute this and is faster than widening the weight.

    Args:
        x: [..., in].
        weight: [out, in].
    """
    return (
        weight.dtype == torch.int8
        and multiplies_integers(x)
        and x.numel() >= (_FEW_ROWS if x.is_cpu else _CARD_ROWS) * x.shape[-1]
        and (x.is_cpu or all(size % _CARD_MULTIPLE == 0 for size in weight.shape))
        and not (torch.is_grad_enabled() and x.requires_grad)
    )


def integer_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """x (weight * scale)^T + bias, with each row of x rounded to 8 bits.

    Args:
        x: [..., in].
        weight: int8 [out, in].
        scale: float32 [out, 1], or one for all.
        bias: [out] or None.

    Returns:
        [..., out] in x's dtype.
    """
    rows, by = x.reshape(-1, x.shape[-1]), scale.reshape(1, -1).float()
    shift = None if bias is None else bias.float()
    out = torch.empty(len(rows), len(weight), dtype=x.dtype, device=x.device)
    (_by_blocks if x.is_cpu else _at_once)(out, rows, weight.t(), by, shift)
    return out.view(*x.shape[:-1], len(weight))


def _by_blocks(
    out: Tensor, rows: Tensor, columns: Tensor, by: Tensor, shift: Tensor | None
) -> None:
    """On a CPU: few rows at a time."""
    for into, part in zip(out.split(_ROWS), rows.split(_ROWS), strict=True):
        wide = part.float()
        step = wide.abs().amax(dim=1, keepdim=True).div_(_MOST).clamp_min_(_LEAST_SCALE)
        values = wide.div(step).round_().to(torch.int8)
        product = _products(values, columns).float().mul_(step)
        into.copy_(_scaled(product, by, shift))


def _at_once(out: Tensor, rows: Tensor, columns: Tensor, by: Tensor, shift: Tensor | None) -> None:
    """On a card: the same in fewer kernels, all rows in one product if its sums are not too many.

    Dtypes are converted by the kernels that read them.
    """
    count = -(-out.numel() // SUMS_AT_ONCE)
    for into, part in zip(out.tensor_split(count), rows.tensor_split(count), strict=True):
        largest = torch.linalg.vector_norm(part, torch.inf, 1, True, dtype=torch.float32)
        step = largest.div_(_MOST).clamp_min_(_LEAST_SCALE)
        values = torch.div(part, step).round_()
        # Rows must lie one after the other: of other layouts cuBLAS has no product.
        values = values.to(torch.int8, memory_format=torch.contiguous_format)
        into.copy_(_scaled(torch.mul(_products(values, columns), step), by, shift))


def _products(values: Tensor, columns: Tensor) -> Tensor:
    """int8 [N, in] times [in, out] -> exact int32 [N, out]."""
    return torch._int_mm(values, columns)  # pyright: ignore[reportPrivateImportUsage]


def _scaled(product: Tensor, by: Tensor, shift: Tensor | None) -> Tensor:
    """product * by + shift, in place."""
    if shift is None:
        return product.mul_(by)
    return torch.addcmul(shift, product, by, out=product)
