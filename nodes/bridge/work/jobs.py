"""What Job from Manifest does: a manifest's rows with the host's nets, kept as files, resumed."""

import hashlib
import json
import uuid
from argparse import Namespace as Values
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import folder_paths

from ....sa3_core.audio.file import read_audio
from ....sa3_core.audio.formats import FORMATS
from ....sa3_core.audio.levels import Levels
from ....sa3_core.checks import MAX_AUDIO_BYTES
from ....sa3_core.errors import InputError, SA3Error
from ....sa3_core.jobs.buckets import Bucket
from ....sa3_core.jobs.defaults import default_values
from ....sa3_core.jobs.fields import COLUMNS, GENERATE
from ....sa3_core.jobs.local import run_here
from ....sa3_core.jobs.manifest import SUFFIXES, read_manifest
from ....sa3_core.jobs.outcome import DONE, RESULTS, Outcome, read_results
from ....sa3_core.jobs.row import Row
from ....sa3_core.jobs.run import Summary, run_job
from ....sa3_core.jobs.spec import Computing, JobSpec, ModelFiles, source_mark
from ....sa3_core.jobs.worker import Worker
from ..host.folders import library, path_below, states_mark
from ..sockets.model import require_sa3
from ..sockets.stock_run import LORAS
from ..sockets.vae import require_same
from ..sockets.values import Audio
from .host_nets import HostNets
from .job_studio import NODE, HostStudio, JobInterruptedError, JobReport
from .loras import lora_path
from .names import check_prefix, place_inside

FOLDER = "folder"  # the input's name
_TOLD = 8  # failed rows that the node lists


def manifests() -> list[str]:
    """Manifests below ComfyUI's input folder, with forward slashes."""
    base = Path(folder_paths.get_input_directory())
    found = (path.relative_to(base) for path in base.rglob("*") if path.suffix in SUFFIXES)
    shown = (path.as_posix() for path in found if not any(p.startswith(".") for p in path.parts))
    return sorted(shown)


def manifest_path(name: str) -> Path:
    """The file behind a name.

    Raises:
        InputError: outside of the input folder, or not there.
    """
    path = path_below(Path(folder_paths.get_input_directory()), name, "manifest")
    if not path.is_file():
        raise InputError(
            f"is {name!r}, which is not there. Put it into the input folder, and refresh the node "
            "list.",
            "manifest",
        )
    return path


def read_rows(name: str) -> list[Row]:
    """The rows of a manifest, checked whole.

    Raises:
        ManifestError: rows with faults, every one of them.
        InputError: no such file, or no row.
    """
    return _read(name)[0]


def _read(name: str) -> tuple[list[Row], "_Named"]:
    named = _Named()
    return read_manifest(manifest_path(name), default_values(), named.faults), named


@dataclass(frozen=True)
class _Named:
    """Models and LoRAs that rows name, looked up once each."""

    models: dict[str, ModelFiles] = field(default_factory=dict)
    loras: dict[str, Path] = field(default_factory=dict)

    def faults(self, values: Values) -> Iterator[tuple[str, str]]:
        """What a row names and is not there, or lies where no graph may read."""
        try:
            if values.model is not None and values.model not in self.models:
                path = library().resolve(values.model, "model")
                self.models[values.model] = ModelFiles(path)
        except SA3Error as error:
            yield "model", str(error)
        for use in values.lora or ():
            try:
                self.loras[use.lora] = lora_path(use.lora)
            except (SA3Error, OSError) as error:
                yield "lora", f"{use.lora}: {error}"
        for name in COLUMNS[GENERATE].sources:
            path = getattr(values, name)
            if path is not None and not any(path.resolve().is_relative_to(r) for r in _roots()):
                yield name, f"{path} lies outside of ComfyUI's input, output and temp folders."


def _roots() -> list[Path]:
    folders = (
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
    )
    return [Path(folder).resolve() for folder in folders]


def results_folder(folder: str, manifest: str) -> Path:
    """Where a manifest's clips go: a folder of its name inside of the chosen one.

    Raises:
        InputError: no valid name, or one that leads out of the output folder.
    """
    name = f"{check_prefix(folder, FOLDER)}/{Path(manifest).stem}"
    return place_inside(Path(folder_paths.get_output_directory()), name, FOLDER)


def fingerprint(manifest: str, folder: str) -> str:
    """Changes with the manifest and its sources; never the same while rows are left or failed."""
    try:
        rows, path = read_rows(manifest), manifest_path(manifest)
        found = read_results(results_folder(folder, manifest) / RESULTS)
    except (SA3Error, OSError):
        return uuid.uuid4().hex
    lines = {line["id"]: line for line in found}
    if any(lines.get(row.id, {}).get("outcome") != DONE for row in rows):
        return uuid.uuid4().hex
    values = [row.values(default_values(), path.parent) for row in rows]
    read = [getattr(v, name) for v in values for name in COLUMNS[GENERATE].sources]
    return states_mark([path, *(source for source in read if source is not None)])


