"""What our MODEL does around a run of a stock sampler.

It looks at its files, tells the net the durations that ride on the latent, and refuses a result
that is not finite.
"""

import logging
from typing import Any

import comfy.patcher_extension
from torch import Tensor

from ....sa3_core.checks import unsound_items
from ....sa3_core.errors import NotFiniteError
from ....sa3_core.geometry import seconds_of_frames
from ..host.progress import tell_running_node
from ..host.running import check_files
from .lora_patch import SA3Adapter
from .riding import SECONDS_MARK

log = logging.getLogger(__name__)

RUN_KEY = "sa3_run"
RIDING_SECONDS = "sa3_seconds"  # of a condition: durations of the items
LORAS = "sa3_loras"  # a patcher's attachment: AdapterUse of each of our LoRAs


def add_run_wrapper(patcher: Any) -> None:
    """Let every clone of a MODEL do so."""
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    patcher.remove_wrappers_with_key(kind, RUN_KEY)
    patcher.add_wrapper_with_key(kind, RUN_KEY, _run)


def _run(executor: Any, noise: Tensor, latent_image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    guider = executor.class_obj
    check_files(guider.model_patcher)
    seconds = getattr(latent_image, SECONDS_MARK, None)
    conditions = [cond for conds in guider.conds.values() for cond in conds]
    for cond in conditions:
        if "seconds_total" not in cond and seconds is not None:
            cond[RIDING_SECONDS] = seconds
    if seconds is None and not all("seconds_total" in cond for cond in conditions):
        text = (
            f"The model is told {seconds_of_frames(latent_image.shape[-1]):.2f} s, the length of "
            "the whole latent with its headroom: no duration rides on it. Add "
            "ConditioningStableAudio with the duration you want."
        )
        log.warning(text)
        tell_running_node(text)
    out = executor(noise, latent_image, *args, **kwargs)
    refuse_unsound(out, guider.model_patcher)
    return out


def refuse_unsound(out: Tensor, patcher: Any) -> None:
    """Refuse a stock sampler's result [B, C, T] with NaN or infinite values.

    Raises:
        NotFiniteError: naming items, dtype and LoRAs.
    """
    bad = unsound_items(out)
    if bad:
        dtype = str(patcher.model.get_dtype_inference()).removeprefix("torch.")
        raise NotFiniteError(
            f"Sampling gave NaN or infinite values in item{'' if len(bad) == 1 else 's'} "
            f"{', '.join(map(str, bad))} of {len(out)}; it was computed in {dtype}. Lower the "
            "strengths of LoRAs and cfg, or load the model in bf16 or fp32."
            f"{describe_patches(patcher)}"
        )


def describe_patches(patcher: Any) -> str:
    """What changes a MODEL's weights, with strengths, as a sentence; empty where nothing does."""
    names = [
        f"{use.lora} at {use.strength:g}"
        + (
            f" ({use.strength_conditioner:g} on the conditioner)"
            if use.strength_conditioner not in (None, use.strength)
            else ""
        )
        for use in patcher.get_attachment(LORAS) or ()
    ]
    others = {
        float(entry[0])
        for entries in patcher.patches.values()
        for entry in entries
        if not isinstance(entry[1], SA3Adapter)
    }
    if others:
        strengths = ", ".join(f"{strength:g}" for strength in sorted(others))
        names.append(f"patches of other nodes at {strengths}")
    return f" On the model: {', '.join(names)}." if names else ""
