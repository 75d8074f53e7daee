"""Look at Audio, Compare Audio and Measure Audio."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.checks import check_number
from .bridge.host.running import show
from .bridge.work.compare import MAX_TAKES, compare
from .bridge.work.look import look
from .bridge.work.measuring import measure_audio
from .bridge.work.names import prefix_error
from .inputs import BPM_MAX, CATEGORY, OFF_AT_ZERO, SECONDS_MAX, Regions, bpm_input, prefix_input


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


class SA3MeasureAudio(io.ComfyNode):
    """The measures of `sa3 measure`, of each item of an AUDIO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3MeasureAudio",
            display_name="Measure Audio",
            category=CATEGORY,
            description=(
                "Measures sounds without any model: duration, silence, stereo image, loudness, "
                "peaks, faults, jumps at seams and loops, tempo, key and bandwidth; an item per "
                "line, and all of them in one picture."
            ),
            search_aliases=["lufs", "tempo", "bpm", "key", "loudness", "quality", "statistics"],
            inputs=[
                io.Audio.Input("audio", tooltip="Any audio; each item of a batch is measured."),
                Regions.Input(
                    "regions",
                    optional=True,
                    tooltip="Of Inpaint Mask: their edges are the seams that are listened to.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What was asked for; a tempo in it (120 BPM) is compared.",
                ),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=SECONDS_MAX,
                    step=0.1,
                    optional=True,
                    tooltip="Duration that was asked for; 0: none.",
                    extra_dict=OFF_AT_ZERO,
                ),
                bpm_input(0.0, 0.0, tooltip="Tempo that was asked for; 0: the one in the prompt."),
                io.Boolean.Input(
                    "loop",
                    default=False,
                    optional=True,
                    tooltip="On: the jump from the end to the start is measured, too.",
                ),
            ],
            outputs=[
                io.Audio.Output(),
                io.String.Output(display_name="table", tooltip="Of all items, as Markdown."),
                io.String.Output(
                    display_name="measures",
                    tooltip="A line of JSON for each item.",
                    is_output_list=True,
                ),
                io.Float.Output(
                    display_name="lufs",
                    tooltip="Of each item; -70 for silence.",
                    is_output_list=True,
                ),
                io.Float.Output(
                    display_name="true_peak", tooltip="dBTP; -120 for silence.", is_output_list=True
                ),
                io.Float.Output(
                    display_name="bpm", tooltip="0 where a sound has no tempo.", is_output_list=True
                ),
                io.Float.Output(
                    display_name="sound_end",
                    tooltip="Seconds at which sound ends.",
                    is_output_list=True,
                ),
                io.Image.Output(display_name="picture"),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        audio: Any,
        regions: Any = None,
        prompt: str = "",
        seconds: float = 0.0,
        bpm: float = 0.0,
        loop: bool = False,
    ) -> io.NodeOutput:
        """Measure."""
        seconds = check_number("seconds", seconds, 0.0, SECONDS_MAX)
        bpm = check_number("bpm", bpm, 0.0, BPM_MAX)
        found = measure_audio(audio, regions, prompt, seconds or None, bpm or None, loop)
        ui = {"images": [found.file], **show(cls, found.notes)}
        numbers = (found.lufs, found.true_peak, found.bpm, found.sound_end)
        return io.NodeOutput(audio, found.table, found.lines, *numbers, found.image, ui=ui)


NODES = [SA3LookAudio, SA3CompareAudio, SA3MeasureAudio]
