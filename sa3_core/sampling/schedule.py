"""Noise schedules: where the steps of a sampler lie between noise (t = 1) and data (t = 0).

A shift bends an even grid of t towards the noise levels where a piece takes shape. All shifts
keep 0 and 1 in place. `length` is the number of latent frames of the piece itself, without
headroom (`geometry.effective_frames`), so every item of a batch has its own schedule.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from ..checks import check_length, check_level, check_whole, shortened
from ..errors import ConfigError, InputError
from ..registry import AUTO, Registry

_BISECTIONS = 80  # halvings of [0, 1]: ends at the resolution of float64


class Shift(Protocol):
    """Maps an even grid of noise levels to the one that is sampled."""

    def apply(self, t: Tensor, length: int) -> Tensor:
        """Shift noise levels `t` (any shape, in [0, 1]) for a piece of `length` frames."""
        ...


SHIFTS: Registry[Callable[..., Shift]] = Registry("schedule shift")


@SHIFTS.add("logsnr")
@dataclass(frozen=True)
class LogSNRShift:
    """Steps spaced evenly in log signal-to-noise ratio (the default of every released model).

    Attributes:
        anchor_length: length in frames at which the noise end lies at `anchor_logsnr`.
        anchor_logsnr: log SNR of the noise end at the anchor length.
        rate: how far the noise end drops per doubling of the length.
        logsnr_end: log SNR of the data end.

    Source: arXiv 2605.17991; stable-audio-3:stable_audio_3/inference/distribution_shift.py.
    """

    anchor_length: float = 2000.0
    anchor_logsnr: float = -6.2
    rate: float = 0.0
    logsnr_end: float = 2.0

    def __post_init__(self) -> None:
        _require_positive(anchor_length=self.anchor_length)

    def apply(self, t: Tensor, length: int) -> Tensor:
        """Return sigmoid(-logsnr(t)), with 0 and 1 kept in place."""
        start = self.anchor_logsnr - self.rate * math.log2(length / self.anchor_length)
        shifted = torch.sigmoid(-(self.logsnr_end - t * (self.logsnr_end - start)))
        shifted = torch.where(t <= 0, torch.zeros_like(t), shifted)
        return torch.where(t >= 1, torch.ones_like(t), shifted)


@SHIFTS.add("flux")
@dataclass(frozen=True)
class FluxShift:
    """t' = a t / (1 + (a - 1) t), ln a interpolated linearly in ln(length).

    The default a = 6.93 at every length is the value published for audio with this shift, and
    what the reference's own interface offers.

    Attributes:
        min_length, max_length: lengths in frames between which a grows; clamped outside.
        alpha_min, alpha_max: a at these lengths; 1 leaves the schedule as it is.

    Source: stable-audio-3:stable_audio_3/inference/distribution_shift.py.
    """

    min_length: float = 256.0
    max_length: float = 4096.0
    alpha_min: float = 6.93
    alpha_max: float = 6.93

    def __post_init__(self) -> None:
        _require_positive(
            min_length=self.min_length,
            max_length=self.max_length,
            alpha_min=self.alpha_min,
            alpha_max=self.alpha_max,
        )

    def apply(self, t: Tensor, length: int) -> Tensor:
        """Return the shifted levels."""
        spread = math.log(self.max_length) - math.log(self.min_length)
        place = math.log(min(max(length, self.min_length), self.max_length))
        part = (place - math.log(self.min_length)) / spread if spread else 0.0
        low, high = math.log(self.alpha_min), math.log(self.alpha_max)
        alpha = math.exp(low + part * (high - low))
        return alpha * t / (1 + (alpha - 1) * t)


@SHIFTS.add("full")
@dataclass(frozen=True)
class FullShift:
    """t' = 1 - e^mu / (e^mu + (1 / (1 - t) - 1)), -mu growing linearly with the length.

    Attributes:
        base_shift, max_shift: -mu at `min_length` and `max_length`; clamped outside.
        min_length, max_length: lengths in frames.
        use_sine: bend the result further by sin(t' pi / 2).

    Source: stable-audio-3:stable_audio_3/inference/distribution_shift.py.
    """

    base_shift: float = 0.5
    max_shift: float = 1.15
    min_length: float = 256.0
    max_length: float = 4096.0
    use_sine: bool = False

    def __post_init__(self) -> None:
        _require_positive(min_length=self.min_length, max_length=self.max_length)

    def apply(self, t: Tensor, length: int) -> Tensor:
        """Return the shifted levels."""
        spread = self.max_length - self.min_length
        place = min(max(length, self.min_length), self.max_length) - self.min_length
        part = place / spread if spread else 0.0
        # Tensors throughout, as published: a scalar divided by a tensor is rounded twice, and one
        # digit of t moves the net's output by 5e-4.
        mu = t.new_tensor(-(self.base_shift + (self.max_shift - self.base_shift) * part))
        scale = t.new_tensor(math.exp(float(mu)))
        shifted = 1 - scale / (scale + (1 / (1 - t) - 1))
        return torch.sin(shifted * (math.pi / 2)) if self.use_sine else shifted


@SHIFTS.add("none", "identity")
@dataclass(frozen=True)
class NoShift:
    """An even grid, as it is."""

    def apply(self, t: Tensor, length: int) -> Tensor:
        """Return `t`; `length` plays no part."""
        return t


def _require_positive(**values: float) -> None:
    """Refuse lengths and factors that have no logarithm."""
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"Schedule shift option {name} is {value!r}; it must be above 0.")


def shift_from_options(options: Mapping[str, object] | None) -> Shift:
    """Build the shift that a model_config's `sampling_distribution_shift_options` asks for.

    Args:
        options: `type` (a name of SHIFTS, "full" when absent, as upstream) and its parameters;
            None means the LogSNR default.

    Raises:
        ConfigError: an unknown type or parameter, or a value of the wrong kind.
    """
    if options is None:
        return LogSNRShift()
    name = options.get("type", "full")
    if not isinstance(name, str) or name not in SHIFTS.names:
        raise ConfigError(
            f"Schedule shift type {name!r} is not implemented; known: {', '.join(SHIFTS.names)}."
        )
    kind = SHIFTS[name]
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, float | bool] = {}
    for key, value in options.items():
        if key == "type":
            continue
        if key not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise ConfigError(
                f"Schedule shift {name!r} has no option {key!r}; its options: {allowed}."
            )
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ConfigError(f"Schedule shift option {key} is {value!r}; it must be a number.")
        values[key] = value
    return kind(**values)


def parse_shift_options(text: str) -> dict[str, float]:
    """Read a shift's parameters as people write them: `rate=0.5, anchor_length=1500`.

    Raises:
        InputError: an entry that is not NAME=NUMBER, or a name given twice.
    """
    options: dict[str, float] = {}
    check_length("shift_options", text)
    for entry in re.split(r"[\s,;]+", re.sub(r"\s*=\s*", "=", text.strip())):
        if not entry:
            continue
        name, _, value = entry.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name or not math.isfinite(number):
            raise InputError(
                f"has {shortened(entry)}; write NAME=NUMBER, e.g. rate=0.5, anchor_length=1500.",
                "shift_options",
            )
        if name in options:
            raise InputError(f"gives {shortened(name)} twice; give it once.", "shift_options")
        options[name] = number
    return options


def chosen_shift(
    name: str, options: Mapping[str, float], config: Mapping[str, object] | None
) -> Shift:
    """The shift of a run.

    Args:
        name: of SHIFTS, or auto: what the model's config says.
        options: parameters that replace the shift's own (the config's, with auto).
        config: the model's `sampling_distribution_shift_options`, or None.

    Raises:
        ConfigError: the model's config asks for a shift that is not there.
        InputError: an option that the shift does not have, or a value that it cannot take.
    """
    base: Mapping[str, object] = {"type": name}
    if name == AUTO:
        base = {"type": "logsnr"} if config is None else config
    shift = shift_from_options(base)
    if not options:
        return shift
    try:
        return shift_from_options({**base, **options})
    except ConfigError as error:
        raise InputError(f"do not fit the shift: {error}", "shift_options") from None


def build_sigmas(
    steps: int,
    shift: Shift,
    lengths: Sequence[int],
    sigma_max: float = 1.0,
    bounded: bool = False,
) -> Tensor:
    """Build the noise levels that a sampler visits, one row per item.

    In the reference's order: an even grid from `sigma_max` to 0, the shift, the first element
    set back. Below `sigma_max` 1 the second element may therefore lie above the first.

    Args:
        steps: number of steps, 1 or more.
        shift: how the grid is bent.
        lengths: effective length of each item in latent frames (B of them).
        sigma_max: noise level to start from, 0 to 1.
        bounded: instead cut the full schedule at `sigma_max`: the same curve, entered where it
            reaches that level, in `steps` strictly falling steps. A level that the curve jumps
            over (LogSNR has nothing between 0 and 0.12) is walked down in even steps.

    Returns:
        [B, steps + 1] float32 on the CPU.

    Raises:
        InputError: steps, sigma_max or a length out of range.

    Source: stable-audio-3:stable_audio_3/inference/sampling.py (build_schedule).
    """
    count = check_whole("steps", steps, 1)
    level = check_level(sigma_max)
    rows: dict[int, Tensor] = {}
    for length in lengths:
        if length < 1:
            raise InputError(f"A piece of {length} latent frames cannot be scheduled; 1 or more.")
        if length not in rows:
            make = _bounded_row if bounded and 0 < level < 1 else _row
            rows[length] = _checked(make, count, shift, length, level)
    return torch.stack([rows[length] for length in lengths])


def _checked(
    make: Callable[[int, Shift, int, float], Tensor],
    steps: int,
    shift: Shift,
    length: int,
    level: float,
) -> Tensor:
    """A row of levels, or InputError where the shift's parameters give none."""
    try:
        full = _row(steps, shift, length, 1.0)
        row = make(steps, shift, length, level)
    except OverflowError:
        full = row = torch.full((1,), math.nan)
    if not all(bool(((levels >= 0) & (levels <= 1)).all()) for levels in (full, row)):
        raise InputError(
            f"{shift} gives no noise levels between 0 and 1 for {length} latent frames. Choose "
            "parameters nearer to the published ones."
        )
    return row


def _row(steps: int, shift: Shift, length: int, level: float) -> Tensor:
    """The reference's schedule of one item, (steps + 1,)."""
    row = shift.apply(torch.linspace(level, 0, steps + 1), length).clone()
    row[0] = level
    return row


def _bounded_row(steps: int, shift: Shift, length: int, level: float) -> Tensor:
    """The part of the full schedule below `level`, (steps + 1,), strictly falling."""
    start = _level_to_grid(shift, length, level)
    grid = torch.linspace(start, 0, steps + 1, dtype=torch.float64)
    row = shift.apply(grid, length).to(torch.float32)
    row[0] = level
    if bool((row[1:] < row[:-1]).all()):
        return row
    return torch.linspace(level, 0, steps + 1)


def _level_to_grid(shift: Shift, length: int, level: float) -> float:
    """Invert a rising shift by bisection: the largest t with shift(t) <= level."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        value = shift.apply(torch.tensor(middle, dtype=torch.float64), length)
        low, high = (middle, high) if float(value) <= level else (low, middle)
    return low
