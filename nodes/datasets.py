"""Audio Dataset and Encode Dataset."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.datasets.folder import CaptionRule
from .bridge.host.running import show
from .bridge.work import datasets
from .inputs import TRAINING, EncodedDataset, naming_inputs, vae_input

Dataset = io.Custom("SA3_DATASET")
SLOTS = 6
PIECE_SECONDS = 285.0  # the published trainer's longest clip


class SA3AudioDataset(io.ComfyNode):
    """Recordings with captions, to learn from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3AudioDataset",
            display_name="Audio Dataset",
            category=TRAINING,
            description=(
                "Recordings to learn from: every sound file below a folder of ComfyUI's input "
                "folder, captioned by a .json or .txt of the same name, its tags or a pattern; or "
                "the AUDIO that is connected. The table says what is used and why not, plays each "
                "clip, and its captions can be edited."
            ),
            search_aliases=["training data", "caption", "dataset folder"],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=datasets.input_folders(),
                    tooltip="A folder below ComfyUI's input folder; not used where audio is given.",
                ),
                io.String.Input(
                    "captions",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip=(
                        "Of connected audio: a line for each item, or one for all. Of a folder: "
                        "for recordings without a caption; stem, folder and path in curly brackets "
                        "stand for the file's own."
                    ),
                ),
                *(
                    io.Audio.Input(
                        f"audio_{number}",
                        optional=True,
                        tooltip="To learn from, in place of the folder; a batch is many clips.",
                    )
                    for number in range(1, SLOTS + 1)
                ),
                io.String.Input(
                    "trigger",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="A word in front of every caption, to call the style by later.",
                ),
                io.Boolean.Input(
                    "tags",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Take title, artist, genre and comment inside of files as captions.",
                ),
                io.String.Input(
                    "edited_captions",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "What the table has edited: a JSON object of recordings and their captions."
                        " These win over every other caption."
                    ),
                ),
            ],
            outputs=[Dataset.Output(display_name="dataset")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str = ".", **others: Any) -> str:
        """Changes with every file of the folder."""
        given = any(others.get(f"audio_{number}") is not None for number in range(1, SLOTS + 1))
        return "" if given else datasets.folder_state(folder)

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        folder: str,
        captions: str = "",
        trigger: str = "",
        tags: bool = True,
        edited_captions: str = "",
        **audio: Any,
    ) -> io.NodeOutput:
        """List the recordings."""
        given = {name: value for name, value in audio.items() if value is not None}
        if given:
            found, rows = datasets.audio_dataset(given, captions, trigger, edited_captions)
        else:
            rule = CaptionRule(captions.strip(), trigger.strip(), tags)
            found, rows = datasets.folder_dataset(folder, rule, edited_captions)
        ui = {"sa3_clips": rows, **show(cls, datasets.summary(rows))}
        return io.NodeOutput(found, ui=ui)


class SA3EncodeDataset(io.ComfyNode):
    """Encodes every clip once; a second run encodes only what is new."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3EncodeDataset",
            display_name="Encode Dataset",
            category=TRAINING,
            description=(
                "Encodes the recordings with the model's autoencoder, once, into "
                "output/sa3_encoded (the published trainer's format). Run again, it encodes only "
                "what is new. Nothing is flipped, repeated or replaced; silent and repeated "
                "recordings are left out, and the table says so."
            ),
            search_aliases=["pre-encode", "latents", "training data"],
            inputs=[
                vae_input(),
                Dataset.Input("dataset", tooltip="Of Audio Dataset."),
                io.Float.Input(
                    "piece_seconds",
                    default=PIECE_SECONDS,
                    min=1.0,
                    max=PIECE_SECONDS,
                    step=1.0,
                    optional=True,
                    advanced=True,
                    tooltip="Longer recordings are cut into consecutive pieces of this length.",
                ),
                io.Int.Input(
                    "batch",
                    default=1,
                    min=1,
                    max=64,
                    optional=True,
                    advanced=True,
                    tooltip="Clips that are encoded at once.",
                ),
            ],
            outputs=[EncodedDataset.Output(display_name="encoded")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    @naming_inputs()
    def execute(
        cls, vae: Any, dataset: Any, piece_seconds: float = PIECE_SECONDS, batch: int = 1
    ) -> io.NodeOutput:
        """Encode what is not encoded yet."""
        encoded, rows = datasets.encode_dataset(vae, dataset, piece_seconds, batch)
        ui = {"sa3_clips": rows, **show(cls, datasets.summary(rows))}
        return io.NodeOutput(encoded, ui=ui)


NODES = [SA3AudioDataset, SA3EncodeDataset]
