"""Empty latents of ComfyUI's own audio nodes: one counts as ours, the others are named."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ....sa3_core.errors import InputError
from ....sa3_core.geometry import SAMPLE_RATE
from ..sockets.values import Latent
from .coding import empty_latent

_CHANNELS, _HOP = 64, 2048  # of Stable Audio 1, which EmptyLatentAudio is made for
_HOP_KEY = "downscale_ratio_temporal"
_USE = "Use Empty Latent by Duration (or ComfyUI's Empty Latent Audio)."


def taken_latent(latent: Any) -> tuple[Any, list[str]]:
    """Read what ComfyUI's Empty Latent Audio gives as an empty latent of ours.

    Args:
        latent: any LATENT; what is not made by a stock audio node is handed on.

    Returns:
        A LATENT, and sentences for the node.

    Raises:
        InputError: a latent of another audio model.
    """
    samples = latent.get("samples") if isinstance(latent, Mapping) else None
    if not isinstance(samples, Tensor) or samples.is_nested:
        return latent, []
    if samples.ndim == 4 and latent.get("type") == "audio":
        raise _foreign("ACE-Step 1.0" if samples.shape[1:3] == (8, 16) else "another audio model")
    stock = samples.ndim == 3 and samples.shape[1] == _CHANNELS and samples.shape[-1] > 0
    if not stock or "noise_mask" in latent:
        return latent, []
    if latent.get(_HOP_KEY, _HOP) != _HOP:
        raise _foreign("ACE-Step 1.5")
    if bool(samples.any()):
        raise InputError(
            "The latent has 64 channels and holds the sound of another model (Stable Audio 1 or "
            "ACE-Step 1.5). Decode it with that model's VAE and encode the audio with SAME Encode."
        )
    seconds = _seconds(samples.shape[-1])
    return _as_ours(latent, seconds), [
        f"Empty Latent Audio is made for Stable Audio 1; its {seconds:g} s are made as with Empty "
        "Latent by Duration."
    ]


def _as_ours(latent: Mapping[str, Any], seconds: float) -> Latent:
    made = empty_latent([seconds], latent["samples"].shape[0])
    index = latent.get("batch_index")
    return made if index is None else {**made, "batch_index": index}


def _seconds(frames: int) -> float:
    """The duration that was asked for: the node has tenths, and rounds to pairs of frames."""
    length = frames * _HOP / SAMPLE_RATE
    tenths = round(length, 1)
    return tenths if round((tenths * SAMPLE_RATE / _HOP) / 2) * 2 == frames else length


def _foreign(model: str) -> InputError:
    return InputError(f"The latent is one for {model}, not for Stable Audio 3. {_USE}")
