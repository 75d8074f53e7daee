"""Extend Audio: continuing a source past the model's maximum, window by window."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

from ....sa3_core.audio.waveform import fit_length
from ....sa3_core.checks import broadcast, later_seed
from ....sa3_core.editing.continuation import ContinuationPlan
from ....sa3_core.editing.windows import WINDOW_SEED, Extension, extend_source
from ....sa3_core.geometry import HOP, samples_of, target_frames
from ....sa3_core.networks.model import max_seconds
from ....sa3_core.sampling.noise import Seeds
from ....sa3_core.sampling.settings import SampleSettings
from ....sa3_core.sampling.start import StartLatent
from ....sa3_core.text.conditioning import TextConditioning
from ..host.progress import Whole
from ..host.running import check_interrupted
from ..sockets.model import SA3BaseModel, require_sa3
from ..sockets.vae import SA3VAE, require_same
from ..sockets.values import Audio, audio_value, text_conditioning
from .coding import item_sources
from .model_options import honour_options
from .sampling import run

NODE = "Extend Audio"
_DOING = {"encode": "encoding", "sample": "sampling", "decode": "decoding"}
_SHARES = {"encode": (0.0, 0.1), "sample": (0.1, 0.7), "decode": (0.8, 0.2)}  # of a window's time

OnPart = Callable[[str, int, int], None]  # part, done, total


@dataclass(frozen=True)
class Nets:
    """What makes a window.

    Attributes:
        patcher: MODEL.
        vae: ours.
        settings: resolved.
        positive: one prompt.
        negative: one prompt or None.
    """

    patcher: Any
    vae: SA3VAE
    settings: SampleSettings
    positive: TextConditioning
    negative: TextConditioning | None

    @property
    def model(self) -> SA3BaseModel:
        """Behind the MODEL."""
        return self.patcher.model

    def make(self, plan: ContinuationPlan, rule: str, seed: int, on_part: OnPart) -> Tensor:
        """Encode, sample and decode one window: [1, 2, n] at 44.1 kHz."""
        info = self.model.info
        frames = target_frames(plan.seconds, info.sample_size)
        fitted = fit_length(plan.audio, frames * HOP)
        encoded = self.vae.encode_audio(fitted, on_chunk=lambda i, n: on_part("encode", i, n))
        start = StartLatent(encoded.float(), (plan.seconds,), plan.keep(frames, rule))
        made = run(
            self.patcher,
            start,
            self.settings,
            self.positive,
            self.negative,
            Seeds(seed),
            lambda i, n, _: on_part("sample", i + 1, n),
        )
        audio = self.vae.decode_latent(
            made, on_chunk=lambda i, n: on_part("decode", i, n), seconds=(plan.seconds,)
        )
        return audio[..., : samples_of(plan.seconds)]


def extend(
    patcher: Any,
    vae: Any,
    audio: Any,
    texts: tuple[list[Any], list[Any] | None],
    extension: Extension,
    settings: SampleSettings,
    seed: int,
) -> tuple[Audio, list[str]]:
    """Continue every item of an AUDIO over as many windows as it takes.

    Args:
        patcher: our MODEL.
        vae: our VAE.
        audio: the source.
        texts: positive and negative CONDITIONING, one prompt or one per item.
        extension: how far and how.
        settings: how to sample; autos are resolved here.
        seed: item i takes `seed + i`; every further window adds WINDOW_SEED.

    Returns:
        The AUDIO at the source's rate and channels, the source's own samples untouched, and
        sentences for the node.

    Raises:
        InputError: lengths that leave nothing to make, or counts that do not fit.
        RegionError: a source shorter than a latent frame.
    """
    model = require_sa3(patcher, NODE)
    same = require_same(vae, NODE)
    info = model.info
    settings, options = honour_options(patcher, settings.resolve(info.objective))
    positive = text_conditioning(texts[0], "positive")
    negative = None if texts[1] is None else text_conditioning(texts[1], "negative")
    given = item_sources(audio, NODE)
    sources = given.items
    rate, batch = sources[0].sample_rate, max(len(sources), positive.batch)
    rows = broadcast(len(sources), batch, "sources")
    prompts = broadcast(positive.batch, batch, "prompts")
    against = broadcast(negative.batch if negative else 1, batch, "negative prompts")
    limit = max_seconds(info.sample_size)
    waveforms = [sources[row].waveform for row in rows]
    plans = [extension.windows(x.shape[-1] / rate, limit, rate) for x in waveforms]
    report = _reporter(sum(len(windows) for windows in plans))
    results = []
    for item, (waveform, windows) in enumerate(zip(waveforms, plans, strict=True)):
        chosen = None if negative is None else negative.select([against[item]])
        nets = Nets(patcher, same, settings, positive.select([prompts[item]]), chosen)

        def make(
            plan: ContinuationPlan, number: int, nets: Nets = nets, item: int = item
        ) -> Tensor:
            own = later_seed(seed, item + number * WINDOW_SEED)
            return nets.make(plan, extension.rule, own, report())

        results.append(extend_source(waveform, rate, windows, extension, make))
    longest = max(result.shape[-1] for result in results)
    padded = [F.pad(result, (0, longest - result.shape[-1])) for result in results]
    value = audio_value(torch.cat(padded), rate, [result.shape[-1] for result in results])
    notes = [*given.notes, *options, *(extension.describe(windows) for windows in plans)]
    return value, notes


def _reporter(windows: int) -> Callable[[], OnPart]:
    """One progress bar over all windows; each call starts the next one."""
    scale, started = 1000, -1
    bar = comfy.utils.ProgressBar(windows * scale)
    whole = Whole()

    def begin() -> OnPart:
        nonlocal started
        started += 1
        base = started * scale

        def report(part: str, done: int, total: int) -> None:
            check_interrupted()
            offset, share = _SHARES[part]
            fraction = offset + share * done / max(total, 1)
            bar.update_absolute(base + round(scale * fraction), windows * scale)
            place = f"window {base // scale + 1} of {windows}, {_DOING[part]}"
            whole.update(place, (base / scale + fraction) / windows)

        return report

    return begin
