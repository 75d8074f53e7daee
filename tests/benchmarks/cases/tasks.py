"""What is measured: rows of jobs with their necessary FLOPs and what they are to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sa3_core.checkpoints.library import Library
from sa3_core.geometry import effective_frames, valid_frames
from sa3_core.networks.config import DiTConfig, SAMEConfig
from sa3_core.text.encoder_file import read_encoder_file
from tests.benchmarks.cases.jobs import PROMPT_TOKENS, Job, is_ours, latent_frames, model_config
from tests.benchmarks.checkpoints import checkpoint
from tests.benchmarks.measuring import flops

PARITY = 1e-4  # relative L2 between implementations in fp32
CHUNK = 64  # latents
COMFYUI = ("comfyui", "comfyui-sdpa")
GB = 1e9


@dataclass(frozen=True)
class Target:
    """What our implementation is to reach.

    Attributes:
        limit: at least this share of the limit that torch's own matmul sets.
        ratio: the fastest peer takes at least this many times as long.
        memory: at most this many bytes above the weights.
    """

    limit: float | None = None
    ratio: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Row:
    """One job for several implementations.

    Attributes:
        task: what `--only` knows it by.
        name: for the table.
        length: seconds of audio, for the table.
        job: what to compute.
        flops: that the result needs in the job's dtype.
        implementations: ours first.
        rounds: how often each is measured.
        warm: a shorter job that is run before each round, None = the job itself, before the first.
        result: rows of equal `result` must agree; the first in fp32 is what others are held to.
        target: ours.
        fp32_flops: further ones, of parts that compute in fp32 whatever the job's dtype is.
    """

    task: str
    name: str
    length: float
    job: Job
    flops: float
    implementations: tuple[str, ...]
    rounds: int
    warm: Job | None = None
    result: str = ""
    target: Target = Target()
    fp32_flops: float = 0.0


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        quick: toy sizes.
        rounds: instead of each row's own number.
        peers: other implementations too.
        slow: also those that take minutes.
        reference: the original implementation too.
    """

    quick: bool = False
    rounds: int | None = None
    peers: bool = True
    slow: bool = False
    reference: bool = False

    def length(self, seconds: float) -> float:
        """Seconds of audio to compute in place of `seconds`."""
        return seconds / 20 if self.quick else seconds

    def only_slow(self, *names: str) -> tuple[str, ...]:
        """Implementations that take minutes, where they are wanted."""
        return names if self.slow or self.quick else ()

    def peers_on_short(self) -> tuple[str, ...]:
        """Peers on short sequences, where ComfyUI's two attentions differ by less than noise."""
        return "comfyui-sdpa", "diffusers", *self.only_slow("comfyui"), *self.original()

    def original(self) -> tuple[str, ...]:
        """The original implementation, where a checkout of it was named."""
        return ("reference",) if self.reference else ()

    def pick(self, row: Row) -> Row:
        """The row as this plan wants it."""
        row = row if self.rounds is None else replace(row, rounds=self.rounds)
        if not self.peers:
            own = tuple(name for name in row.implementations if is_ours(name))
            row = replace(row, implementations=own)
        return replace(row, rounds=1) if self.quick and self.rounds is None else row


def _dit_config(folder: Path) -> DiTConfig:
    config = model_config(folder).dit
    assert config is not None
    return config


def _same_config(folder: Path) -> SAMEConfig:
    config = model_config(folder).same
    assert config is not None
    return config


def generation_flops(job: Job) -> float:
    """Of the DiT and its conditioning in one generation."""
    frames = valid_frames(job.seconds, latent_frames(job))
    return flops.generation(_dit_config(job.path), frames, PROMPT_TOKENS, job.steps)


def text_flops(job: Job) -> float:
    """Of the text encoder on one prompt."""
    config = read_encoder_file(Library({}).text_encoder_for(job.path)).config
    return flops.text_encoder(config, PROMPT_TOKENS)


def dit(plan: Plan) -> list[Row]:
    """The small DiT, one generation of 8 pingpong steps."""
    folder = str(checkpoint("tiny-s" if plan.quick else "small-music"))
    rows = []
    for dtype in ("fp32", "bf16"):
        for seconds, ratio, rounds in ((10.0, 1.2, 4), (30.0, 1.15, 3), (120.0, 1.1, 2)):
            job = Job("generation", folder, dtype, plan.length(seconds))
            row = Row(
                task="dit",
                name=f"DiT small, {job.steps} steps",
                length=seconds,
                job=job,
                flops=generation_flops(job),
                implementations=("ours", *plan.peers_on_short()),
                rounds=rounds,
                warm=replace(job, steps=1),
                result=f"generation {seconds}",
                target=Target(0.85, ratio) if dtype == "fp32" else Target(0.7),
            )
            rows.append(row)
    return rows


