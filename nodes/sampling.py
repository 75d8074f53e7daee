"""SA3 Sampler."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.registry import AUTO
from ..sa3_core.sampling.noise import Seeds, parse_seeds
from ..sa3_core.sampling.schedule import parse_shift_options
from ..sa3_core.sampling.settings import (
    KEEP_MODES,
    NOISE_SCHEDULES,
    SampleSettings,
)
from .bridge.host.running import show
from .bridge.work.sampling import sample
from .bridge.work.seeds import fingerprint, settled_seed
from .inputs import (
    CATEGORY,
    SEED_MAX,
    denoise_input,
    first_problem,
    keep_mode_input,
    model_input,
    naming_inputs,
    noise_schedule_input,
    problem_of,
    prompt_inputs,
    sampling_inputs,
    shift_options_input,
)


class SA3Sampler(io.ComfyNode):
    """Denoises an SA3 latent, be it empty, encoded or masked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3Sampler",
            display_name="SA3 Sampler",
            category=CATEGORY,
            description=(
                "Generates with exact durations, real padding masks and the published schedules "
                "and solvers. The latent says the mode: empty = text to audio, encoded with "
                "denoise below 1 = audio to audio, masked = inpainting or continuation."
            ),
            search_aliases=["ksampler audio", "stable audio sampler", "pingpong"],
            inputs=[*_main_inputs(), *_advanced_inputs(), shift_options_input()],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, seed: int | None = None, seeds: str | None = None, **_: Any) -> str:
        """A run with a random seed is never taken from the cache."""
        return fingerprint(None if (seeds or "").strip() else seed)

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        model: Any,
        positive: Any,
        latent: Any,
        seed: int,
        negative: Any = None,
        steps: int = 0,
        sampler: str = AUTO,
        shift: str = AUTO,
        cfg: float = 0.0,
        apg: float = 1.0,
        denoise: float = 1.0,
        noise_schedule: str = NOISE_SCHEDULES[0],
        keep_mode: str = KEEP_MODES[0],
        cfg_start: float = 0.0,
        cfg_end: float = 1.0,
        norm_threshold: float = 0.0,
        rescale: float = 0.0,
        seeds: str = "",
        variation_seed: int = 0,
        variation_strength: float = 0.0,
        live_preview: bool = True,
        shift_options: str = "",
    ) -> io.NodeOutput:
        """Sample under the host's memory management."""
        settings = SampleSettings(
            steps=steps,
            sampler=sampler,
            shift=shift,
            cfg=cfg,
            apg=apg,
            noise_level=denoise,
            noise_schedule=noise_schedule,
            cfg_interval=(cfg_start, cfg_end),
            norm_threshold=norm_threshold,
            rescale=rescale,
            keep_mode=keep_mode,
            shift_options=parse_shift_options(shift_options),
        )
        several = parse_seeds(seeds) if seeds.strip() else []
        seed, told = (seed, []) if several else settled_seed(seed, cls.hidden)
        drawn = Seeds(
            several or seed,
            variation_seed if variation_strength > 0 else None,
            variation_strength,
        )
        out, notes = sample(model, latent, settings, positive, negative, drawn, live_preview)
        return io.NodeOutput(out, ui=show(cls, [*told, *notes]))

    @classmethod
    def validate_inputs(
        cls, seeds: str | None = None, shift_options: str | None = None
    ) -> bool | str:
        """Refuse what cannot be read before anything is loaded."""
        return first_problem(
            problem_of(parse_seeds, seeds), problem_of(parse_shift_options, shift_options)
        )


def _main_inputs() -> list[Any]:
    return [
        model_input(),
        *prompt_inputs(),
        io.Latent.Input("latent", tooltip="Empty, encoded or masked; it carries the duration."),
        *sampling_inputs(),
        denoise_input("Noise level to start from; below 1 the encoded source shows through."),
    ]


def _advanced_inputs() -> list[Any]:
    return [
        noise_schedule_input(
            "With denoise below 1: upstream may rise above that level on the way; bounded is "
            "the full schedule cut at it."
        ),
        keep_mode_input(),
        io.Float.Input(
            "cfg_start",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Lowest noise level at which guidance acts.",
            advanced=True,
            optional=True,
        ),
        io.Float.Input(
            "cfg_end",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Highest noise level at which guidance acts.",
            advanced=True,
            optional=True,
        ),
        io.Float.Input(
            "norm_threshold",
            default=0.0,
            min=0.0,
            max=1_000_000.0,
            step=0.1,
            tooltip="Longest guidance push, as a norm over the item; 0 = no limit.",
            advanced=True,
            optional=True,
        ),
        io.Float.Input(
            "rescale",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Brings the guided prediction's deviation back to the unguided one.",
            advanced=True,
            optional=True,
        ),
        io.String.Input(
            "seeds",
            default="",
            optional=True,
            tooltip=(
                "One seed per item instead of `seed`, e.g. 7, 9, 20-23 (a sweep of takes); at most "
                "1000."
            ),
            advanced=True,
        ),
        io.Int.Input(
            "variation_seed",
            default=0,
            min=0,
            max=SEED_MAX,
            tooltip="Second seed to move towards.",
            advanced=True,
            optional=True,
        ),
        io.Float.Input(
            "variation_strength",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="0 = the seed's own take, 1 = the variation seed's; in between stays near.",
            advanced=True,
            optional=True,
        ),
        io.Boolean.Input(
            "live_preview",
            default=True,
            tooltip=(
                "Shows the forming sound as a picture (energy of the latent over time) where "
                "ComfyUI's previews are on: Settings > Live preview method, or --preview-method."
            ),
            advanced=True,
            optional=True,
        ),
    ]


NODES = [SA3Sampler]
