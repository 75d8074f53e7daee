"""Which clips a step sees, and which part of each; given by the seed and the step alone."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..datasets.encoded import EncodedClip
from ..geometry import seconds_of_frames
from .draws import item_seed


@dataclass(frozen=True, eq=False)
class CutClip:
    """A clip at the training length.

    Attributes:
        latents: [256, T] float32.
        valid: frames that are the clip's own.
        seconds: what the model is told: of the part that it is shown.
        prompt: caption.
        name: of the clip, for messages.
    """

    latents: Tensor
    valid: int
    seconds: float
    prompt: str
    name: str


def pick(clips: int, batch: int, seed: int, step: int) -> list[int]:
    """Indices of a step's clips: each once in every round through all of them, reshuffled.

    Args:
        clips: how many there are, 1 or more.
        batch: clips of a step.
        seed: of the run.
        step: from 0.
    """
    chosen = []
    for place in range(step * batch, (step + 1) * batch):
        order = list(range(clips))
        random.Random(item_seed(seed, "round", place // clips)).shuffle(order)
        chosen.append(order[place % clips])
    return chosen


def cut(clip: EncodedClip, frames: int, silence: Tensor | None, seed: int) -> CutClip:
    """A random part of a long clip, a short one filled up with silence.

    Args:
        clip: any length.
        frames: T.
        silence: encoded silence [256, any], repeated where it is too short; None = zeros.
        seed: of the item.
    """
    total = clip.latents.shape[1]
    if total < frames:
        missing = frames - total
        if silence is None:
            fill = clip.latents.new_zeros(clip.latents.shape[0], missing)
        else:
            fill = silence.repeat(1, math.ceil(missing / silence.shape[1]))[:, :missing]
        latents = torch.cat([clip.latents, fill], dim=1)
        return CutClip(latents, clip.valid, clip.seconds, clip.prompt, clip.name)
    # One more than the reference's starts, which never show the last frame.
    start = random.Random(seed).randint(0, max(0, clip.valid - frames))
    latents = clip.latents[:, start : start + frames]
    if clip.valid <= frames:
        return CutClip(latents, clip.valid, clip.seconds, clip.prompt, clip.name)
    rest = clip.seconds - seconds_of_frames(start)
    seconds = min(seconds_of_frames(frames), rest) if rest > 0 else seconds_of_frames(frames)
    return CutClip(latents, frames, seconds, clip.prompt, clip.name)


def prompts_of(clips: Sequence[EncodedClip], orders: int = 1) -> list[str]:
    """Every prompt that is seen once, in order: each is encoded a single time.

    Args:
        clips: with their captions.
        orders: in which the tags of a caption are shown.
    """
    shown = (prompt for clip in clips for prompt in tag_orders(clip.prompt, orders))
    return list(dict.fromkeys(shown))


def tag_orders(prompt: str, orders: int) -> list[str]:
    """A caption's comma-separated tags in several orders, the same ones in every run.

    Args:
        prompt: the caption; itself comes first.
        orders: how many, fewer where the tags do not have so many.
    """
    tags = [tag.strip() for tag in prompt.split(",") if tag.strip()]
    found = [prompt]
    numbers = random.Random(item_seed(0, "tags", prompt))
    for _ in range(4 * orders if len(tags) > 1 else 0):
        if len(found) >= orders:
            break
        numbers.shuffle(tags)
        text = ", ".join(tags)
        if text not in found:
            found.append(text)
    return found
