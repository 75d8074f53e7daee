"""`sa3 generate --from` and `sa3 decode --from`: the rows of a manifest."""

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ..audio.formats import format_for
from ..checkpoints.reader import open_checkpoint
from ..errors import SA3Error
from ..jobs.defaults import ALSO
from ..jobs.fields import COLUMNS, GENERATE, READERS
from ..jobs.local import MakerOf, run_here, run_processes
from ..jobs.manifest import read_manifest
from ..jobs.outcome import Outcome
from ..jobs.ray_engine import run_ray
from ..jobs.run import Engine, Summary, run_job
from ..jobs.spec import Computing, JobSpec, ModelFiles
from ..jobs.worker import worker_of
from ..registry import AUTO
from .files import (
    Bars,
    find_autoencoder,
    find_model,
    find_text_encoder,
    pick_chunk,
    pick_device,
    pick_dtype,
    pick_levels,
    pick_storage,
)
from .loras import find_lora

log = logging.getLogger(__name__)


class JobFailedError(SA3Error):
    """Some rows were not made; the results say which."""


def run_manifest(args: argparse.Namespace) -> list[str]:
    """Make what a manifest asks for; the path of the results.

    Raises:
        JobFailedError: after all others were made, where rows failed.
    """
    work = args.command
    names = (*READERS, *ALSO) if work == GENERATE else COLUMNS[work].readers
    defaults = argparse.Namespace(**{name: getattr(args, name, None) for name in names})
    files = _Files(args, {}, {})
    computing = computing_of(args)
    levels = pick_levels(args)
    audio_format = format_for(Path(f"x.{args.format or 'flac'}"), args.bits)
    rows = read_manifest(args.manifest, defaults, files.faults, work)
    spec = JobSpec(
        defaults=defaults,
        folder=args.manifest.resolve().parent,
        out=args.out.resolve(),
        models=files.models,
        loras=files.loras,
        audio_format=audio_format,
        levels=levels,
        computing=computing,
        shards=args.shards is not None,
        work=work,
    )
    with Bars() as on_progress:

        def told(done: int, total: int, outcome: Outcome) -> None:
            if outcome.error:
                log.warning("%s: %s", outcome.id, outcome.error)
            on_progress("rows", done, total)

        engine = engine_of(args, partial(worker_of, spec), computing)
        summary = run_job(spec, rows, engine, args.resume, told)
    return _told(summary)


def _told(summary: Summary) -> list[str]:
    log.info("%s: %s.", summary.results.parent, summary)
    if summary.failed:
        first = summary.failed[0]
        raise JobFailedError(
            f"{summary} (first {first['id']}: {first['error']}). {summary.results} has all; "
            "--resume tries the failed ones again."
        )
    if summary.loose:
        raise JobFailedError(
            f"{summary}, but {summary.loose} lie singly: their shards could not be written. "
            "--resume packs them."
        )
    return [str(summary.results)]


def computing_of(args: argparse.Namespace) -> Computing:
    """How the workers of a command compute."""
    threads = args.threads_per_worker
    if threads is None and args.workers > 1:
        threads = max(1, torch.get_num_threads() // args.workers)
    return Computing(
        objective=getattr(args, "objective", AUTO),
        dtype=pick_dtype(args.precision),
        storage=pick_storage(args.precision),
        device="cuda" if args.gpus_per_worker else str(pick_device(args.device)),
        chunk=pick_chunk(getattr(args, "chunk", 0)),
        noise_seed=args.noise_seed if getattr(args, "decoder_noise", False) else None,
        threads=threads,
        batch=args.batch,
    )


def engine_of(args: argparse.Namespace, make: MakerOf, computing: Computing) -> Engine:
    """What runs the workers of a command."""
    if args.engine == "ray":
        gpus, threads = _gpus(args, computing.device), computing.threads
        return partial(run_ray, make, workers=args.workers, gpus=gpus, threads=threads)
    if args.workers == 1:
        return partial(run_here, make)
    return partial(run_processes, make, workers=args.workers)


def _gpus(args: argparse.Namespace, device: str) -> float:
    """Of an actor: where a cluster is joined, this machine may have none itself."""
    if args.gpus_per_worker is not None:
        return args.gpus_per_worker
    return 1.0 if device.startswith("cuda") else 0.0


@dataclass(frozen=True)
class _Files:
    """The files of models and LoRAs that rows name, looked up once each."""

    args: argparse.Namespace
    models: dict[str, ModelFiles]
    loras: dict[str, Path]

    def faults(self, values: argparse.Namespace) -> Iterator[tuple[str, str]]:
        """What a row names and is not there."""
        try:
            if values.model is None:
                yield "model", "is missing; give the column, or --model for all rows."
            elif values.model not in self.models:
                self.models[values.model] = self._model(values.model)
        except SA3Error as error:
            yield "model", str(error)
        for use in getattr(values, "lora", None) or ():
            try:
                path = find_lora(self.args, use.lora).resolve()
            except SA3Error as error:
                yield "lora", str(error)
                continue
            self.loras[use.lora] = path
            if not path.is_file():
                yield "lora", f"{use.lora}: no such file."

    def _model(self, name: str) -> ModelFiles:
        if self.args.command != GENERATE:
            path = find_model(self.args, name, "autoencoder").resolve()
            open_checkpoint(path, ("same",))
            return ModelFiles(path)
        model = find_model(self.args, name, "model").resolve()
        open_checkpoint(model, ("dit",))  # its header alone: the weights are read by the workers
        encoder = find_text_encoder(self.args, model).resolve()
        return ModelFiles(model, encoder, find_autoencoder(self.args, model).resolve())
