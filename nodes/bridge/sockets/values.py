"""ComfyUI's values (LATENT, CONDITIONING, AUDIO) to and from the core's."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ....sa3_core.audio.waveform import as_batch, check_rate
from ....sa3_core.checks import check_sound
from ....sa3_core.editing.source_rider import SourceRider
from ....sa3_core.errors import AudioError, InputError
from ....sa3_core.geometry import (
    HEADROOM_SECONDS,
    LATENT_CHANNELS,
    SAMPLE_RATE,
    seconds_of_frames,
)
from ....sa3_core.sampling.start import StartLatent
from ....sa3_core.text.conditioning import TEXT_TOKENS, TextConditioning

log = logging.getLogger(__name__)

SOURCE_KEY = "sa3_source"  # a SourceRider, or a dict of its names where another node copied it
LENGTH_KEY = "length_from"  # the widget that the durations were set with, and its unit in seconds

SILENT_KEY = "sa3_silent_ends"  # on an AUDIO of ours: its items end in silence

WHOSE_FAULT = "The node before it is at fault: report it to its authors."

Latent = dict[str, Any]
Audio = dict[str, Any]


def audio_value(
    waveform: Tensor, sample_rate: int = SAMPLE_RATE, lengths: Sequence[int] | None = None
) -> Audio:
    """An AUDIO: waveform [B, A, N] float32 on the CPU, silent past each item's own length."""
    value: Audio = {"waveform": waveform.float().cpu(), "sample_rate": sample_rate}
    return value if lengths is None else {**value, "lengths": list(lengths), SILENT_KEY: True}


def audio_samples(audio: Any, node: str) -> tuple[Tensor, int]:
    """The AUDIO's waveform [B, A, N] as float32 and its sample rate in Hz.

    Raises:
        AudioError: no AUDIO at all (a video without sound gives None), or none that can be used.
    """
    if audio is None:
        raise AudioError(
            f"{node} got no audio: the file has no audio track, or the node before gave none. "
            "Choose a source with sound."
        )
    if not isinstance(audio, Mapping) or not {"waveform", "sample_rate"} <= set(audio):
        raise AudioError(
            f"{node} got {_described(audio)} as AUDIO; it must hold waveform and sample_rate. "
            f"Connect a node whose output is audio. {WHOSE_FAULT}"
        )
    waveform, rate = audio["waveform"], audio["sample_rate"]
    if not isinstance(waveform, Tensor):
        raise AudioError(
            f"{node} got AUDIO whose waveform is {_described(waveform)}; it must be a torch tensor "
            f"[batch, channels, samples]. {WHOSE_FAULT}"
        )
    try:
        return as_batch(waveform), check_rate(rate)
    except AudioError as error:
        raise AudioError(f"{node}: {error}") from error


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(sorted(map(str, value))[:6]) or 'nothing'}"
    return f"a value of type {type(value).__module__}.{type(value).__qualname__}".replace(
        "builtins.", ""
    )


def latent_samples(latent: Latent, node: str) -> Tensor:
    """The LATENT's [B, 256, T] tensor.

    Raises:
        InputError: no LATENT at all, or one of another model family.
    """
    samples = latent.get("samples") if isinstance(latent, Mapping) else None
    if not isinstance(samples, Tensor):
        given = latent if samples is None else samples
        raise InputError(
            f"{node} got {_described(given)} as LATENT; it must hold samples, a torch tensor "
            f"[batch, {LATENT_CHANNELS}, frames]. Use Empty Latent by Duration or SAME Encode. "
            f"{WHOSE_FAULT}"
        )
    if samples.is_nested:
        raise InputError(f"{node} got a nested latent (video with audio); give it an audio latent.")
    if samples.ndim != 3 or samples.shape[1] != LATENT_CHANNELS or 0 in samples.shape:
        raise InputError(
            f"{node} got a latent of shape {tuple(samples.shape)}; Stable Audio 3 works on "
            f"[batch, {LATENT_CHANNELS}, frames]. Use Empty Latent by Duration or SAME Encode."
        )
    return samples


