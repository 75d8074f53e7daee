"""Save SA3 Latents, Load SA3 Latents and Split Audio Batch."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.errors import InputError
from .bridge.host.running import show
from .bridge.work import latent_files as takes
from .bridge.work.names import prefix_error
from .inputs import CATEGORY, prefix_input, seconds_input


class SA3SaveLatents(io.ComfyNode):
    """Keeps a take without encoding it again."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3SaveLatents",
            display_name="Save SA3 Latents",
            category=CATEGORY,
            description=(
                "Writes latents into the output folder, never over an existing file. Their "
                "durations are kept; the mask and the source of an edit are not."
            ),
            search_aliases=["save latent", "export latent", "npy"],
            inputs=[
                io.Latent.Input("latent", tooltip="A latent of 256 channels."),
                prefix_input(
                    "latents/sa3",
                    "Folder and name inside the output folder; Load SA3 Latents looks in latents.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(takes.FORMATS),
                    default=takes.FORMATS[0],
                    optional=True,
                    tooltip=(
                        "safetensors = the batch with its durations in one file; npy = upstream's "
                        "[256, frames], one file per item, without a duration."
                    ),
                ),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """A prefix that makes valid names."""
        return prefix_error(filename_prefix)

    @classmethod
    def execute(
        cls, latent: Any, filename_prefix: str = "latents/sa3", format: str = takes.FORMATS[0]
    ) -> io.NodeOutput:
        """Write and say where."""
        files, notes = takes.save_latents(latent, filename_prefix, format, cls.hidden)
        return io.NodeOutput(latent, ui={"latents": files, **show(cls, notes)})


class SA3LoadLatents(io.ComfyNode):
    """A kept take."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3LoadLatents",
            display_name="Load SA3 Latents",
            category=CATEGORY,
            description=(
                "Reads latents: .safetensors of Save SA3 Latents or the command line, or "
                "upstream's .npy."
            ),
            search_aliases=["load latent", "import latent", "npy"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=takes.latent_files(),
                    tooltip=(
                        "From input, input/latents and output/latents. API callers may name any "
                        "file of these folders, e.g. mine/take.npy [output]."
                    ),
                ),
                seconds_input(
                    "Duration of the piece; 0 = as stored (npy: all frames).", optional=True
                ),
            ],
            outputs=[io.Latent.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """A file that is there, in the combo or not."""
        try:
            return file is None or bool(takes.latent_path(file))
        except InputError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, file: str = "", seconds: float = 0.0) -> str:
        """Run again when the file changed."""
        return takes.fingerprint(file)

    @classmethod
    def execute(cls, file: str, seconds: float = 0.0) -> io.NodeOutput:
        """Read and say what is in it."""
        latent, notes = takes.load_latents(file, seconds)
        return io.NodeOutput(latent, ui=show(cls, notes))


class SA3SplitAudioBatch(io.ComfyNode):
    """Batch items one by one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3SplitAudioBatch",
            display_name="Split Audio Batch",
            category=CATEGORY,
            description=(
                "Takes a batch of audio apart: a list of single pieces, each trimmed to its own "
                "length. Nodes behind it run once per piece."
            ),
            search_aliases=["audio batch to list", "unbatch audio"],
            inputs=[io.Audio.Input("audio", tooltip="A batch, its items of any lengths.")],
            outputs=[io.Audio.Output(is_output_list=True)],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, audio: Any) -> io.NodeOutput:
        """Cut the items out."""
        items, notes = takes.split_audio(audio)
        return io.NodeOutput(items, ui=show(cls, notes))


NODES = [SA3SaveLatents, SA3LoadLatents, SA3SplitAudioBatch]
