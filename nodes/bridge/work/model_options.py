"""What other nodes put on our MODEL, seen from SA3 Sampler: honoured, or named as not used."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.model_sampling

from ....sa3_core.registry import AUTO
from ....sa3_core.sampling.settings import SampleSettings
from ..sockets.compiling import COMPILE_OPTIONS
from ..sockets.lora_patch import INTERVAL_KEY
from ..sockets.model import SA3ModelSampling
from ..sockets.stock_run import RUN_KEY

log = logging.getLogger(__name__)

_USED_WRAPPERS = ("torch.compile", INTERVAL_KEY, RUN_KEY)
_SAMPLING = "model_sampling"
# Objects that the host puts into the model itself, where our nets use them.
_IN_THE_MODEL = ("diffusion_model", "conditioner", "manual_cast_dtype")


def honour_options(patcher: Any, settings: SampleSettings) -> tuple[SampleSettings, list[str]]:
    """Take over what can be honoured of a MODEL's options.

    Returns:
        The settings, with the schedule shift of ModelSamplingSD3 and its like where the node's own
        is auto, and sentences for the node about that and about what is not used.
    """
    settings, notes = _with_shift(patcher, settings)
    unused = _unused_options(patcher)
    if unused:
        text = f"SA3 Sampler does not use these model options: {', '.join(unused)}."
        log.warning(text)
        notes.append(text)
    return settings, notes


def _with_shift(patcher: Any, settings: SampleSettings) -> tuple[SampleSettings, list[str]]:
    sampling = patcher.object_patches.get(_SAMPLING)
    alpha = _alpha(sampling)
    if alpha is None:
        return settings, []
    if settings.shift != AUTO or settings.shift_options:
        return settings, [f"The node's own shift counts, not the {alpha:g} of {_name(sampling)}."]
    options = {"alpha_min": alpha, "alpha_max": alpha}
    shifted = replace(settings, shift="flux", shift_options=options)
    return shifted, [f"schedule shift {alpha:g}, of {_name(sampling)}"]


def _alpha(sampling: Any) -> float | None:
    """a of t' = a t / (1 + (a - 1) t), where a flow's schedule is bent like that."""
    host = comfy.model_sampling
    if isinstance(sampling, SA3ModelSampling) or not isinstance(sampling, host.CONST):
        return None
    shift = float(getattr(sampling, "shift", 0.0))
    if _bends_as(sampling, host.ModelSamplingDiscreteFlow):
        return shift if shift > 0 else None
    if _bends_as(sampling, host.ModelSamplingFlux):
        return math.exp(shift)
    return None


def _bends_as(sampling: Any, kind: Any) -> bool:
    own: Callable[..., Any] = type(sampling).sigma
    return isinstance(sampling, kind) and own is kind.sigma


def _name(sampling: Any) -> str:
    """The host's classes behind a node's nameless one."""
    if not isinstance(sampling, comfy.model_sampling.CONST):
        bases = [base.__name__ for base in type(sampling).__bases__ if base is not object]
        return " with ".join(bases) or type(sampling).__name__
    kinds = {
        comfy.model_sampling.ModelSamplingFlux: "ModelSamplingFlux",
        comfy.model_sampling.ModelSamplingDiscreteFlow: "ModelSamplingSD3 or AuraFlow",
    }
    return next(
        (name for kind, name in kinds.items() if isinstance(sampling, kind)),
        type(sampling).__name__,
    )


def _unused_options(patcher: Any) -> list[str]:
    """Names of model options that stock samplers apply and SA3 Sampler does not."""
    names = [
        key
        for key, value in patcher.model_options.items()
        if key not in ("transformer_options", COMPILE_OPTIONS) and value
    ]
    inner = patcher.model_options.get("transformer_options", {})
    names += [key for key, value in inner.items() if key != "wrappers" and value]
    for group in (inner.get("wrappers", {}), patcher.wrappers):
        for kind, wrappers in group.items():
            names += [f"{kind} wrapper {key!r}" for key in wrappers if key not in _USED_WRAPPERS]
    if patcher.hook_patches:
        names.append("hooks")
    return names + _unused_objects(patcher)


def _unused_objects(patcher: Any) -> list[str]:
    names = []
    for key, value in patcher.object_patches.items():
        if key == _SAMPLING:
            if _alpha(value) is None and not isinstance(value, SA3ModelSampling):
                names.append(f"the sampling of {_name(value)}")
            scale = getattr(value, "noise_scale", 1.0)
            if scale != 1.0:
                names.append(f"noise scale {scale:g}")
        elif key.partition(".")[0] not in _IN_THE_MODEL:
            names.append(f"object patch {key!r}")
    return names
