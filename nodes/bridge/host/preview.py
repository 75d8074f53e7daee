"""A live picture of the forming sound: energy of the predicted latent, within a budget of time."""

import time
from collections.abc import Callable
from typing import Any

import torch
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image
from torch import Tensor

from ....sa3_core.audio.pictures import coloured, latent_levels

SHARE = 0.04  # of the sampling time that pictures may take
WIDTH, HEIGHT, GAP = 512, 128, 4  # pixels of an item, and between items
MAX_ITEMS = 4

Preview = tuple[str, Image.Image, int]  # what ComfyUI's progress bar takes: format, image, largest


def previews_wanted() -> bool:
    """Whether the host shows previews (--preview-method, or the setting in the UI)."""
    return args.preview_method != LatentPreviewMethod.NoPreviews


class LivePreview:
    """Draws the predicted data of a step where the budget allows it.

    A picture is left out when its cost, taken to be that of the dearest so far, would bring all of
    them above SHARE of the time that has passed.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start the time that the budget is a share of."""
        self._clock = clock
        self._start = clock()
        self._spent = self._dearest = 0.0
        self.drawn = 0

    def __call__(self, denoised: Tensor) -> Preview | None:
        """The picture of [B, C, V], or None where the budget is used up or nothing can be drawn."""
        denoised[:1, :1, :1].cpu()  # waits for the step itself, which is not ours to pay for
        begin = self._clock()
        if self._spent + self._dearest > SHARE * (begin - self._start):
            return None
        if not torch.isfinite(denoised[:MAX_ITEMS]).all():
            return None  # the sampler says so in the end
        picture = draw(denoised)
        cost = self._clock() - begin
        self._spent += cost
        self._dearest = max(self._dearest, cost)
        self.drawn += 1
        return ("JPEG", picture, max(picture.size))


def draw(denoised: Tensor) -> Image.Image:
    """Items below one another."""
    items = denoised[:MAX_ITEMS]
    image = Image.new("RGB", (WIDTH, len(items) * (HEIGHT + GAP) - GAP))
    for row, item in enumerate(items):
        pixels = coloured(latent_levels(item, HEIGHT, WIDTH).cpu())
        image.paste(Image.fromarray(pixels.numpy()), (0, row * (HEIGHT + GAP)))
    return image


def live_preview(wanted: bool) -> Callable[[Tensor], Any] | None:
    """A drawer of previews, or None where node or host do not want any."""
    return LivePreview() if wanted and previews_wanted() else None
