"""Linear layers in whole numbers: int8 weights by channel times activations rounded by token.

Only on processors that multiply 8-bit numbers faster than fractions; what is added up is exact, so
all that is lost is the rounding of each token's activations to 8 bits.
"""

import torch
from torch import Tensor

from .ops import amx_multiplies_bfloat16

_MOST = 127.0
_LEAST_SCALE = 1e-30  # of a token of zeros
_ROWS = 256  # whose products stay in the processor's cache until they are scaled
_FEW_ROWS = 17  # below this the rounding costs more than the product saves


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


def integers_pay(x: Tensor, weight: Tensor) -> bool:
    """Whether `integer_linear` can compute this and is faster than widening the weight.

    Args:
        x: [..., in].
        weight: [out, in].
    """
    return (
        IN_INTEGERS
        and x.is_cpu
        and weight.dtype == torch.int8
        and not (BFLOAT16_IS_FASTER and x.dtype == torch.bfloat16)
        and x.numel() >= _FEW_ROWS * x.shape[-1]
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
    rows = x.reshape(-1, x.shape[-1])
    out = torch.empty(len(rows), len(weight), dtype=x.dtype)
    columns, by = weight.t(), scale.reshape(1, -1).float()
    shift = None if bias is None else bias.float()
    for into, part in zip(out.split(_ROWS), rows.split(_ROWS), strict=True):
        values, step = _rounded(part)
        sums = torch._int_mm(values, columns)  # pyright: ignore[reportPrivateImportUsage]
        product = sums.float().mul_(step)
        if shift is None:
            torch.mul(product, by, out=product)
        else:
            torch.addcmul(shift, product, by, out=product)
        into.copy_(product)
    return out.view(*x.shape[:-1], len(weight))


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as int8, and the float32 step [N, 1] of each; their product is nearly the rows."""
    wide = rows.float()
    step = wide.abs().amax(dim=1, keepdim=True).div_(_MOST).clamp_min_(_LEAST_SCALE)
    return wide.div(step).round_().to(torch.int8), step
