"""What one run computes, decided before anything is: items, lengths, masks and the memory of it.

B batch, C latent channels, T latent frames, V frames that take part (the longest item's piece and
headroom).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..checks import broadcast, check_seconds
from ..errors import InputError
from ..geometry import (
    HEADROOM_SECONDS,
    effective_frames,
    padding_mask,
    seconds_of_frames,
    target_frames,
    valid_frames,
)
from ..networks.compiled import frame_bucket
from ..networks.conditioning import Context, local_condition, null_context
from ..networks.model import SA3Model
from ..networks.placement import dit_memory
from ..text.conditioning import TextConditioning
from .noise import ItemNoise, SeedBlend, Seeds
from .predictor import row_counts
from .samplers import Noise
from .start import LONGER_SOURCE, StartLatent


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """The inputs of one run after broadcasting, with all lengths decided.

    Attributes:
        model: the generator.
        frames: [B, C, T], the start; T is at most the model's longest latent.
        seconds: duration of each item.
        keep: [B, 1, T], 1 = given, or None.
        batch_index: index of each item in the batch it came from.
        prompts: positive and, if one was given, negative, one row per item.
        seeds: which noise to draw, or a source of noise itself.
        headroom: seconds after each piece that take part.
    """

    model: SA3Model
    frames: Tensor
    seconds: tuple[float, ...]
    keep: Tensor | None
    batch_index: tuple[int, ...]
    prompts: tuple[TextConditioning, TextConditioning | None]
    seeds: Seeds | Noise
    headroom: float = HEADROOM_SECONDS

    @classmethod
    def of(
        cls,
        model: SA3Model,
        start: StartLatent,
        positive: TextConditioning,
        negative: TextConditioning | None,
        seeds: Seeds | Noise,
    ) -> "SamplingPlan":
        """Plan a run of `sample_latent` with the same arguments.

        Raises:
            InputError: counts, widths, durations or lengths that do not fit.
        """
        frames, keep = start.checked().frames, start.keep
        given = start.seconds or (seconds_of_frames(frames.shape[-1]),)
        counts = {
            "latents": len(frames),
            "durations": len(given),
            "prompts": positive.batch,
            "negative prompts": negative.batch if negative is not None else 1,
            "masks": len(keep) if keep is not None else 1,
            "seeds": seeds.count if isinstance(seeds, Seeds) else 1,
        }
        batch = max(counts.values())
        rows = {what: broadcast(count, batch, what) for what, count in counts.items()}
        total = min(frames.shape[-1], model.max_frames)
        # A latent without durations may hold all frames, a fraction more than whole seconds.
        limit = model.max_seconds if start.seconds else seconds_of_frames(model.max_frames)
        what = "seconds" if start.seconds else "the latent's length in seconds"
        hint = LONGER_SOURCE if start.has_source else ""
        seconds = [check_seconds(given[i], limit, what, hint) for i in rows["durations"]]
        _check_fits(seconds, total)
        index = start.batch_index or tuple(range(len(frames)))
        if len(frames) == 1:
            index = tuple(index[0] + item for item in range(batch))
        against = None if negative is None else negative.select(rows["negative prompts"])
        return cls(
            model=model,
            frames=frames[rows["latents"]][..., :total],
            seconds=tuple(seconds),
            keep=keep[rows["masks"]][..., :total] if keep is not None else None,
            batch_index=index,
            prompts=(positive.select(rows["prompts"]), against),
            seeds=seeds,
            headroom=start.headroom,
        )

    @property
    def batch(self) -> int:
        """B."""
        return self.frames.shape[0]

    @property
    def total(self) -> int:
        """T."""
        return self.frames.shape[-1]

    @property
    def valid(self) -> tuple[int, ...]:
        """Frames of each item that take part: its piece and headroom."""
        return tuple(valid_frames(s, self.total, self.headroom) for s in self.seconds)

    @property
    def active(self) -> int:
        """V: frames that any item needs; the rest is never computed."""
        return max(self.valid)

    @property
    def inpaints(self) -> bool:
        """Whether any frame is given, so that the net is told of a source."""
        return self.keep is not None and bool((self.keep > 0).any())

    def memory(self, guided: bool) -> float:
        """Bytes that the run needs beside the weights.

        Args:
            guided: whether guidance runs every item twice.
        """
        model = self.model
        rows, shared = row_counts(self.batch, guided)
        frames = self.active
        if model.compiled is not None:
            frames = frame_bucket(frames, model.max_frames)
        local_rows = shared if self.inpaints else 0
        narrow = model.storage is not None
        return dit_memory(
            model.dit.config, rows, frames, model.dtype, model.device, local_rows, narrow
        )

    def valid_mask(self) -> Tensor:
        """Bool [B, T]."""
        return padding_mask(self.valid, self.total)

    def mask(self) -> Tensor | None:
        """Bool [B, V], or None when every item uses all V frames."""
        mask = self.valid_mask()[:, : self.active]
        return None if bool(mask.all()) else mask

    def noise(self) -> Noise:
        """The source of noise, each call a fresh [B, C, T]."""
        seeds = self.seeds
        if not isinstance(seeds, Seeds):
            return seeds
        first = self._drawn(seeds.seed)
        if seeds.towards is None or seeds.strength == 0:
            return first
        return SeedBlend(first, self._drawn(seeds.towards), seeds.strength)

    def _drawn(self, seed: int | Sequence[int]) -> ItemNoise:
        one = seed[0] if isinstance(seed, Sequence) and len(seed) == 1 else seed
        sample_size = self.model.sample_size
        own = [min(target_frames(s, sample_size, self.headroom), self.total) for s in self.seconds]
        return ItemNoise(one, self.batch_index, own, self.total)

    def duration(self) -> Tensor:
        """[B, 768], the durations as the net is told them."""
        return self.model.conditioner.duration(self.seconds, self.model.device)

    def source(self) -> Tensor:
        """[B, C, V] float32, the start's frames that take part."""
        return self.frames[..., : self.active].float()

    def kept(self) -> Tensor | None:
        """[B, 1, V], 1 = given, or None."""
        return None if self.keep is None else self.keep[..., : self.active]

    def local(self) -> Tensor | None:
        """[B, 1 + C, V] mask and masked source, or None when nothing is kept."""
        kept = self.kept()
        if kept is None or not self.inpaints:
            return None
        return local_condition(self.source(), kept.float())

    def contexts(self, guided: bool) -> tuple[Context, Context | None]:
        """Positive context, and the negative one when guidance needs it."""
        conditioner, (positive, negative) = self.model.conditioner, self.prompts
        duration = self.duration()
        context = conditioner.context(positive, duration)
        if not guided:
            return context, None
        if negative is None:
            return context, null_context(self.batch, self.model.device)
        return context, conditioner.context(negative, duration, negative=True)


def _check_fits(seconds: Sequence[float], total: int) -> None:
    """Refuse a duration that the latent is too short for."""
    longest = max(seconds)
    if effective_frames(longest) > total:
        raise InputError(
            f"The latent has {total} frames ({seconds_of_frames(total):.2f} s) but its duration is "
            f"{longest:g} s. Give the latent the duration you want."
        )
