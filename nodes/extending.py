"""Extend Audio."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.editing.windows import Extension
from ..sa3_core.registry import AUTO
from ..sa3_core.sampling.settings import KEEP_MODES, SampleSettings
from .bridge.host.running import show
from .bridge.work.extending import extend
from .bridge.work.seeds import fingerprint, settled_seed
from .inputs import (
    AUTO_AT_ZERO,
    CATEGORY,
    END,
    START,
    crossfade_input,
    keep_mode_input,
    model_input,
    naming_inputs,
    prompt_inputs,
    rule_input,
    sampling_inputs,
    seconds_input,
    vae_input,
    where_input,
)


class SA3ExtendAudio(io.ComfyNode):
    """Any length, window by window."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3ExtendAudio",
            display_name="Extend Audio",
            category=CATEGORY,
            description=(
                "Continues a source past the model's maximum: samples and decodes window by "
                "window, each hearing the last stretch of what there is, and crossfades them. The "
                "source's own samples stay untouched."
            ),
            search_aliases=["long audio", "continue audio", "beyond 120 seconds", "sliding window"],
            inputs=[
                io.Audio.Input("audio", tooltip="The source; one latent frame (0.1 s) at least."),
                model_input(),
                vae_input(),
                *prompt_inputs(),
                seconds_input("Seconds to add in all.", default=60.0, least=0.01, step=0.5),
                where_input(),
                io.Float.Input(
                    "context_seconds",
                    default=30.0,
                    min=0.1,
                    max=1000.0,
                    step=0.5,
                    optional=True,
                    tooltip="How much of what there is each window hears; shorter than a window.",
                    advanced=True,
                ),
                io.Float.Input(
                    "overlap_seconds",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    optional=True,
                    tooltip="Over how long windows are crossfaded; less than the context.",
                    advanced=True,
                ),
                *sampling_inputs(),
                io.Float.Input(
                    "window_seconds",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=1.0,
                    optional=True,
                    tooltip="Length of a window, context included; 0 = the model's maximum.",
                    advanced=True,
                    extra_dict=AUTO_AT_ZERO,
                ),
                crossfade_input("Over how long the seam with the source is smoothed."),
                keep_mode_input(),
                rule_input(),
            ],
            outputs=[io.Audio.Output()],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, seed: int | None = None, **_: Any) -> str:
        """A run with a random seed is never taken from the cache."""
        return fingerprint(seed)

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        audio: Any,
        model: Any,
        vae: Any,
        positive: Any,
        seconds: float,
        seed: int,
        negative: Any = None,
        where: str = END,
        context_seconds: float = 30.0,
        overlap_seconds: float = 1.0,
        steps: int = 0,
        sampler: str = AUTO,
        shift: str = AUTO,
        cfg: float = 0.0,
        apg: float = 1.0,
        window_seconds: float = 0.0,
        crossfade_ms: float = 20.0,
        keep_mode: str = KEEP_MODES[0],
        rule: str = "cover",
    ) -> io.NodeOutput:
        """Run the windows."""
        settings = SampleSettings(
            steps=steps, sampler=sampler, shift=shift, cfg=cfg, apg=apg, keep_mode=keep_mode
        )
        extension = Extension(
            add=seconds,
            before=where == START,
            context=context_seconds,
            overlap=overlap_seconds,
            longest=window_seconds,
            crossfade=crossfade_ms / 1000,
            rule=rule,
        )
        seed, told = settled_seed(seed, cls.hidden)
        out, notes = extend(model, vae, audio, (positive, negative), extension, settings, seed)
        return io.NodeOutput(out, ui=show(cls, [*told, *notes]))


NODES = [SA3ExtendAudio]
