"""The faults, each a small change of one function of the program."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import torch


def _wrapped(module: str, path: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]):
    """Put `change(original)` in the place of `path` in a module of the core."""

    def put() -> None:
        owner: Any = importlib.import_module(f"sa3_core.{module}")
        *above, name = path.split(".")
        for part in above:
            owner = getattr(owner, part)
        setattr(owner, name, change(getattr(owner, name)))

    return put


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


FAULTS: dict[str, Callable[[], None]] = {
    "wrong shift": _wrapped("sampling.sample", "schedule_for", _result(_mirrored_shift)),
    "swapped mask": _wrapped("pipeline", "StartLatent", _swapped_mask),
    "ignored duration": _wrapped("networks.conditioning", "Conditioner.duration", _same_duration),
    "ignored prompt": _wrapped("text.encoder", "T5Gemma.encode_ids", _same_prompt),
    "no headroom": _wrapped("pipeline", "target_frames", _no_headroom),
    "off by one frame in decode": _wrapped("pipeline", "decode", _result(_one_frame_late)),
    "wrong LoRA scale": _wrapped(
        "adapters.use", "AdapterUse.strength_for", _result(lambda strength: strength * 0.25)
    ),
    "wrong sigma order": _wrapped(
        "sampling.sample", "schedule_for", _result(lambda sigmas: sigmas.flip(1))
    ),
    "padding mask dropped": _wrapped("sampling.plan", "SamplingPlan.mask", _result(lambda _: None)),
    "wrong cfg sign": _wrapped("sampling.predictor", "guided_velocity", _wrong_sign),
    "seam misplaced": _wrapped("pipeline", "restore_source", _late_seam),
    "channels swapped": _wrapped("pipeline", "decode", _result(_other_sides)),
}
"""Name -> what puts the fault in, in the running program."""
