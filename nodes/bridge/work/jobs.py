"""What Job from Manifest does: a manifest's rows with the host's nets, kept as files, resumed."""

import hashlib
import json
import uuid
from argparse import Namespace as Values
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import folder_paths

from ....sa3_core.adapters.use import AdapterUse
from ....sa3_core.audio.file import read_audio
from ....sa3_core.audio.formats import FORMATS
from ....sa3_core.audio.levels import Levels
from ....sa3_core.checks import MAX_AUDIO_BYTES
from ....sa3_core.errors import InputError, SA3Error
from ....sa3_core.jobs.defaults import default_values
from ....sa3_core.jobs.fields import COLUMNS, GENERATE
from ....sa3_core.jobs.local import run_here
from ....sa3_core.jobs.manifest import SUFFIXES, read_manifest
from ....sa3_core.jobs.outcome import DONE, RESULTS, Outcome, read_results
from ....sa3_core.jobs.request import extension_of, read_source, request_of
from ....sa3_core.jobs.row import Row
from ....sa3_core.jobs.run import Summary, run_job
from ....sa3_core.jobs.spec import Computing, JobSpec, ModelFiles, source_mark
from ....sa3_core.jobs.worker import Worker
from ....sa3_core.pieces import Take, make_extended, make_pieces
from ..host.folders import library, states_mark
from ..host.progress import Whole
from ..host.running import check_interrupted
from ..sockets.model import require_sa3
from ..sockets.stock_run import LORAS
from ..sockets.vae import require_same
from ..sockets.values import Audio
from .host_nets import HostNets
from .loading import ModelChoice, load_all
from .loras import apply_lora, lora_path
from .names import check_prefix, place_inside

NODE = "Job from Manifest"
FOLDER = "folder"  # the input's name
_DOING = {"encode": "encoding", "sample": "sampling", "decode": "decoding"}
_SHARES = {"encode": (0.0, 0.1), "sample": (0.1, 0.7), "decode": (0.8, 0.2)}  # of a row's time
_SCALE = 1000  # steps of the progress bar per row
_TOLD = 8  # failed rows that the node lists


class _InterruptedError(BaseException):
    """The user's cancel on its way through the worker, which takes exceptions for faults of rows."""


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
    base = Path(folder_paths.get_input_directory()).resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base):
        raise InputError(f"is {name!r}, which lies outside of the input folder.", "manifest")
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
        lines = {
            line["id"]: line for line in read_results(results_folder(folder, manifest) / RESULTS)
        }
    except (SA3Error, OSError):
        return uuid.uuid4().hex
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


class _Studio:
    """Makes takes with the nets of the sockets, or those that a row names."""

    def __init__(self, given: HostNets, report: "_Report") -> None:
        self._given, self._report = given, report
        self._named: tuple[str, HostNets] | None = None
        self._adapted: tuple[tuple[str | None, Sequence[AdapterUse[str]]], HostNets] | None = None

    def takes(self, values: Values) -> Sequence[Take]:
        """What one row, or a batch of rows put together, asks for."""
        try:
            nets, request = self._nets(values), request_of(values)
            on_progress = self._report.begin(request.batch)
            if values.extend_audio:
                source, extension = read_source(values.extend_audio), extension_of(values)
                return make_extended(nets, request, source, extension, on_progress)
            return make_pieces(nets, request, on_progress).takes
        except mm.InterruptProcessingException as error:
            raise _InterruptedError from error

    def close(self) -> None:
        """LoRAs lie on clones, which go with this object."""

    def _nets(self, values: Values) -> HostNets:
        uses = tuple(values.lora or ())
        key = (values.model, uses)
        if self._adapted is None or self._adapted[0] != key:
            self._adapted = None
            nets = self._model(values.model)
            patcher = nets.patcher
            for use in uses:
                patcher, _ = apply_lora(patcher, use, NODE)
            self._adapted = key, HostNets(patcher, nets.clip, nets.vae, nets.say)
        return self._adapted[1]

    def _model(self, name: str | None) -> HostNets:
        if name is None:
            return self._given
        if self._named is None or self._named[0] != name:
            self._named = None  # frees the memory before the next takes some
            self._named = name, HostNets(*load_all(ModelChoice(name)), self._given.say)
        return self._named[1]


class _Report:
    """One progress bar over all rows."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._bar: Any = None
        self._whole = Whole()

    def ended(self, done: int, total: int, outcome: Outcome) -> None:
        """A row has ended."""
        self._done = done
        self._show(float(done), f"row {done} of {total}")

    def begin(self, rows: int) -> Callable[[str, int, int], None]:
        """An `on_progress` for the next batch of rows."""

        def report(stage: str, done: int, total: int) -> None:
            part = stage.rpartition(": ")[2].split()[0]
            offset, share = _SHARES[part]
            first = self._done + 1
            which = f"row {first}" if rows == 1 else f"rows {first}-{first + rows - 1}"
            fraction = rows * (offset + share * done / max(total, 1))
            self._show(self._done + fraction, f"{which} of {self._total}, {_DOING[part]}")

        return report

    def _show(self, rows: float, text: str) -> None:
        check_interrupted()
        whole = max(self._total, 1) * _SCALE
        self._bar = self._bar or comfy.utils.ProgressBar(whole)
        self._bar.update_absolute(min(round(rows * _SCALE), whole), whole)
        self._whole.update(text, min(rows / max(self._total, 1), 1.0))


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
    report = _Report(len(rows))

    def make(number: int) -> Worker:
        return Worker(spec, _Studio(nets, report))

    try:
        summary = run_job(spec, rows, partial(run_here, make), True, report.ended)
    except _InterruptedError as stopped:
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
