"""SA3 Scheduler and SA3 Sampler Select, for SamplerCustomAdvanced."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.registry import AUTO
from ..sa3_core.sampling.samplers import SAMPLERS
from ..sa3_core.sampling.schedule import parse_shift_options
from ..sa3_core.sampling.settings import NOISE_SCHEDULES, SampleSettings
from .bridge.host.running import show
from .bridge.work.sampling import make_sampler, schedule
from .inputs import (
    CATEGORY,
    denoise_input,
    model_input,
    naming_inputs,
    noise_schedule_input,
    problem_of,
    seconds_input,
    shift_input,
    shift_options_input,
    steps_input,
)


class SA3Scheduler(io.ComfyNode):
    """The published schedule as SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3Scheduler",
            display_name="SA3 Scheduler",
            category=CATEGORY,
            description="Noise levels of the published schedules, for SamplerCustomAdvanced.",
            search_aliases=["sigmas", "logsnr"],
            inputs=[
                model_input(),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Takes the duration from the latent instead of `seconds`.",
                ),
                steps_input(),
                shift_input("auto = as the model's config says."),
                denoise_input("Noise level to start from."),
                seconds_input(
                    "Duration of the piece; some shifts depend on it.", default=30.0, optional=True
                ),
                noise_schedule_input(
                    "With denoise below 1: as upstream, or never above that level."
                ),
                shift_options_input(),
            ],
            outputs=[io.Sigmas.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, shift_options: str | None = None) -> bool | str:
        """Refuse unreadable parameters before anything is loaded."""
        return problem_of(parse_shift_options, shift_options)

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        model: Any,
        latent: Any = None,
        steps: int = 0,
        shift: str = AUTO,
        denoise: float = 1.0,
        seconds: float = 30.0,
        noise_schedule: str = NOISE_SCHEDULES[0],
        shift_options: str = "",
    ) -> io.NodeOutput:
        """One schedule for the whole batch: that of its longest item."""
        settings = SampleSettings(
            steps=steps,
            shift=shift,
            noise_level=denoise,
            noise_schedule=noise_schedule,
            shift_options=parse_shift_options(shift_options),
        )
        sigmas, notes = schedule(model, settings, latent, seconds)
        return io.NodeOutput(sigmas, ui=show(cls, notes))


class SA3SamplerSelect(io.ComfyNode):
    """One of the published solvers as SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3SamplerSelect",
            display_name="SA3 Sampler Select",
            category=CATEGORY,
            description="The published solvers, for SamplerCustomAdvanced.",
            search_aliases=["pingpong", "ksampler select"],
            inputs=[
                io.Combo.Input(
                    "sampler",
                    options=SAMPLERS.names,
                    default=SAMPLERS.names[0],
                    tooltip=(
                        "pingpong for post-trained models, the others for base models. heun asks "
                        "the model twice a step, rk4 four times; dpmpp is dpmpp-2m."
                    ),
                )
            ],
            outputs=[io.Sampler.Output()],
        )

    @classmethod
    def execute(cls, sampler: str) -> io.NodeOutput:
        """Wrap the solver for the host."""
        return io.NodeOutput(make_sampler(sampler))


NODES = [SA3Scheduler, SA3SamplerSelect]
