"""SA3 Scheduler and SA3 Sampler Select, for SamplerCustomAdvanced."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.registry import AUTO
from ..sa3_core.sampling.samplers import SAMPLERS
from ..sa3_core.sampling.schedule import SHIFTS
from ..sa3_core.sampling.settings import MAX_STEPS, NOISE_SCHEDULES, SampleSettings
from .bridge.work.sampling import make_sampler, schedule
from .inputs import CATEGORY


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
                io.Model.Input("model", tooltip="MODEL of Load SA3 Model."),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Takes the duration from the latent instead of `seconds`.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=MAX_STEPS,
                    tooltip="0 = auto: 8 for post-trained models, 50 for base models.",
                    optional=True,
                ),
                io.Combo.Input(
                    "shift",
                    options=[AUTO, *SHIFTS.names],
                    default=AUTO,
                    tooltip="auto = as the model's config says.",
                    optional=True,
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Noise level to start from.",
                    optional=True,
                ),
                io.Float.Input(
                    "seconds",
                    default=30.0,
                    min=0.0,
                    max=100_000.0,
                    step=0.1,
                    tooltip="Duration of the piece; some shifts depend on it.",
                    optional=True,
                ),
                io.Combo.Input(
                    "noise_schedule",
                    options=list(NOISE_SCHEDULES),
                    default=NOISE_SCHEDULES[0],
                    tooltip="With denoise below 1: as upstream, or never above that level.",
                    advanced=True,
                    optional=True,
                ),
            ],
            outputs=[io.Sigmas.Output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        latent: Any = None,
        steps: int = 0,
        shift: str = AUTO,
        denoise: float = 1.0,
        seconds: float = 30.0,
        noise_schedule: str = NOISE_SCHEDULES[0],
    ) -> io.NodeOutput:
        """One schedule for the whole batch: that of its longest item."""
        settings = SampleSettings(
            steps=steps, shift=shift, noise_level=denoise, noise_schedule=noise_schedule
        )
        return io.NodeOutput(schedule(model, settings, latent, seconds))


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