def latent_seconds(latent: Latent) -> tuple[float, ...] | None:
    """One duration per item, or None when the latent carries none.

    RepeatLatentBatch leaves the list as it was: it repeats when the batch is a multiple of it.
    LatentFromBatch names the items that it took in `batch_index`, also out of a repeated batch.

    Raises:
        InputError: the list fits neither way.
    """
    seconds = latent.get("seconds")
    if seconds is None:
        return None
    try:
        values = [float(s) for s in (seconds if isinstance(seconds, (list, tuple)) else [seconds])]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The latent's seconds are {seconds!r}; they must be one number per item. {WHOSE_FAULT}"
        ) from error
    batch = latent["samples"].shape[0]
    if len(values) == batch:
        return tuple(values)
    index = latent.get("batch_index")
    if index is not None and len(index) == batch:
        return tuple(values[i % len(values)] for i in index)
    if len(values) and batch % len(values) == 0:
        return tuple(values * (batch // len(values)))
    raise InputError(
        f"The latent has {batch} items but {len(values)} durations. Set the durations anew with "
        "Empty Latent by Duration or SAME Encode."
    )


def length_input(latent: Latent) -> tuple[str, float]:
    """The widget that a LATENT's duration was set with, and seconds of its unit (of a bar)."""
    name, unit = latent.get(LENGTH_KEY) or ("seconds", 1.0)
    return name, unit


def batch_of(latent: Latent) -> tuple[int, list[int] | None]:
    """Items of a LATENT, and where each lay in the batch that it was taken from, if it was."""
    return latent["samples"].shape[0], latent.get("batch_index")


def rider_of(latent: Latent) -> SourceRider | None:
    """The source that rides on a LATENT."""
    value = latent.get(SOURCE_KEY)
    rider = SourceRider.of(value)
    if rider is not None and rider is not value:  # ours was checked where it came in
        what = "The source that rides on the latent"
        check_sound(rider.waveform, what, "Encode or mask the audio anew.")
    return rider


def durations(latent: Latent) -> tuple[float, ...]:
    """One duration per item; a latent without any is as long as its frames."""
    found = latent_seconds(latent)
    samples = latent["samples"]
    return found or (seconds_of_frames(samples.shape[-1]),) * samples.shape[0]


def keep_of(latent: Latent) -> Tensor | None:
    """The LATENT's noise_mask as the core's keep mask [B, 1, T] (1 = given), or None.

    Raises:
        InputError: the mask does not lie on the latent's frames.
    """
    mask = latent.get("noise_mask")
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise InputError(
            f"The latent's noise_mask is {_described(mask)}; it must be a torch tensor [batch, 1, "
            f"frames]. Use Inpaint Mask. {WHOSE_FAULT}"
        )
    if not bool(torch.isfinite(mask).all()):
        raise InputError(
            f"The latent's noise_mask has NaN or infinite values; it must hold 0 (kept) to 1 (made "
            f"anew). Use Inpaint Mask. {WHOSE_FAULT}"
        )
    frames = latent["samples"].shape[-1]
    if mask.ndim == 2:
        mask = mask[:, None]
    elif mask.ndim == 4 and mask.shape[1:3] == (1, 1):  # SetLatentNoiseMask, of one row
        mask = mask[:, 0]
    if mask.ndim != 3 or mask.shape[-1] != frames:
        raise InputError(
            f"The latent's noise_mask has shape {tuple(latent['noise_mask'].shape)}; it must be "
            f"[batch, 1, {frames}]. Mask a latent last, after it was joined or cut; masks of "
            "images do not lie on time: use Inpaint Mask."
        )
    return 1 - mask[:, :1].float().cpu().round()


def start_latent(latent: Latent) -> StartLatent:
    """What the sampler starts from, of a settled LATENT."""
    samples = latent["samples"]
    index = latent.get("batch_index")
    return StartLatent(
        frames=samples.float().cpu(),
        seconds=latent_seconds(latent),
        keep=keep_of(latent),
        batch_index=tuple(int(i) for i in index) if index is not None else None,
        headroom=latent.get("headroom", HEADROOM_SECONDS),
    )


def text_of(tokens: Tensor, mask: Tensor | None) -> TextConditioning:
    """Tokens [B, n, width] of any text encoder with their mask, if it fits them."""
    if tokens.shape[1] > TEXT_TOKENS:
        raise InputError(
            f"The conditioning has {tokens.shape[1]} tokens; Stable Audio 3 takes {TEXT_TOKENS}. "
            "Shorten the prompt (Text Encode T5Gemma cuts it); concatenated conditionings add up."
        )
    if mask is None or mask.shape != tokens.shape[:2]:
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return TextConditioning(tokens.float(), mask.to(tokens.device, torch.bool))


_UNUSED = {
    "area": "areas",
    "mask": "masks",
    "hooks": "hooks",
    "start_percent": "percent ranges",
    "end_percent": "percent ranges",
    "control": "ControlNet",
    "gligen": "GLIGEN",
}


def text_conditioning(conditioning: list[Any], name: str) -> TextConditioning:
    """The one entry of a CONDITIONING that SA3 Sampler takes.

    Raises:
        InputError: several entries, or options that only stock samplers understand.
    """
    if len(conditioning) != 1:
        raise InputError(
            f"{name} holds {len(conditioning)} conditionings (made by Combine or areas); SA3 "
            "Sampler takes one. Join the prompts as text, or sample with KSampler."
        )
    tokens, options = conditioning[0]
    found = sorted({text for key, text in _UNUSED.items() if key in options})
    if found:
        raise InputError(
            f"{name} uses {', '.join(found)}, which SA3 Sampler does not know. Remove them, or "
            "sample with KSampler."
        )
    return text_of(tokens.cpu(), _to_cpu(options.get("attention_mask")))


def _to_cpu(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.cpu()


def conditioning_value(text: TextConditioning) -> list[Any]:
    """A CONDITIONING: one entry for the whole batch."""
    return [[text.tokens, {"pooled_output": None, "attention_mask": text.mask}]]


def warn_about_duration(conditioning: list[Any], seconds: Sequence[float]) -> str | None:
    """Say when ConditioningStableAudio asks for another duration than the latent carries."""
    wanted = conditioning[0][1].get("seconds_total")
    if wanted is None or all(abs(float(wanted) - s) < 1e-6 for s in seconds):
        return None
    text = (
        f"The conditioning says {float(wanted):g} s, the latent "
        f"{', '.join(f'{s:g}' for s in seconds)} s; SA3 Sampler uses the latent's."
    )
    log.warning(text)
    return text