@dataclass(frozen=True)
class Sockets:
    """What the node is given.

    Attributes:
        patcher: MODEL.
        clip: CLIP.
        vae: VAE.
        hidden: the node's hidden inputs: the graph before the sockets tells them apart.
    """

    patcher: Any
    clip: Any
    vae: Any
    hidden: Any = None

    def mark(self) -> str:
        """What changes when another model, LoRA or setting comes in over the sockets."""
        info = require_sa3(self.patcher, NODE).info
        loras = [lora_path(use.lora) for use in self.patcher.get_attachment(LORAS) or ()]
        files = [*ModelFiles(Path(info.path)).marks(), *map(source_mark, loras)]
        return hashlib.sha256(json.dumps([_graph_before(self.hidden), files]).encode()).hexdigest()


def _graph_before(hidden: Any) -> Any:
    """The part of the running graph that MODEL, CLIP and VAE come from, without its numbers."""
    prompt: Mapping[str, Any] = getattr(hidden, "prompt", None) or {}

    def told(value: Any) -> Any:
        if not (isinstance(value, list) and len(value) == 2 and str(value[0]) in prompt):
            return value
        entry = prompt[str(value[0])]
        inputs = {name: told(one) for name, one in sorted((entry.get("inputs") or {}).items())}
        return [entry.get("class_type"), value[1], inputs]

    own = (prompt.get(str(getattr(hidden, "unique_id", ""))) or {}).get("inputs") or {}
    return {name: told(own[name]) for name in ("model", "clip", "vae") if name in own}


def run_manifest(
    sockets: Sockets, manifest: str, folder: str, format_name: str, batch: int
) -> tuple[list[Audio], list[str], list[str]]:
    """Make what a manifest asks for and is not there yet.

    Args:
        sockets: what makes rows that name no model.
        manifest: below the input folder.
        folder: inside of the output folder.
        format_name: a name of FORMATS.
        batch: rows at once; 0 = what memory allows.

    Returns:
        AUDIO of each row that is there, in the manifest's order, as its file holds it; their ids;
        and sentences for the node.

    Raises:
        ManifestError: rows with faults, every one of them.
        InputError: no row could be made, or another run is at work in the folder.
    """
    rows, named = _read(manifest)
    out = results_folder(folder, manifest)
    defaults = default_values()
    vars(defaults)["nets"] = sockets.mark()
    spec = JobSpec(
        defaults=defaults,
        folder=manifest_path(manifest).parent,
        out=out,
        models=named.models,
        loras=named.loras,
        audio_format=FORMATS[format_name],
        levels=Levels(),
        computing=Computing(batch=batch or None),
    )
    said: dict[str, None] = {}
    nets = HostNets(sockets.patcher, sockets.clip, require_same(sockets.vae, NODE), said.setdefault)
    report = JobReport()

    def engine(buckets: Sequence[Bucket]) -> Generator[Outcome, None, None]:
        report.start(sum(len(bucket.rows) for bucket in buckets))
        return run_here(lambda number: Worker(spec, HostStudio(nets, report)), buckets)

    try:
        summary = run_job(spec, rows, engine, True, report.ended)
    except JobInterruptedError as stopped:
        raise mm.InterruptProcessingException from stopped
    return _collected(spec, rows, summary, list(said))


def _collected(
    spec: JobSpec, rows: Sequence[Row], summary: Summary, said: list[str]
) -> tuple[list[Audio], list[str], list[str]]:
    """The rows that are there as AUDIO, as many as memory may hold."""
    lines = {line["id"]: line for line in read_results(summary.results)}
    there = [row for row in rows if lines[row.id]["outcome"] == DONE]
    failed = [f"{line['id']}: {line['error']}" for line in summary.failed]
    if not there:
        raise InputError(f"None of the {len(rows)} rows could be made ({'; '.join(failed[:5])}).")
    audio: list[Audio] = []
    size = 0
    for row in there:
        samples, rate = read_audio(spec.out / lines[row.id]["file"])
        size += samples.numel() * samples.element_size()
        if audio and size > MAX_AUDIO_BYTES:
            said = [*said, f"only the first {len(audio)} go on from here: the rest are files alone"]
            break
        audio.append({"waveform": samples[None], "sample_rate": rate})
    base = Path(folder_paths.get_output_directory()).resolve()
    place = spec.out.resolve().relative_to(base).as_posix()
    notes = [f"{summary}; output/{place}", *failed[:_TOLD], *said]
    return audio, [row.id for row in there[: len(audio)]], notes
