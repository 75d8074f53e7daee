"""TorchCompileModel in SA3 Sampler: its settings, applied to our net at bucketed lengths."""

import logging
from typing import Any

import comfy.model_management as mm
from comfy.patcher_extension import CallbacksMP

from ....sa3_core.networks.compiled import CompiledDiT, compile_dit

log = logging.getLogger(__name__)

COMPILE_OPTIONS = "torch_compile_kwargs"
GRAPHS, GRAPHS_KEY = "cudagraphs", "sa3_cuda_graphs"


def compiled_net(patcher: Any, max_frames: int) -> CompiledDiT | None:
    """The MODEL's net behind the compiler that TorchCompileModel chose, or None.

    Args:
        patcher: our MODEL; what was compiled is kept with it, for all its clones.
        max_frames: the model's longest latent.
    """
    settings = _settings(patcher)
    if settings is None:
        return None
    cache: dict[str, CompiledDiT] = patcher.model.__dict__.setdefault("_sa3_compiled", {})
    key = repr(sorted(settings.items()))
    if key not in cache:
        cache[key] = compile_dit(patcher.model.diffusion_model, max_frames, settings)
    if settings["backend"] == GRAPHS:
        # Graphs hold memory of the card and are useless once the weights have moved.
        patcher.callbacks.get(CallbacksMP.ON_DETACH, {}).pop(GRAPHS_KEY, None)
        drop = lambda *_: cache.pop(key, None)  # noqa: E731
        patcher.add_callback_with_key(CallbacksMP.ON_DETACH, GRAPHS_KEY, drop)
    return cache[key]


def _settings(patcher: Any) -> dict[str, Any] | None:
    settings = patcher.model_options.get(COMPILE_OPTIONS)
    if settings is None:
        return None
    if settings["backend"] == GRAPHS and not mm.is_device_cuda(patcher.load_device):
        log.warning("TorchCompileModel: cudagraphs needs an NVIDIA card; the model runs as it is.")
        return None
    return settings
