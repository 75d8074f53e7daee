"""`sa3 pre-encode`: a folder of recordings becomes a dataset folder; a recording is a job's row."""

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from ..checkpoints.load import load_autoencoder
from ..checkpoints.reader import open_checkpoint
from ..checks import check_whole
from ..codec.autoencode import SAMEAutoencoder, encode
from ..datasets.encode import make_folder, require_some
from ..datasets.encoded import SILENCE
from ..datasets.folder import CaptionRule, Recording, list_recordings
from ..datasets.plan import plan_encoding
from ..files.published import DTYPES
from ..geometry import HOP, samples_of
from ..jobs.encoding import EncodingJob, encoded_of, encoding_worker
from ..jobs.outcome import FAILED, Outcome, read_results
from ..jobs.row import Row
from ..jobs.run import run_job
from ..jobs.spec import ModelFiles
from .files import Bars, find_model, pick_device
from .jobs import JobFailedError, computing_of, engine_of

_TRIED = 6.0  # seconds that a dry run encodes to tell the time


def run_pre_encode(args: argparse.Namespace) -> list[str]:
    """A folder of recordings to a folder of latents; one line per recording.

    Raises:
        JobFailedError: after all others were encoded, where recordings could not be.
        InputError: none of the recordings can be used.
    """
    recordings = list_recordings(args.folder, CaptionRule(args.caption, args.trigger))
    path = find_model(args, args.model, "autoencoder").resolve()
    if args.dry_run:
        device = pick_device(args.device)
        autoencoder = load_autoencoder(path, DTYPES.get(args.precision), device)
        return _encoding_plan(args, recordings, autoencoder)
    check_whole("sample_size", args.sample_size, HOP)
    check_whole("batch", args.batch, 1)
    open_checkpoint(path, ("same",))  # its header alone: the weights are read by the workers
    make_folder(args.out)
    out, model = args.out.resolve(), ModelFiles(path)
    job = EncodingJob(Path.cwd(), out, model, computing_of(args), args.sample_size, args.pad)
    return _told(args, job, job.rows(recordings))


def _told(args: argparse.Namespace, job: EncodingJob, rows: Sequence[Row]) -> list[str]:
    """Encode; what became of each recording, and of all."""
    ended: set[str] = set()
    with Bars() as on_progress:

        def told(done: int, total: int, outcome: Outcome) -> None:
            ended.add(outcome.id)
            on_progress("encode", done, total)

        engine = engine_of(args, partial(encoding_worker, job), job.computing)
        summary = run_job(job, rows, engine, resume=True, on_row=told)
    lines = {line["id"]: line for line in read_results(summary.results)}
    failed = [line for line in summary.failed if line["outcome"] == FAILED]
    if failed:
        first = failed[0]
        raise JobFailedError(
            f"{len(failed)} of {len(rows) - 1} recordings could not be encoded (first "
            f"{first['id']}: {first['error']}). The others are there; run it again for the rest."
        )
    found = [lines[row.id] for row in rows if row.id != SILENCE]
    outcomes = [encoded_of(line, line["id"] in ended) for line in found]
    require_some(outcomes)
    said = [f"{o.status}\t{o.seconds:.2f} s\t{o.relative}\t{o.note}".rstrip() for o in outcomes]
    clips = sum(len(o.names) for o in outcomes)
    (kind, *_) = {line["autoencoder"] for line in found if "autoencoder" in line}
    return [*said, f"{args.out}: {clips} clips of {kind}"]


def _encoding_plan(
    args: argparse.Namespace, recordings: Sequence[Recording], autoencoder: SAMEAutoencoder
) -> list[str]:
    """What encoding would come to, line by line; its time from encoding a moment of silence."""
    half = next(autoencoder.parameters()).dtype == torch.float16
    plan = plan_encoding(recordings, args.sample_size, args.pad, half)
    began = time.perf_counter()
    encode(autoencoder, torch.zeros(1, 2, samples_of(_TRIED)))
    minutes = (time.perf_counter() - began) / _TRIED * plan.seconds / 60
    return [
        *(f"unusable\t{name}\tno caption, or no readable sound" for name in plan.unusable),
        f"clips\t{plan.clips} of {len(recordings) - len(plan.unusable)} recordings",
        f"sound\t{plan.seconds / 60:.1f} minutes",
        f"disk\t{plan.size / 1e6:.1f} MB",
        f"time\tabout {minutes:.1f} minutes",
    ]
