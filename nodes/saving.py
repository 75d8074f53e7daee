"""Save Audio."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.audio.formats import FORMATS
from ..sa3_core.audio.levels import LOWEST_CEILING, PEAKS, Levels
from ..sa3_core.audio.loudness import CEILING
from .bridge.host.running import show
from .bridge.work.made_with import made_with
from .bridge.work.names import prefix_error
from .bridge.work.saving import save
from .inputs import CATEGORY, OFF_AT_ZERO, naming_inputs, prefix_input


class SA3SaveAudio(io.ComfyNode):
    """Writes AUDIO into the output folder, with the graph inside."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3SaveAudio",
            display_name="Save Audio",
            category=CATEGORY,
            description=(
                "Saves every item of a batch, trimmed to its own length, never over an existing "
                "file. The graph is stored in the file (beside it as JSON where the format cannot "
                "carry it), so that dropping the file on the canvas restores it."
            ),
            search_aliases=["save flac", "save wav", "save mp3", "export audio"],
            inputs=[
                io.Audio.Input("audio", tooltip="One file is written per batch item."),
                prefix_input(
                    "audio/sa3",
                    "Folder and name inside the output folder. Tokens: %year% %month% %day% "
                    "%hour% %minute% %second% %batch_num%, %date:yyyy-MM-dd%, %SA3Sampler.seed%.",
                ),
                io.Combo.Input(
                    "format",
                    options=FORMATS.names,
                    default="flac-24",
                    tooltip=(
                        "flac and wav-16/24 end at full scale, see `peaks`; wav-32f keeps every "
                        "sample as it is. m4a is AAC."
                    ),
                    optional=True,
                ),
                io.Float.Input(
                    "loudness_lufs",
                    default=0.0,
                    min=-40.0,
                    max=0.0,
                    step=0.5,
                    tooltip=(
                        "Brings every file to this loudness, e.g. -14 (streaming) or -23 "
                        "(broadcast), but never above a true peak of -1 dB unless `peaks` is "
                        "limit. 0 = as it is."
                    ),
                    optional=True,
                    extra_dict=OFF_AT_ZERO,
                ),
                io.Combo.Input(
                    "peaks",
                    options=list(PEAKS),
                    default=PEAKS[0],
                    tooltip=(
                        "auto: an item above full scale is turned down to it as a whole (not in "
                        "wav-32f), and the node says so. off: left, and clipped where the format "
                        "must. normalise: its true peak is brought to `ceiling_dbtp`. limit: only "
                        "what is above `ceiling_dbtp` is turned down, softly."
                    ),
                    advanced=True,
                    optional=True,
                ),
                io.Float.Input(
                    "ceiling_dbtp",
                    default=CEILING,
                    min=LOWEST_CEILING,
                    max=0.0,
                    step=0.1,
                    tooltip="True peak for `peaks` normalise and limit, in dBTP.",
                    advanced=True,
                    optional=True,
                ),
            ],
            outputs=[io.Audio.Output()],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """A prefix that makes valid names."""
        return prefix_error(filename_prefix)

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        audio: Any,
        filename_prefix: str = "audio/sa3",
        format: str = "flac-24",
        loudness_lufs: float = 0.0,
        peaks: str = PEAKS[0],
        ceiling_dbtp: float = CEILING,
    ) -> io.NodeOutput:
        """Write the files and show a player."""
        levels = Levels(loudness_lufs, peaks, ceiling_dbtp).checked()
        files, notes = save(audio, filename_prefix, format, cls.hidden, levels)
        ui = {"audio": files, **show(cls, notes), **made_with(cls.hidden)}
        return io.NodeOutput(audio, ui=ui)


NODES = [SA3SaveAudio]