def same_s(plan: Plan) -> list[Row]:
    """SAME-S, encoding and decoding."""
    folder = str(checkpoint("tiny-s" if plan.quick else "small-music"))
    rows = []
    for seconds, rounds in ((30.0, 3), (120.0, 2)):
        for part, count in (("encode", flops.same_encode), ("decode", flops.same_decode)):
            job = Job(part, folder, "fp32", plan.length(seconds))
            row = Row(
                task="same-s",
                name=f"SAME-S {part}",
                length=seconds,
                job=job,
                flops=count(_same_config(job.path), latent_frames(job)),
                implementations=("ours", *plan.peers_on_short()),
                rounds=rounds,
                warm=replace(job, seconds=plan.length(10.0)),
                result=f"same-s {part} {seconds}",
                target=Target(0.8, 1.25 if seconds == 120.0 else None),
            )
            rows.append(row)
    return rows


def same_l(plan: Plan) -> list[Row]:
    """SAME-L: decoding beside the peers, then lengths that only ours can, whole and in chunks."""
    folder = str(checkpoint("tiny-m" if plan.quick else "same-l"))
    quickly = ("ours", "comfyui-sdpa", "diffusers", *plan.original())
    shortly = ("ours", *COMFYUI, "diffusers", *plan.original())
    rows = [
        _same_l_row(plan, folder, 10.0, shortly, Target(0.8), 1),
        # ComfyUI's own choice takes minutes
        _same_l_row(plan, folder, 30.0, quickly + plan.only_slow("comfyui"), Target(0.8, 2.0), 1),
        _same_l_row(plan, folder, 120.0, ("ours",), Target(0.8), 1),
        _same_l_row(plan, folder, 380.0, ("ours",), Target(0.8, memory=4 * GB), 1),
    ]
    chunked = [
        replace(
            row,
            name="SAME-L decode, in chunks",
            job=replace(row.job, chunk=CHUNK),
            target=Target(memory=GB),
        )
        for row in rows[2 if plan.slow or plan.quick else 3 :]
    ]
    return [*rows, *chunked]


def _same_l_row(
    plan: Plan,
    folder: str,
    seconds: float,
    implementations: tuple[str, ...],
    target: Target,
    rounds: int,
) -> Row:
    job = Job("decode", folder, "fp32", plan.length(seconds))
    return Row(
        task="same-l",
        name="SAME-L decode",
        length=seconds,
        job=job,
        flops=flops.same_decode(_same_config(job.path), latent_frames(job)),
        implementations=implementations,
        rounds=rounds,
        warm=replace(job, seconds=plan.length(2.0)),
        result=f"same-l decode {seconds}",
        target=target,
    )


def text(plan: Plan) -> list[Row]:
    """The text encoder on a short prompt; its peer runs what the published pipeline runs."""
    folder = str(checkpoint("tiny-s" if plan.quick else "small-music"))
    job = Job("text", folder, "fp32")
    row = Row(
        task="text",
        name=f"T5Gemma, {PROMPT_TOKENS} tokens",
        length=0.0,
        job=job,
        flops=text_flops(job),
        implementations=("ours", "transformers"),
        rounds=10,
        result="text",
    )
    return [row]


def pipeline(plan: Plan) -> list[Row]:
    """Text-to-audio from the prompt to samples, everything loaded."""
    folder = str(checkpoint("tiny-s" if plan.quick else "small-music"))
    rows = []
    for dtype, share in (("fp32", 0.83), ("bf16", 0.65)):
        job = Job("pipeline", folder, dtype, plan.length(30.0))
        decode = flops.same_decode(_same_config(job.path), effective_frames(job.seconds))
        row = Row(
            task="pipeline",
            name=f"Text-to-audio small, {job.steps} steps",
            length=30.0,
            job=job,
            flops=generation_flops(job),
            fp32_flops=text_flops(job) + decode,
            implementations=("ours",),
            rounds=3,
            warm=replace(job, steps=1),
            result="pipeline",
            target=Target(share),
        )
        rows.append(row)
    return rows


TASKS: dict[str, Callable[[Plan], list[Row]]] = {
    "dit": dit,
    "same-s": same_s,
    "same-l": same_l,
    "text": text,
    "pipeline": pipeline,
}
