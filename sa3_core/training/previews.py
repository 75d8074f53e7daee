"""Pieces that a training makes with each checkpoint: the same prompts and noise every time."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..geometry import LATENT_CHANNELS, target_frames
from ..networks.model import SA3Model
from ..sampling.noise import Seeds
from ..sampling.predictor import WeightSwitch
from ..sampling.sample import sample_latent
from ..sampling.settings import SampleSettings
from ..sampling.start import StartLatent
from ..text.conditioning import TextConditioning


def preview_latents(
    model: SA3Model,
    texts: Iterable[TextConditioning],
    seconds: float,
    switch: WeightSwitch | None = None,
) -> Iterator[Tensor]:
    """A latent [1, 256, T] per prompt, headroom included, from the seeds 1, 2, ...

    Args:
        model: with what it has learnt attached.
        texts: encoded prompts.
        seconds: of each piece.
        switch: adapters, entered.
    """
    frames = target_frames(seconds, model.sample_size)
    for number, text in enumerate(texts, start=1):
        start = StartLatent(torch.zeros(1, LATENT_CHANNELS, frames), (seconds,))
        yield sample_latent(
            model, start, SampleSettings(), text, None, Seeds(number), switch=switch
        )
