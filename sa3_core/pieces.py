"""What is to be made and what came of it, with whichever nets make it: ours, or a host's.

B batch, A audio channels, N samples, T latent frames.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from .audio.waveform import as_source, fit_length
from .checks import (
    MAX_AUDIO_BYTES,
    broadcast,
    check_entries,
    check_number,
    check_seconds,
    check_seed,
    check_size,
    later_seed,
)
from .codec.autoencode import OnProgress, encode_items
from .codec.latent_file import Latents
from .editing.continuation import ContinuationPlan
from .editing.edits import Edit, ItemPlan, plan_items, region_lists, restore_source
from .editing.windows import WINDOW_SEED, Extension, extend_source
from .errors import InputError
from .geometry import (
    HEADROOM_SECONDS,
    HOP,
    LATENT_CHANNELS,
    MAX_HEADROOM,
    SAMPLE_RATE,
    target_frames,
)
from .networks.model import max_seconds
from .sampling.noise import Seeds, draw_seed, is_random
from .sampling.settings import SampleSettings, advice
from .sampling.start import LONGER_SOURCE, StartLatent
from .text.conditioning import TextConditioning
from .text.tokenizers import TokenizedPrompt

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class GenerateRequest:
    """What to make. Lists hold one entry for all items or one per item.

    Attributes:
        prompts: texts; an empty one is valid.
        negatives: texts to keep away from, used when cfg is not 1; none = an all-zero context.
        seconds: durations; none = the source's own (edits only).
        settings: how to sample.
        seeds: one seed, to which each item's index is added, or one per item; -1 is replaced by one
            that is drawn, and told.
        variation: a second seed to move towards, as `Seeds.towards`, and how far (0-1).
        edit: a source and what to do with it; None = text-to-audio.
        headroom: seconds after each piece that are computed with it and cut off.
    """

    prompts: Sequence[str]
    negatives: Sequence[str] = ()
    seconds: Sequence[float] = ()
    settings: SampleSettings = field(default_factory=SampleSettings)
    seeds: Sequence[int] = (0,)
    edit: Edit | None = None
    variation: tuple[int, float] | None = None
    headroom: float = HEADROOM_SECONDS

    def __post_init__(self) -> None:
        seeds = [draw_seed() if is_random(seed) else seed for seed in self.seeds]
        if seeds != list(self.seeds):
            log.warning("Seeds drawn: %s.", ", ".join(map(str, seeds)))
            object.__setattr__(self, "seeds", seeds)
        for seed in (*self.seeds, *((self.variation or ())[:1])):
            check_seed(seed)

    @property
    def drawn(self) -> Seeds:
        """Which noise to draw."""
        seeds = self.seeds if len(self.seeds) > 1 else self.seeds[0]
        towards, strength = self.variation or (0, 0.0)
        check_number("variation_strength", strength, 0.0, 1.0)
        return Seeds(seeds, towards, strength) if strength else Seeds(seeds)

    def item_seeds(self) -> list[int]:
        """The seed of each item."""
        if len(self.seeds) > 1:
            return list(self.seeds)
        return [later_seed(self.seeds[0], item) for item in range(self.batch)]

    @property
    def batch(self) -> int:
        """B: the longest list.

        Raises:
            InputError: lists that do not fit each other, or no prompt or seed.
        """
        lists = {
            "prompts": len(self.prompts),
            "negative prompts": len(self.negatives) or 1,
            "durations": len(self.seconds) or 1,
            "seeds": len(self.seeds),
            "region lists": region_lists(self.edit),
        }
        batch = max(lists.values())
        check_entries("batch", batch)
        for what, count in lists.items():
            broadcast(count, batch, what)
        return batch


@dataclass(frozen=True, eq=False)
class Take:
    """A finished piece.

    Attributes:
        audio: [A, N] float32 on the CPU, not clipped, cut to its duration.
        sample_rate: 44.1 kHz, or the source's where its samples were put back.
        seed: that its noise was drawn from; None = not known.
    """

    audio: Tensor
    sample_rate: int
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Generation:
    """What `generate` made: one take per item, and the latents they were decoded from."""

    takes: tuple[Take, ...]
    latents: Latents


class Nets(Protocol):
    """What makes pieces: text encoder, model and autoencoder, wherever they lie."""

    @property
    def objective(self) -> str:
        """`rf_denoiser` or `rectified_flow`."""
        ...

    @property
    def sample_size(self) -> int:
        """Longest latent in samples, headroom included."""
        ...

    def resolve(self, settings: SampleSettings) -> SampleSettings:
        """Settings without autos."""
        ...

    def encode_prompts(self, prompts: Sequence[str], label: str) -> TextConditioning:
        """Encode texts; says which is too long, under the label."""
        ...

    def encode(self, audio: Tensor, on_progress: OnProgress) -> Tensor:
        """[1, 2, N] at 44.1 kHz -> [1, 256, N / 4096] float32."""
        ...

    def sample(
        self,
        start: StartLatent,
        settings: SampleSettings,
        texts: tuple[TextConditioning, TextConditioning | None],
        seeds: Seeds,
        on_progress: OnProgress,
    ) -> Tensor:
        """Denoise to [B, 256, T] float32 on the CPU; the texts are prompts and negative prompts."""
        ...

    def decode(self, latents: Latents, on_progress: OnProgress) -> list[Tensor]:
        """B tensors [2, N_b] float32 on the CPU, each cut to its own duration."""
        ...


@torch.inference_mode()
def make_pieces(
    nets: Nets,
    request: GenerateRequest,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Generation:
    """Make audio from prompts, and from a source where the request has one.

    Args:
        nets: loaded.
        request: what to make.
        on_progress: told (stage, done, total).

    Raises:
        SA3Error: whatever does not fit; see its children.
    """
    settings = nets.resolve(request.settings)
    plans = _plan(request, max_seconds(nets.sample_size))
    texts = _texts(nets, request, settings)
    start = _start(nets, plans, request.headroom, on_progress)
    frames = nets.sample(start, settings, texts, request.drawn, on_progress)
    latents = Latents(frames, tuple(plan.seconds for plan in plans))
    made = nets.decode(latents, on_progress)
    items = zip(plans, made, request.item_seeds(), strict=True)
    takes = tuple(
        Take(*restore_source(request.edit, plan, audio), seed) for plan, audio, seed in items
    )
    return Generation(takes, latents)


@torch.inference_mode()
def make_extended(
    nets: Nets,
    request: GenerateRequest,
    source: tuple[Tensor, int],
    extension: Extension,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> tuple[Take, ...]:
    """Continue a source past the model's maximum, window by window.

    Args:
        nets: loaded.
        request: prompts, seeds and settings; no seconds and no edit. Every window after the first
            adds WINDOW_SEED to its item's seed.
        source: waveform [A, N] or [1, A, N] at any sample rate, and that rate.
        extension: how far and how.
        on_progress: told (stage, done, total).

    Returns:
        One take per item at the source's rate and channels (stereo where it had more), its own
        samples untouched.

    Raises:
        InputError: lengths that leave nothing to make, or counts that do not fit.
        RegionError: a source that does not fill a latent frame.
    """
    if request.seconds or request.edit is not None:
        raise InputError("An extension lasts its source and what is added; give no seconds.")
    settings, batch = nets.resolve(request.settings), request.batch
    waveform, rate = as_source(source[0]), source[1]
    if waveform.shape[0] != 1:
        raise InputError(f"{waveform.shape[0]} sources were given; an edit takes one.")
    windows = extension.windows(waveform.shape[-1] / rate, max_seconds(nets.sample_size), rate)
    positive, negative = _texts(nets, request, settings)
    prompts = broadcast(positive.batch, batch, "prompts")
    against = broadcast(negative.batch if negative else 1, batch, "negative prompts")
    drawn = request.item_seeds()
    takes = []
    for item in range(batch):
        chosen = None if negative is None else negative.select([against[item]])
        texts = positive.select([prompts[item]]), chosen

        def make(
            plan: ContinuationPlan,
            number: int,
            texts: tuple[TextConditioning, TextConditioning | None] = texts,
            item: int = item,
        ) -> Tensor:
            where = f"window {number + 1}/{len(windows)}: "
            report = lambda stage, done, total: on_progress(where + stage, done, total)  # noqa: E731
            keep = partial(plan.keep, rule=extension.rule)
            item_plan = ItemPlan(plan.seconds, plan.audio, keep)
            start = _start(nets, [item_plan], request.headroom, report)
            seeds = Seeds(later_seed(drawn[item], number * WINDOW_SEED))
            frames = nets.sample(start, settings, texts, seeds, report)
            return nets.decode(Latents(frames, (plan.seconds,)), report)[0][None]

        made = extend_source(waveform, rate, windows, extension, make)
        takes.append(Take(made[0].float(), rate, drawn[item]))
    return tuple(takes)


def _plan(request: GenerateRequest, longest: float) -> list[ItemPlan]:
    """Durations and regions of all items, checked before anything is run."""
    given = [check_seconds(seconds, longest) for seconds in request.seconds]
    rows = broadcast(len(given) or 1, request.batch, "durations")
    if request.edit is not None:
        plans = plan_items(request.edit, [given[row] if given else None for row in rows])
    elif given:
        plans = [ItemPlan(given[row]) for row in rows]
    else:
        raise InputError("No duration was given; give one in seconds.")
    for plan in plans:
        name = "the piece's length in seconds"
        hint = "" if plan.audio is None else LONGER_SOURCE
        check_seconds(plan.seconds, longest, name, hint)
    total = sum(plan.seconds for plan in plans)
    what = f"{len(plans)} item{'' if len(plans) == 1 else 's'}, {total:g} s in all,"
    check_size(what, 8 * total * SAMPLE_RATE, MAX_AUDIO_BYTES)
    return plans


def _texts(
    nets: Nets, request: GenerateRequest, settings: SampleSettings
) -> tuple[TextConditioning, TextConditioning | None]:
    """Prompts and, where guidance acts, negative prompts; says what does not suit the model."""
    for note in advice(settings, nets.objective, any(request.negatives)):
        log.warning(note)
    if settings.noise_level == 0:
        log.warning("Noise level 0: the source is only encoded and decoded, nothing is made.")
    positive = nets.encode_prompts(request.prompts, "prompt")
    if not request.negatives or not settings.guidance.active:
        return positive, None
    return positive, nets.encode_prompts(request.negatives, "negative prompt")


def warn_of_cut_prompts(prompts: Sequence[TokenizedPrompt], label: str, limit: int) -> None:
    """Say which texts have more tokens than the model reads.

    Args:
        prompts: as they were tokenised.
        label: what they are.
        limit: tokens that are used.
    """
    for number, prompt in enumerate(prompts, 1):
        if prompt.is_cut:
            log.warning(
                "The %s %s has %d tokens; only the first %d are used.",
                label,
                number if len(prompts) > 1 else "given",
                prompt.total,
                limit,
            )


def _start(
    nets: Nets, plans: Sequence[ItemPlan], headroom: float, on_progress: OnProgress
) -> StartLatent:
    """Zeros, or the source encoded for each item at the item's own length."""
    check_number("headroom", headroom, 0.0, MAX_HEADROOM)
    lengths = [target_frames(plan.seconds, nets.sample_size, headroom) for plan in plans]
    total, seconds = max(lengths), tuple(plan.seconds for plan in plans)
    sources = [plan.audio for plan in plans if plan.audio is not None]
    if not sources:
        zeros = torch.zeros(len(plans), LATENT_CHANNELS, total)
        return StartLatent(zeros, seconds, headroom=headroom)

    def encode_one(source: Tensor, frames: int) -> Tensor:
        return nets.encode(fit_length(source, frames * HOP), on_progress)

    shared = all(source is sources[0] for source in sources)
    masks = [plan.keep(total) for plan in plans if plan.keep is not None]
    return StartLatent(
        encode_items(encode_one, sources[:1] if shared else sources, lengths),
        seconds,
        torch.cat(masks) if masks else None,
        headroom=headroom,
    )
