"""How a latent is to be sampled, with `auto` values resolved from the model's objective."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from ..checks import check_level, check_number, check_one_of, check_whole
from ..networks.config import Objective
from ..registry import AUTO
from .guidance import Guidance, check_guidance
from .samplers import SAMPLERS
from .schedule import SHIFTS, chosen_shift

KEEP_MODES = ("model", "hard")
NOISE_SCHEDULES = ("upstream", "bounded")
MAX_STEPS = 1000


@dataclass(frozen=True)
class ObjectiveDefaults:
    """What the sampler's automatic settings mean for an objective."""

    sampler: str
    steps: int
    cfg: float


OBJECTIVE_DEFAULTS: dict[Objective, ObjectiveDefaults] = {
    "rf_denoiser": ObjectiveDefaults("pingpong", 8, 1.0),
    "rectified_flow": ObjectiveDefaults("euler", 50, 7.0),
}


@dataclass(frozen=True)
class SampleSettings:
    """Settings of one sampling run.

    Attributes:
        steps: 0 = auto (8 for rf_denoiser, 50 for rectified_flow).
        sampler: a name of SAMPLERS, or auto (pingpong / euler).
        shift: a name of SHIFTS, or auto: what the model's config says, else logsnr.
        shift_options: parameters of the shift by name, e.g. {"rate": 0.5}; those not given are as
            published, with auto as in the model's config.
        cfg: guidance scale; 0 = auto (1 / 7). 1 = the negative has no effect.
        apg: 1 = only the orthogonal part of the push (default), 0 = plain guidance.
        noise_level: 1 = from pure noise; below it the start latent shows through.
        noise_schedule: `upstream` may rise above the noise level; `bounded` never does.
        cfg_interval: lowest and highest t at which guidance acts, inclusive.
        norm_threshold: longest push, 0 = unlimited.
        rescale: 0-1, brings the guided velocity's deviation back to the unguided one.
        keep_mode: kept frames only condition the model (`model`), or are also put back at every
            step (`hard`).
    """

    steps: int = 0
    sampler: str = AUTO
    shift: str = AUTO
    cfg: float = 0.0
    apg: float = 1.0
    noise_level: float = 1.0
    noise_schedule: str = "upstream"
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    norm_threshold: float = 0.0
    rescale: float = 0.0
    keep_mode: str = "model"
    shift_options: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 0, MAX_STEPS, " (0 = auto)")
        check_number("cfg", self.cfg, 0.0, note=" (0 = auto)")
        check_level(self.noise_level)
        check_one_of("noise_schedule", self.noise_schedule, NOISE_SCHEDULES)
        check_one_of("keep_mode", self.keep_mode, KEEP_MODES)
        for name, registry in ((self.sampler, SAMPLERS), (self.shift, SHIFTS)):
            if name != AUTO:
                registry[name]
        if self.shift != AUTO:  # auto's are known with the model
            chosen_shift(self.shift, self.shift_options, None)
        check_guidance(self.cfg, self.apg, self.cfg_interval, self.norm_threshold, self.rescale)

    @property
    def guidance(self) -> Guidance:
        """The guidance part, cfg 0 taken as 1 until it is resolved."""
        return Guidance(
            self.cfg or 1.0, self.apg, self.cfg_interval, self.norm_threshold, self.rescale
        )

    def resolve(self, objective: str) -> "SampleSettings":
        """Replace steps 0, sampler auto and cfg 0 by the objective's defaults.

        Args:
            objective: `rf_denoiser` or `rectified_flow`.
        """
        check_one_of("objective", objective, OBJECTIVE_DEFAULTS)
        defaults = OBJECTIVE_DEFAULTS[cast(Objective, objective)]
        return replace(
            self,
            steps=self.steps or defaults.steps,
            sampler=defaults.sampler if self.sampler == AUTO else self.sampler,
            cfg=self.cfg or defaults.cfg,
        )


def advice(settings: SampleSettings, objective: str, negative: bool) -> list[str]:
    """Sentences a user should see about settings that do not suit the model.

    Args:
        settings: resolved settings.
        objective: the model's.
        negative: whether a negative prompt was given.
    """
    notes = []
    if negative and settings.cfg == 1:
        notes.append("The negative prompt has no effect at cfg 1.")
    if objective == "rectified_flow" and settings.cfg == 1:
        notes.append("A base model at cfg 1 follows the prompt weakly; its default is cfg 7.")
    if objective == "rectified_flow" and settings.steps <= 8:
        notes.append("A base model needs more than 8 steps; its default is 50.")
    if objective == "rf_denoiser" and settings.cfg > 1:
        notes.append("A post-trained model is made for cfg 1; above it the sound may distort.")
    return notes
