"""The source that rides on a LATENT after editing, and what decoding makes of it.

`LATENT["sa3_source"]` is a plain dict, handed on by reference:

- `waveform` [B or 1, A, N] and `sample_rate`: the source as it came;
- `regions`: None (nothing is marked, nothing is ever pasted), else one list of Region per item in
  the user's unrounded seconds of the source;
- `lengths`: samples of each item's own source; absent = N;
- `spans`: (first, last) sample of the source that the latent covers, per item; absent = all. What
  lies outside is put before and after the piece again;
- `origin`: second of the source at which the latent starts, per item; absent = 0;
- `feather`: seconds of crossfade that replace those of the decoding node; absent or 0 = those;
- `rotate`: samples that Loop rotated each item by, undone in the end; absent = none. Waveform and
  regions are then those of the rotated loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....sa3_core.checks import broadcast
from ....sa3_core.editing.paste import Source, paste_back
from ....sa3_core.editing.regions import Region, new_duration
from ....sa3_core.errors import InputError
from ....sa3_core.geometry import SAMPLE_RATE
from ..sockets.values import Audio, Latent, audio_value, latent_seconds
from .coding import audio_lengths, item_sources
from .region_input import RegionRequest

KEY = "sa3_source"
ABSENT = "Nothing was pasted back: the latent carries no source (use Paste Back)."
STALE = (
    "Nothing was pasted back: the latent was cut or lengthened after it was masked. Mask it last."
)
DONE = "The source's own samples were put back outside the regions."
TURNED = "The loop was turned back."


@dataclass(frozen=True)
class ItemSource:
    """What one item of a batch was made from.

    Attributes:
        waveform: [1, A, n], the item's own source.
        sample_rate: in Hz.
        regions: made anew, in seconds of the source.
        span: first and last sample that the latent covers.
        rotate: samples that it was rotated by.
    """

    waveform: Tensor
    sample_rate: int
    regions: tuple[Region, ...]
    span: tuple[int, int]
    rotate: int


def item_indices(count: int, latent: Latent, what: str) -> list[int]:
    """Which of `count` entries belongs to each item of a latent; rules as for `seconds`.

    Raises:
        InputError: they fit in no way.
    """
    batch = latent["samples"].shape[0]
    if count == batch:
        return list(range(batch))
    index = latent.get("batch_index")
    if index is not None and len(index) == batch and count:
        return [int(i) % count for i in index]
    if count and batch % count == 0:
        return [item % count for item in range(batch)]
    raise InputError(
        f"The latent has {batch} items but carries {count} {what}. Mask the batch anew with "
        "Inpaint Mask, Continue Audio or Loop."
    )


def rider_entries(rider: dict[str, Any], key: str, latent: Latent) -> list[Any] | None:
    """A per-item list of a rider, one entry for each item of the latent, or None."""
    values = rider.get(key)
    if values is None:
        return None
    return [values[i] for i in item_indices(len(values), latent, f"{key} of its source")]


def edited_items(rider: dict[str, Any], latent: Latent) -> list[ItemSource]:
    """A rider taken apart for each item of the latent."""
    waveform, rate = rider["waveform"], int(rider["sample_rate"])
    batch = latent["samples"].shape[0]
    rows = item_indices(waveform.shape[0], latent, "sources")
    lengths = rider_entries(rider, "lengths", latent) or [waveform.shape[-1]] * batch
    spans = rider_entries(rider, "spans", latent) or [(0, length) for length in lengths]
    regions = rider_entries(rider, "regions", latent) or [()] * batch
    rotate = rider_entries(rider, "rotate", latent) or [0] * batch
    return [
        ItemSource(
            waveform[row : row + 1, :, : lengths[b]],
            rate,
            tuple(Region(*region) for region in regions[b]),
            spans[b],
            rotate[b],
        )
        for b, row in enumerate(rows)
    ]


def restore(audio: Audio, latent: Latent, keep: bool, crossfade: float) -> tuple[Audio, list[str]]:
    """Finish decoded audio: put the kept source back, turn a loop back.

    Args:
        audio: decoded from `latent`, at 44.1 kHz.
        latent: says what was marked, and carries the source.
        keep: whether the source is put back at all.
        crossfade: seconds, unless the latent asks for its own.

    Returns:
        The AUDIO, at the source's sample rate and channels where it was put back, and sentences
        for the node.
    """
    rider = latent.get(KEY)
    mask = latent.get("noise_mask")
    if rider is None or rider["regions"] is None:
        return audio, [ABSENT] if keep and mask is not None else []
    if mask is not None and mask.shape[-1] != latent["samples"].shape[-1]:
        return audio, [STALE]
    sources = edited_items(rider, latent)
    turned = [TURNED] if any(source.rotate for source in sources) else []
    seconds = latent_seconds(latent)
    if seconds is not None:
        audio = _trimmed(audio, seconds)
    if not keep:
        return (_turned_back(audio, sources) if turned else audio), turned
    return paste(audio, sources, rider.get("feather") or crossfade), [DONE, *turned]


def paste_source(
    audio: Audio, source: Any, request: RegionRequest, crossfade: float
) -> tuple[Audio, list[str]]:
    """Put a source from a socket back over what was made of it.

    Args:
        audio: decoded, at 44.1 kHz; what lies past the piece (headroom) is cut off.
        source: AUDIO.
        request: what was made anew.
        crossfade: seconds.

    Raises:
        InputError: no source, or counts that do not fit.
        RegionError: regions that cannot be used.
    """
    if source is None:
        raise InputError("Paste Back needs the edited latent, or a source and its regions.")
    _, rider = item_sources(source, "Paste Back")
    rate = rider["sample_rate"]
    lengths = rider.get("lengths") or [rider["waveform"].shape[-1]] * len(rider["waveform"])
    made = audio_lengths(audio)
    rows = broadcast(len(lengths), len(made), "sources")
    own = [lengths[row] / rate for row in rows]
    longest = [max(s, n / SAMPLE_RATE) for s, n in zip(own, made, strict=True)]
    regions = request.resolve(longest)
    broadcast(len(regions), len(made), "lists of regions")
    items = [
        ItemSource(
            rider["waveform"][row : row + 1, :, : lengths[row]],
            rate,
            tuple(regions[item]),
            (0, lengths[row]),
            0,
        )
        for item, row in enumerate(rows)
    ]
    pieces = [new_duration(r, s) for r, s in zip(regions, own, strict=True)]
    return paste(_trimmed(audio, pieces), items, crossfade), [DONE]


def _trimmed(audio: Audio, seconds: Sequence[float]) -> Audio:
    """Audio whose items end where their pieces do: stock decoders leave the headroom on."""
    lengths = [
        min(length, max(1, round(duration * SAMPLE_RATE)))
        for length, duration in zip(audio_lengths(audio), seconds, strict=True)
    ]
    return {**audio, "lengths": lengths}


def paste(audio: Audio, sources: Sequence[ItemSource], crossfade: float) -> Audio:
    """Put each item's source back over what was made of it.

    Args:
        audio: 44.1 kHz; its `lengths` count.
        sources: one per item, or one for all.
        crossfade: seconds.
    """
    waveform, lengths = audio["waveform"], audio_lengths(audio)
    if int(audio["sample_rate"]) != SAMPLE_RATE:
        raise InputError(
            f"The audio to be pasted onto has {audio['sample_rate']} Hz; it must come straight "
            f"from decoding, at {SAMPLE_RATE} Hz."
        )
    if len(sources) not in (1, len(waveform)):
        raise InputError(
            f"{len(sources)} sources for {len(waveform)} results; give 1 or {len(waveform)}."
        )
    results = [
        _paste_item(waveform[b : b + 1, :, :length], sources[b % len(sources)], crossfade)
        for b, length in enumerate(lengths)
    ]
    longest = max(result.shape[-1] for result in results)
    padded = [F.pad(result, (0, longest - result.shape[-1])) for result in results]
    value = audio_value(torch.cat(padded), sources[0].sample_rate)
    return {**value, "lengths": [result.shape[-1] for result in results]}


def _paste_item(made: Tensor, source: ItemSource, crossfade: float) -> Tensor:
    """[1, A', N'] at 44.1 kHz -> [1, A, N] at the source's rate, the rest of the source added."""
    first, last = source.span
    start = first / source.sample_rate
    regions = [Region(region.start - start, region.end - start) for region in source.regions]
    covered = Source(source.waveform[..., first:last], source.sample_rate, [regions])
    pasted, _ = paste_back(made, covered, crossfade)
    head, tail = source.waveform[..., :first], source.waveform[..., last:]
    whole = torch.cat([head, pasted, tail], dim=-1)
    return torch.roll(whole, source.rotate, dims=-1)


def _turned_back(audio: Audio, sources: Sequence[ItemSource]) -> Audio:
    """Undo Loop's rotation on audio at 44.1 kHz."""
    waveform = audio["waveform"].clone()
    for item, length, source in zip(waveform, audio_lengths(audio), sources, strict=True):
        shift = round(source.rotate * SAMPLE_RATE / source.sample_rate)
        item[:, :length] = torch.roll(item[:, :length], shift, dims=-1)
    return {**audio, "waveform": waveform}
