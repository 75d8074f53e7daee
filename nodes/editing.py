"""Inpaint Mask, Continue Audio, Loop and Paste Back."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.editing.loop import USUAL_SEAM
from ..sa3_core.editing.region_request import RegionRequest, check_text
from ..sa3_core.editing.regions import bar_seconds
from .bridge.host.running import show
from .bridge.work.continuing import continue_audio, make_loop
from .bridge.work.mask_picture import mask_picture, source_outline
from .bridge.work.masking import Masked, MaskSettings, mask_regions
from .bridge.work.pasting import paste_onto, paste_source
from .inputs import (
    AUTO_AT_ZERO,
    CATEGORY,
    END,
    SECONDS_MAX,
    START,
    Regions,
    bars_input,
    beats_input,
    bpm_input,
    crossfade_input,
    naming_inputs,
    region_inputs,
    rule_input,
    seconds_input,
    vae_input,
    where_input,
)

REMAKE, LEAVE = "make anew too", "keep as they are"


def _context_input(tooltip: str) -> Any:
    """How much of a source is heard around what is made; the whole of it at 0."""
    return io.Float.Input(
        "context_seconds",
        default=0.0,
        min=0.0,
        max=SECONDS_MAX,
        step=0.5,
        optional=True,
        tooltip=tooltip,
        advanced=True,
        extra_dict=AUTO_AT_ZERO,
    )


class SA3InpaintMask(io.ComfyNode):
    """Marks what is made anew."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3InpaintMask",
            display_name="Inpaint Mask",
            category=CATEGORY,
            description=(
                "Marks regions of a piece that are to be made anew; all else is kept. Any number "
                "of them, touching or overlapping. A region that runs past the end lengthens the "
                "piece. The node shows what is really masked after rounding to latent frames."
            ),
            search_aliases=["inpaint audio", "regenerate region", "audio mask", "set noise mask"],
            inputs=[
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip=(
                        "Of SAME Encode, or one that is masked already: the regions add up. "
                        "Without it `audio` is encoded."
                    ),
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip=(
                        "The source, if no latent is given. Beside a latent: what is put back "
                        "outside the regions, where the latent brings no source of its own."
                    ),
                ),
                io.Vae.Input("vae", optional=True, tooltip="Needed when only audio is given."),
                *region_inputs(),
                rule_input(),
                io.Float.Input(
                    "feather_ms",
                    default=0.0,
                    min=0.0,
                    max=10_000.0,
                    step=1.0,
                    optional=True,
                    tooltip=(
                        "Crossfade at the seams when the source is put back; 0 = as the decoding "
                        "node says."
                    ),
                    advanced=True,
                    extra_dict=AUTO_AT_ZERO,
                ),
                io.Combo.Input(
                    "earlier_regions",
                    options=[REMAKE, LEAVE],
                    default=REMAKE,
                    optional=True,
                    tooltip=(
                        "Regions that the latent has already: while chaining masks they are made "
                        "anew too; after sampling they can be kept as they are now."
                    ),
                    advanced=True,
                ),
                _context_input(
                    "With `audio` alone: only so much of it around the regions is encoded and "
                    "heard, so that a song may be longer than the model's maximum; 0 = all. "
                    "The rest is put back sample by sample when decoding with "
                    "keep_source_exactly."
                ),
            ],
            outputs=[io.Latent.Output(), Regions.Output(display_name="regions")],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, regions: str | None = None) -> bool | str:
        """Refuse unreadable regions before anything is loaded."""
        return check_text(regions or "") or True

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        latent: Any = None,
        audio: Any = None,
        vae: Any = None,
        regions: str = "",
        one_list_per_line: bool = False,
        region_list: Any = None,
        invert: bool = False,
        bpm: float = 0.0,
        beats_per_bar: int = 4,
        rule: str = "cover",
        feather_ms: float = 0.0,
        earlier_regions: str = REMAKE,
        context_seconds: float = 0.0,
    ) -> io.NodeOutput:
        """Mask, and show what was masked."""
        request = RegionRequest(regions, one_list_per_line, region_list, bpm, beats_per_bar, invert)
        remake = earlier_regions == REMAKE
        settings = MaskSettings(rule, feather_ms / 1000, remake, context_seconds)
        masked = mask_regions(latent, audio, vae, request, settings)
        pairs = [[tuple(region) for region in item] for item in masked.regions]
        ui = {**_report(cls, masked), **source_outline(masked.latent)}
        return io.NodeOutput(masked.latent, pairs, ui=ui)


