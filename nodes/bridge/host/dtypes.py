"""What the diffusion transformer is stored and computed in, for a `precision` of the loader."""

from typing import Any

import comfy.model_management as mm
import torch
from comfy.cli_args import args

from ....sa3_core.checkpoints.reader import Checkpoint
from ....sa3_core.files.published import DTYPES
from ....sa3_core.networks import placement as core

SUPPORTED_DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def transformer_dtypes(
    checkpoint: Checkpoint, precision: str, objective: str, count: int
) -> tuple[Any, Any]:
    """Weight dtype and, where the device cannot compute in it, the dtype to cast to.

    Args:
        checkpoint: opened with `dit`.
        precision: a key of DTYPES, or anything else for what suits device and model.
        objective: of the model.
        count: number of weights.
    """
    device = mm.get_torch_device()
    weight = DTYPES.get(precision) or _automatic(checkpoint, objective, count, device)
    if weight == torch.bfloat16 and mm.is_device_cpu(device) and core.cpu_has_bfloat16():
        return weight, None  # the host would compute in float32 on every CPU
    return weight, mm.unet_manual_cast(weight, device, SUPPORTED_DTYPES)


def _automatic(
    checkpoint: Checkpoint, objective: str, count: int, device: torch.device
) -> torch.dtype:
    """The host's choice; on a CPU, for which it knows float32 only, the core's."""
    chosen = mm.unet_dtype(
        device=device,
        model_params=count,
        supported_dtypes=SUPPORTED_DTYPES,
        weight_dtype=checkpoint.dtypes["dit"],
    )
    asked = args.fp32_unet or args.force_fp32 or chosen != torch.float32
    if asked or not mm.is_device_cpu(device):
        return chosen
    assert checkpoint.config.dit is not None
    return core.dit_dtype(checkpoint.config.dit, objective, checkpoint.dtypes["dit"], device)
