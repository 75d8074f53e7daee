"""Empty Latent by Duration, SAME Encode and SAME Decode Chunked."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.editing.regions import bar_seconds, parse_durations
from ..sa3_core.geometry import HEADROOM_SECONDS, MAX_HEADROOM
from .bridge.host.running import show
from .bridge.sockets.riding import settled
from .bridge.work import coding, pasting
from .inputs import (
    AUTO_AT_ZERO,
    CATEGORY,
    bars_input,
    beats_input,
    bpm_input,
    crossfade_input,
    problem_of,
    seconds_input,
    vae_input,
)


def _headroom_input() -> Any:
    """Seconds that a latent holds after its piece."""
    return io.Float.Input(
        "headroom",
        default=HEADROOM_SECONDS,
        min=0.0,
        max=MAX_HEADROOM,
        step=0.5,
        tooltip=(
            "Seconds after the piece that are computed with it and cut off; the models were "
            "trained with 6. It travels with the latent to SA3 Sampler."
        ),
        advanced=True,
        optional=True,
    )


class SA3EmptyLatent(io.ComfyNode):
    """An empty latent that knows its exact duration."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3EmptyLatent",
            display_name="Empty Latent by Duration",
            category=CATEGORY,
            description=(
                "An empty latent of an exact duration, with the 6 seconds of headroom that the "
                "models were trained with. The duration travels with the latent: the sampler "
                "conditions on it and decoding trims to it."
            ),
            search_aliases=["empty latent audio", "duration", "bars", "bpm"],
            inputs=[
                seconds_input(
                    "Length in seconds; fractions count (small 120, medium 380 at most).",
                    default=30.0,
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="Items to make: at most 1000, and 4 GB of latents, at once.",
                    optional=True,
                ),
                io.Combo.Input(
                    "length_in",
                    options=["seconds", "bars"],
                    default="seconds",
                    tooltip="Whether `seconds` counts or `bars` at a tempo.",
                    optional=True,
                ),
                bars_input(8.0, 0.0, "Number of bars."),
                bpm_input(),
                beats_input(),
                io.String.Input(
                    "durations",
                    default="",
                    optional=True,
                    tooltip=(
                        "Several durations for a batch, e.g. 10, 20.5, 0:45; each makes "
                        "`batch_size` items, at most 1000 in all. Replaces `seconds` and `bars`."
                    ),
                    advanced=True,
                ),
                _headroom_input(),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def validate_inputs(cls, durations: str | None = None) -> bool | str:
        """Refuse unreadable durations before anything is loaded."""
        return problem_of(parse_durations, durations)

    @classmethod
    def execute(
        cls,
        seconds: float,
        batch_size: int = 1,
        length_in: str = "seconds",
        bars: float = 8.0,
        bpm: float = 120.0,
        beats_per_bar: int = 4,
        durations: str = "",
        headroom: float = HEADROOM_SECONDS,
    ) -> io.NodeOutput:
        """Zeros with their durations."""
        lengths, length_from = [seconds], ("seconds", 1.0)
        if durations.strip():
            lengths, length_from = parse_durations(durations), ("durations", 1.0)
        elif length_in == "bars":
            unit = bar_seconds(1, bpm, beats_per_bar)
            lengths, length_from = [bars * unit], ("bars", unit)
        return io.NodeOutput(coding.empty_latent(lengths, batch_size, headroom, length_from))


class SA3SAMEEncode(io.ComfyNode):
    """AUDIO to LATENT, at an exact length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3SAMEEncode",
            display_name="SAME Encode",
            category=CATEGORY,
            description=(
                "Encodes audio of any sample rate into a latent of the wanted duration (cropped or "
                "padded with silence at the end, headroom included). More than two channels are "
                "mixed down to stereo, the centre and surrounds at -3 dB."
            ),
            search_aliases=["vae encode audio", "audio to latent"],
            inputs=[
                io.Audio.Input("audio", tooltip="The source; resampled to 44.1 kHz stereo."),
                vae_input(),
                seconds_input("Duration of the piece; 0 = the source's own length.", optional=True),
                _headroom_input(),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, audio: Any, vae: Any, seconds: float = 0.0, headroom: float = HEADROOM_SECONDS
    ) -> io.NodeOutput:
        """Encode; the source rides along on the latent."""
        latent, notes = coding.encode(vae, audio, seconds, headroom)
        return io.NodeOutput(latent, ui=show(cls, notes))


class SA3SAMEDecode(io.ComfyNode):
    """LATENT to AUDIO, trimmed, in memory linear in length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3SAMEDecode",
            display_name="SAME Decode Chunked",
            category=CATEGORY,
            description=(
                "Decodes a latent, trimmed to the duration that rides on it. Chunks give exactly "
                "what decoding the whole gives. After editing, what was kept comes back from the "
                "source sample by sample."
            ),
            search_aliases=["vae decode audio", "latent to audio", "tiled decode"],
            inputs=[
                io.Latent.Input("latent", tooltip="A latent of 256 channels."),
                vae_input(),
                io.Int.Input(
                    "chunk",
                    default=0,
                    min=0,
                    max=100_000,
                    tooltip="Latent frames per chunk; 0 = the whole when it fits in free memory.",
                    optional=True,
                    advanced=True,
                    extra_dict=AUTO_AT_ZERO,
                ),
                io.Boolean.Input(
                    "keep_source_exactly",
                    default=True,
                    tooltip=(
                        "After Inpaint Mask, Continue Audio or Loop: put the source's own samples "
                        "back outside the regions."
                    ),
                    optional=True,
                    advanced=True,
                ),
                crossfade_input(),
                io.Boolean.Input(
                    "decoder_noise",
                    default=False,
                    tooltip="Add the decoder's random terms, as upstream does.",
                    advanced=True,
                    optional=True,
                ),
                io.Int.Input(
                    "noise_seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    # The frontend would add "randomize" to this name, and decode anew each run.
                    control_after_generate=False,
                    tooltip="Seed of the decoder noise; used only when decoder_noise is on.",
                    advanced=True,
                    optional=True,
                ),
            ],
            outputs=[io.Audio.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        latent: Any,
        vae: Any,
        chunk: int = 0,
        keep_source_exactly: bool = True,
        crossfade_ms: float = 20.0,
        decoder_noise: bool = False,
        noise_seed: int = 0,
    ) -> io.NodeOutput:
        """Decode, trim, paste the kept source back and turn a loop back."""
        seed = noise_seed if decoder_noise else None
        latent, said = settled(latent, "SAME Decode Chunked")
        audio = coding.decode(vae, latent, chunk or None, seed)
        audio, notes = pasting.restore(audio, latent, keep_source_exactly, crossfade_ms / 1000)
        return io.NodeOutput(audio, ui=show(cls, said + notes))


NODES = [SA3EmptyLatent, SA3SAMEEncode, SA3SAMEDecode]
