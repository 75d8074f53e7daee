"""Look at Audio and Compare Audio."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .bridge.host.running import show
from .bridge.work.compare import MAX_TAKES, compare
from .bridge.work.look import look
from .bridge.work.names import prefix_error
from .inputs import CATEGORY, Regions, prefix_input


class SA3LookAudio(io.ComfyNode):
    """Waveform, spectrogram and loudness of any AUDIO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3LookAudio",
            display_name="Look at Audio",
            category=CATEGORY,
            description=(
                "Shows waveform, spectrogram (logarithmic, 30 Hz and up), loudness (LUFS, ITU-R "
                "BS.1770-4) and true peak, one row per batch item. Red in the waveform is above "
                "full scale."
            ),
            search_aliases=["spectrogram", "waveform", "loudness", "lufs", "audio meter"],
            inputs=[
                io.Audio.Input("audio", tooltip="Any audio; a batch is shown item by item."),
                io.Boolean.Input(
                    "save_png",
                    default=False,
                    optional=True,
                    tooltip="On: the picture is also kept in the output folder, the graph inside.",
                ),
                prefix_input("audio/look", "Folder and name of the PNG inside the output folder."),
            ],
            outputs=[io.Audio.Output(), io.Image.Output(display_name="picture")],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """A prefix that makes valid names."""
        return prefix_error(filename_prefix)

    @classmethod
    def execute(
        cls, audio: Any, save_png: bool = False, filename_prefix: str = "audio/look"
    ) -> io.NodeOutput:
        """Measure and draw."""
        seen = look(audio, filename_prefix if save_png else None, cls.hidden)
        ui = {"images": [seen.file], **show(cls, seen.notes)}
        return io.NodeOutput(audio, seen.image, ui=ui)


class SA3CompareAudio(io.ComfyNode):
    """Takes side by side, switched while they play."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        names = "abcd"[:MAX_TAKES]
        return io.Schema(
            node_id="SA3CompareAudio",
            display_name="Compare Audio",
            category=CATEGORY,
            description=(
                "Plays up to four takes in step and switches between them without a gap, at equal "
                "loudness if you like. With one input connected, its batch items are the takes. "
                "Keys in the player: 1-4 choose, space plays, the arrows move."
            ),
            search_aliases=["ab test", "a/b", "listen", "compare takes", "loudness match"],
            inputs=[
                *(
                    io.Audio.Input(
                        name,
                        optional=True,
                        tooltip=f"Take {name.upper()}. All takes start together.",
                    )
                    for name in names
                ),
                Regions.Input(
                    "regions",
                    optional=True,
                    tooltip="Of Inpaint Mask: what was made anew is marked in the player.",
                ),
                io.Int.Input(
                    "item",
                    default=0,
                    min=0,
                    max=4095,
                    optional=True,
                    tooltip="Which item of each batch to play, where several inputs are connected.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        a: Any = None,
        b: Any = None,
        c: Any = None,
        d: Any = None,
        regions: Any = None,
        item: int = 0,
    ) -> io.NodeOutput:
        """Write the takes where the player finds them."""
        ui, notes = compare({"A": a, "B": b, "C": c, "D": d}, regions, item)
        return io.NodeOutput(ui={**ui, **show(cls, notes)})


NODES = [SA3LookAudio, SA3CompareAudio]
