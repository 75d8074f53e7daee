"""From prompts to finished audio in one call, for scripts and the command line.

    pipeline = load_pipeline(Path("models/small-music"))
    result = generate(pipeline, GenerateRequest(prompts=["warm pad"], seconds=[30.0]))
    result.takes[0].audio  # [2, 1323000] at result.takes[0].sample_rate

B batch, A audio channels, N samples, T latent frames.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .audio.waveform import as_source, fit_length
from .checkpoints.library import Library
from .checkpoints.load import load_autoencoder, load_model
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
from .codec.autoencode import OnProgress, decode, encode, encode_items
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
from .networks.model import SA3Model
from .networks.same import SAMEAutoencoder
from .registry import AUTO
from .sampling.noise import Seeds, draw_seed, is_random
from .sampling.predictor import WeightSwitch
from .sampling.sample import sample_latent
from .sampling.settings import SampleSettings, advice
from .sampling.start import LONGER_SOURCE, StartLatent
from .text.conditioning import TextConditioning
from .text.encoder import T5Gemma, load_t5gemma

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Everything that text-to-audio takes.

    Attributes:
        model: DiT and conditioner.
        text: text encoder.
        autoencoder: SAME.
    """

    model: SA3Model
    text: T5Gemma
    autoencoder: SAMEAutoencoder


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


def load_pipeline(
    path: Path,
    text_encoder: Path | None = None,
    autoencoder: Path | None = None,
    objective: str = AUTO,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    storage: str | None = None,
) -> Pipeline:
    """Load a model with its text encoder and its autoencoder.

    Args:
        path: model folder or .safetensors file.
        text_encoder: T5Gemma folder or file; None = the model folder's `t5gemma-b-b-ul2`.
        autoencoder: another SAME or full model; None = the model's own. Both may be looked for
            in a models folder with `Library.text_encoder_for` and `autoencoder_for`.
        objective: `auto`, `rf_denoiser` or `rectified_flow`.
        dtype: of weights and computation; None = on a CPU float32 (the DiT: what `dit_dtype`
            chooses), else the file's. The text encoder computes in bfloat16 when asked to, else
            in float32 (float16 overflows).
        device: where everything goes.
        storage: `int8` or `fp8_e4m3`: the DiT's large matrices lie in 8 bits and are widened at
            use; text encoder and autoencoder stay as they are.

    Raises:
        InputError: a dtype or storage that is none, or that the device does not have.
        CheckpointError, ConfigError: see `open_checkpoint`; also when there is no text encoder or
            no autoencoder.
    """
    device = torch.device(device)
    alone = Library({})  # the model's own, or none
    encoder = text_encoder or alone.text_encoder_for(path)
    same = load_autoencoder(autoencoder or alone.autoencoder_for(path), dtype, device)
    model = load_model(path, objective, dtype, device, storage=storage)
    text_dtype = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    return Pipeline(model, load_t5gemma(encoder, text_dtype, device), same)


