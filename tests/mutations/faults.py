"""The faults, each a small change of one function of the program."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import torch


@dataclasses.dataclass(frozen=True)
class Fault:
    """What puts a fault into the running program.

    Attributes:
        module: of the core, which calls what is changed.
        path: of a function or class in it, or of a method.
        change: makes the faulty one from the original.
    """

    module: str
    path: str
    change: Callable[[Callable[..., Any]], Callable[..., Any]]

    def place(self) -> tuple[Any, str]:
        """The owner of what is changed, and its name there."""
        owner: Any = importlib.import_module(f"sa3_core.{self.module}")
        *above, name = self.path.split(".")
        for part in above:
            owner = getattr(owner, part)
        return owner, name

    def put(self) -> None:
        """Put it in; nothing takes it out again."""
        owner, name = self.place()
        setattr(owner, name, self.change(getattr(owner, name)))


def _result(change: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Change what a function returns."""
    return lambda original: lambda *args, **more: change(original(*args, **more))


def _swapped_mask(start: Any) -> Any:
    def make(latent: Any, seconds: Any, keep: Any = None, **more: Any) -> Any:
        return start(latent, seconds, None if keep is None else 1 - keep, **more)

    return make


def _same_prompt(encode: Any) -> Any:
    def encode_ids(self: Any, ids: Any) -> Any:
        return encode(self, [ids[0][:1] for _ in ids])

    return encode_ids


def _same_duration(embed: Any) -> Any:
    def duration(self: Any, seconds: Any, device: Any = "cpu") -> Any:
        return embed(self, [6.0] * len(seconds), device)

    return duration


def _no_headroom(target: Any) -> Any:
    return lambda seconds, size, headroom: target(seconds, size, 0.0)


def _one_frame_late(parts: Any) -> Any:
    return tuple(torch.roll(part, 4096, dims=-1) for part in parts)


def _other_sides(parts: Any) -> Any:
    return tuple(part.flip(-2) for part in parts)


def _wrong_sign(guided: Any) -> Any:
    def guided_velocity(x: Any, t: Any, v: Any, other: Any, guidance: Any, mask: Any = None) -> Any:
        opposite = dataclasses.replace(guidance, cfg=2 - guidance.cfg)
        return guided(x, t, v, other, opposite, mask)

    return guided_velocity


def _mirrored_shift(sigmas: Any) -> Any:
    return torch.cat([sigmas[:, :1], (1 - sigmas).flip(1)[:, 1:]], dim=1) * sigmas[:, :1]


def _late_seam(restore: Any) -> Any:
    def restore_source(edit: Any, plan: Any, audio: Any) -> Any:
        restored, rate = restore(edit, plan, audio)
        return (restored, rate) if edit is None else (torch.roll(restored, 2048, -1), rate)

    return restore_source


FAULTS = {
    "wrong shift": Fault("sampling.sample", "schedule_for", _result(_mirrored_shift)),
    "swapped mask": Fault("pieces", "StartLatent", _swapped_mask),
    "ignored duration": Fault("networks.conditioning", "Conditioner.duration", _same_duration),
    "ignored prompt": Fault("text.encoder", "T5Gemma.encode_ids", _same_prompt),
    "no headroom": Fault("pieces", "target_frames", _no_headroom),
    "off by one frame in decode": Fault("pipeline", "decode", _result(_one_frame_late)),
    "wrong LoRA scale": Fault(
        "adapters.use", "AdapterUse.strength_for", _result(lambda strength: strength * 0.25)
    ),
    "wrong sigma order": Fault(
        "sampling.sample", "schedule_for", _result(lambda sigmas: sigmas.flip(1))
    ),
    "padding mask dropped": Fault("sampling.plan", "SamplingPlan.mask", _result(lambda _: None)),
    "wrong cfg sign": Fault("sampling.predictor", "guided_velocity", _wrong_sign),
    "seam misplaced": Fault("pieces", "restore_source", _late_seam),
    "channels swapped": Fault("pipeline", "decode", _result(_other_sides)),
}
"""By name."""
