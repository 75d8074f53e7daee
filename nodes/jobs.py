"""Job from Manifest."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.audio.formats import FORMATS
from ..sa3_core.jobs.buckets import LARGEST
from .bridge.host.running import show
from .bridge.work import jobs
from .inputs import (
    AUTO_AT_ZERO,
    CATEGORY,
    first_problem,
    model_input,
    naming_inputs,
    problem_of,
    vae_input,
)


class SA3JobFromManifest(io.ComfyNode):
    """Many clips in one run, from a table."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3JobFromManifest",
            display_name="Job from Manifest",
            category=CATEGORY,
            description=(
                "Makes a clip for every row of a table (.csv, .jsonl or .parquet in the input "
                "folder), with the columns of `sa3 generate --from`: prompt, seconds, seed, cfg, "
                "init_audio, lora, ... Each clip is a file in the output folder as soon as it is "
                "made; a run that was stopped goes on where it was. The clips come out as a list: "
                "nodes behind it run once per clip."
            ),
            search_aliases=["batch from csv", "many prompts", "prompt list", "bulk", "dataset"],
            inputs=[
                model_input(" for rows that name none"),
                io.Clip.Input("clip", tooltip="CLIP of Load SA3 Model."),
                vae_input(),
                io.Combo.Input(
                    "manifest",
                    options=jobs.manifests(),
                    tooltip=(
                        "A table below ComfyUI's input folder. It is checked whole before anything "
                        "is loaded; every fault of every row is told."
                    ),
                ),
                io.String.Input(
                    "folder",
                    default="sa3_jobs",
                    optional=True,
                    tooltip=(
                        "Inside the output folder; a folder of the manifest's name in it gets the "
                        "clips and manifest.jsonl, a line for each."
                    ),
                ),
                io.Combo.Input(
                    "format",
                    options=FORMATS.names,
                    default="flac-24",
                    tooltip="Of the files, as in Save Audio.",
                    optional=True,
                ),
                io.Int.Input(
                    "batch",
                    default=1,
                    min=0,
                    max=LARGEST,
                    tooltip=(
                        "Rows of equal settings that are made at once; auto = as many as memory "
                        "allows. With 1 a row is the same to the bit in every run."
                    ),
                    optional=True,
                    advanced=True,
                    extra_dict=AUTO_AT_ZERO,
                ),
            ],
            outputs=[
                io.Audio.Output(display_name="audio", is_output_list=True),
                io.String.Output(display_name="id", is_output_list=True),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, manifest: str | None = None, folder: str | None = None) -> bool | str:
        """A table without a fault, and a name for the folder: nothing is loaded before."""
        checked = problem_of(lambda text: jobs.results_folder(text, "x"), folder)
        return first_problem(checked, problem_of(jobs.read_rows, manifest))

    @classmethod
    def fingerprint_inputs(cls, manifest: str = "", folder: str = "sa3_jobs", **_: Any) -> str:
        """Run again when the table or a source changed, or rows are left to be made."""
        return jobs.fingerprint(manifest, folder)

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        manifest: str,
        folder: str = "sa3_jobs",
        format: str = "flac-24",
        batch: int = 1,
    ) -> io.NodeOutput:
        """Make the rows that are not there yet."""
        sockets = jobs.Sockets(model, clip, vae, cls.hidden)
        audio, ids, notes = jobs.run_manifest(sockets, manifest, folder, format, batch)
        return io.NodeOutput(audio, ids, ui=show(cls, notes))


NODES = [SA3JobFromManifest]