@torch.inference_mode()
def generate(
    pipeline: Pipeline,
    request: GenerateRequest,
    chunk: int | None = None,
    noise_seed: int | None = None,
    switch: WeightSwitch | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Generation:
    """Make audio from prompts, and from a source where the request has one.

    Every item equals the same item made alone: a batch changes nothing.

    Args:
        pipeline: loaded nets.
        request: what to make.
        chunk: latent frames per chunk of the autoencoder; None = the whole at once, on CUDA what
            fits into half of the free memory. The result does not depend on it.
        noise_seed: turns the decoder's random terms on; item b draws them from this seed + b.
        switch: adapters (`adapter_switch`), already entered.
        on_progress: told (stage, done, total).

    Raises:
        SA3Error: whatever does not fit; see its children.
    """
    model = pipeline.model
    settings = request.settings.resolve(model.objective)
    plans = _plan(request, model)
    positive, negative = _texts(pipeline, request, settings)
    start = _start(pipeline, plans, request.headroom, chunk, on_progress)
    frames = sample_latent(
        model,
        start,
        settings,
        positive,
        negative,
        request.drawn,
        on_step=lambda step, steps, _: on_progress("sample", step + 1, steps),
        switch=switch,
    )
    latents = Latents(frames, tuple(plan.seconds for plan in plans))
    made = decode(pipeline.autoencoder, latents, chunk, noise_seed, on_progress)
    items = zip(plans, made, request.item_seeds(), strict=True)
    takes = tuple(
        Take(*restore_source(request.edit, plan, audio), seed) for plan, audio, seed in items
    )
    return Generation(takes, latents)


@torch.inference_mode()
def extend(
    pipeline: Pipeline,
    request: GenerateRequest,
    source: tuple[Tensor, int],
    extension: Extension,
    chunk: int | None = None,
    switch: WeightSwitch | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> tuple[Take, ...]:
    """Continue a source past the model's maximum, window by window.

    Args:
        pipeline: loaded nets.
        request: prompts, seeds and settings; no seconds and no edit. Every window after the first
            adds WINDOW_SEED to its item's seed.
        source: waveform [A, N] or [1, A, N] at any sample rate, and that rate.
        extension: how far and how.
        chunk, switch, on_progress: as for `generate`.

    Returns:
        One take per item at the source's rate and channels (stereo where it had more), its own
        samples untouched.

    Raises:
        InputError: lengths that leave nothing to make, or counts that do not fit.
        RegionError: a source that does not fill a latent frame.
    """
    model, batch = pipeline.model, request.batch
    if request.seconds or request.edit is not None:
        raise InputError("An extension lasts its source and what is added; give no seconds.")
    settings = request.settings.resolve(model.objective)
    waveform, rate = as_source(source[0]), source[1]
    if waveform.shape[0] != 1:
        raise InputError(f"{waveform.shape[0]} sources were given; an edit takes one.")
    windows = extension.windows(waveform.shape[-1] / rate, model.max_seconds, rate)
    positive, negative = _texts(pipeline, request, settings)
    prompts = broadcast(positive.batch, batch, "prompts")
    against = broadcast(negative.batch if negative else 1, batch, "negative prompts")
    drawn = request.item_seeds()
    takes = []
    for item in range(batch):

        def make(plan: ContinuationPlan, number: int, item: int = item) -> Tensor:
            where = f"window {number + 1}/{len(windows)}: "
            report = lambda stage, done, total: on_progress(where + stage, done, total)  # noqa: E731
            keep = partial(plan.keep, rule=extension.rule)
            item_plan = ItemPlan(plan.seconds, plan.audio, keep)
            start = _start(pipeline, [item_plan], request.headroom, chunk, report)
            frames = sample_latent(
                model,
                start,
                settings,
                positive.select([prompts[item]]),
                None if negative is None else negative.select([against[item]]),
                Seeds(later_seed(drawn[item], number * WINDOW_SEED)),
                on_step=lambda step, steps, _: report("sample", step + 1, steps),
                switch=switch,
            )
            latents = Latents(frames, (plan.seconds,))
            return decode(pipeline.autoencoder, latents, chunk, None, report)[0][None]

        made = extend_source(waveform, rate, windows, extension, make)
        takes.append(Take(made[0].float(), rate, drawn[item]))
    return tuple(takes)


def _plan(request: GenerateRequest, model: SA3Model) -> list[ItemPlan]:
    """Durations and regions of all items, checked against the model before anything is run."""
    given = [check_seconds(seconds, model.max_seconds) for seconds in request.seconds]
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
        check_seconds(plan.seconds, model.max_seconds, name, hint)
    total = sum(plan.seconds for plan in plans)
    what = f"{len(plans)} item{'' if len(plans) == 1 else 's'}, {total:g} s in all,"
    check_size(what, 8 * total * SAMPLE_RATE, MAX_AUDIO_BYTES)
    return plans


def _texts(
    pipeline: Pipeline, request: GenerateRequest, settings: SampleSettings
) -> tuple[TextConditioning, TextConditioning | None]:
    """Prompts and, where guidance acts, negative prompts; says what does not suit the model."""
    for note in advice(settings, pipeline.model.objective, any(request.negatives)):
        log.warning(note)
    if settings.noise_level == 0:
        log.warning("Noise level 0: the source is only encoded and decoded, nothing is made.")
    positive = _encode_prompts(pipeline, request.prompts, "prompt")
    if not request.negatives or not settings.guidance.active:
        return positive, None
    return positive, _encode_prompts(pipeline, request.negatives, "negative prompt")


def _encode_prompts(pipeline: Pipeline, prompts: Sequence[str], label: str) -> TextConditioning:
    limit = pipeline.model.config.max_prompt_tokens
    tokenized = pipeline.text.tokenize(prompts, limit)
    for number, prompt in enumerate(tokenized, 1):
        if prompt.is_cut:
            log.warning(
                "The %s %s has %d tokens; only the first %d are used.",
                label,
                number if len(tokenized) > 1 else "given",
                prompt.total,
                limit,
            )
    return pipeline.text.encode_once([prompt.ids for prompt in tokenized])


def _start(
    pipeline: Pipeline,
    plans: Sequence[ItemPlan],
    headroom: float,
    chunk: int | None,
    on_progress: OnProgress,
) -> StartLatent:
    """Zeros, or the source encoded for each item at the item's own length."""
    check_number("headroom", headroom, 0.0, MAX_HEADROOM)
    size = pipeline.model.sample_size
    lengths = [target_frames(plan.seconds, size, headroom) for plan in plans]
    total, seconds = max(lengths), tuple(plan.seconds for plan in plans)
    sources = [plan.audio for plan in plans if plan.audio is not None]
    if not sources:
        zeros = torch.zeros(len(plans), LATENT_CHANNELS, total)
        return StartLatent(zeros, seconds, headroom=headroom)

    def encode_one(source: Tensor, frames: int) -> Tensor:
        return encode(pipeline.autoencoder, fit_length(source, frames * HOP), chunk, on_progress)

    shared = all(source is sources[0] for source in sources)
    masks = [plan.keep(total) for plan in plans if plan.keep is not None]
    return StartLatent(
        encode_items(encode_one, sources[:1] if shared else sources, lengths),
        seconds,
        torch.cat(masks) if masks else None,
        headroom=headroom,
    )