class SA3ContinueAudio(io.ComfyNode):
    """Room after a source's end, or before its start."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3ContinueAudio",
            display_name="Continue Audio",
            category=CATEGORY,
            description=(
                "Encodes a source with room for what comes after it, or before it, and masks that "
                "room. SAME Decode Chunked gives the whole piece, the source's samples untouched. "
                "For more than the model makes at once, use Extend Audio."
            ),
            search_aliases=["outpaint audio", "extend audio", "continuation", "intro"],
            inputs=[
                io.Audio.Input("audio", tooltip="The source; one latent frame (0.1 s) at least."),
                vae_input(),
                seconds_input("Seconds to add.", default=10.0, least=0.01),
                where_input(),
                _context_input(
                    "How much of the source, beside what is added, the model hears; 0 = all. "
                    "The rest is put back when decoding with keep_source_exactly."
                ),
                rule_input(),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        audio: Any,
        vae: Any,
        seconds: float,
        where: str = END,
        context_seconds: float = 0.0,
        rule: str = "cover",
    ) -> io.NodeOutput:
        """Encode and mask."""
        masked = continue_audio(vae, audio, seconds, where == START, context_seconds, rule)
        return io.NodeOutput(masked.latent, ui=_report(cls, masked))


class SA3Loop(io.ComfyNode):
    """A piece whose end leads into its start."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3Loop",
            display_name="Loop",
            category=CATEGORY,
            description=(
                "Prepares a seamless loop: cuts the source to length, turns it by half so that its "
                "end meets its start in the middle, and masks that seam. Sample it and decode "
                "with SAME Decode Chunked (or Paste Back), which turns the loop back."
            ),
            search_aliases=["seamless loop", "loop audio", "bars"],
            inputs=[
                io.Audio.Input("audio", tooltip="The source; the loop is taken from its start."),
                vae_input(),
                io.Combo.Input(
                    "length_in",
                    options=["bars", "seconds"],
                    default="bars",
                    optional=True,
                    tooltip="Whether `bars` at a tempo counts or `seconds`.",
                ),
                bars_input(4.0, 0.25, "Bars in the loop."),
                bpm_input(),
                beats_input(),
                seconds_input(
                    "Length of the loop in seconds; 0 = the whole source.", optional=True
                ),
                io.Float.Input(
                    "seam_seconds",
                    default=USUAL_SEAM,
                    min=0.1,
                    max=SECONDS_MAX,
                    step=0.1,
                    optional=True,
                    tooltip=(
                        "How much around the seam is made anew; half the loop at most. Left at 2, "
                        "a loop shorter than 4 s gets half its length."
                    ),
                ),
                rule_input(),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        audio: Any,
        vae: Any,
        length_in: str = "bars",
        bars: float = 4.0,
        bpm: float = 120.0,
        beats_per_bar: int = 4,
        seconds: float = 0.0,
        seam_seconds: float = USUAL_SEAM,
        rule: str = "cover",
    ) -> io.NodeOutput:
        """Rotate, encode and mask."""
        unit = bar_seconds(1, bpm, beats_per_bar) if length_in == "bars" else None
        length = bars * unit if unit else seconds or None
        seam = None if seam_seconds == USUAL_SEAM else seam_seconds
        masked = make_loop(vae, audio, length, seam, rule, unit)
        return io.NodeOutput(masked.latent, ui=_report(cls, masked))


class SA3PasteBack(io.ComfyNode):
    """The source's own samples outside the regions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3PasteBack",
            display_name="Paste Back",
            category=CATEGORY,
            description=(
                "Puts a source back over what was made of it, sample by sample, everywhere but in "
                "the regions. SAME Decode Chunked does this by itself; use this node after other "
                "decoders. It also turns a loop back and adds what the model did not hear."
            ),
            search_aliases=["composite audio", "keep source", "restore original"],
            inputs=[
                io.Audio.Input("audio", tooltip="What was made, as decoded (44.1 kHz)."),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The latent it was decoded from; it carries source and regions.",
                ),
                io.Audio.Input(
                    "source",
                    optional=True,
                    tooltip="The source, where no latent carries it; give the regions too.",
                ),
                *region_inputs(),
                crossfade_input(advanced=False),
            ],
            outputs=[io.Audio.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, regions: str | None = None) -> bool | str:
        """Refuse unreadable regions before anything is loaded."""
        return check_text(regions or "") or True

    @classmethod
    def execute(
        cls,
        audio: Any,
        latent: Any = None,
        source: Any = None,
        regions: str = "",
        one_list_per_line: bool = False,
        region_list: Any = None,
        invert: bool = False,
        bpm: float = 0.0,
        beats_per_bar: int = 4,
        crossfade_ms: float = 20.0,
    ) -> io.NodeOutput:
        """Paste from the latent's source, or from the sockets."""
        if source is None and latent is not None:
            out, notes = paste_onto(audio, latent, crossfade_ms / 1000)
        else:
            request = RegionRequest(
                regions, one_list_per_line, region_list, bpm, beats_per_bar, invert
            )
            out, notes = paste_source(audio, source, request, crossfade_ms / 1000)
        return io.NodeOutput(out, ui=show(cls, notes))


def _report(node: Any, masked: Masked) -> dict[str, Any]:
    """Text and picture of a mask."""
    picture = mask_picture(masked.latent, masked.keep, masked.asked)
    return {**show(node, masked.notes), **picture}


NODES = [SA3InpaintMask, SA3ContinueAudio, SA3Loop, SA3PasteBack]
