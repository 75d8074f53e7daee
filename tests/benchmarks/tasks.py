"""What is measured: rows of jobs with their necessary FLOPs and what they are to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sa3_core.config import DiTConfig, SAMEConfig
from sa3_core.geometry import valid_frames
from sa3_core.pipeline import own_text_encoder
from sa3_core.t5gemma_file import read_encoder_file

from . import flops
from .checkpoints import checkpoint
from .jobs import PROMPT_TOKENS, Job, latent_frames, model_config

PARITY = 1e-4  # relative L2 between implementations in fp32
COMFYUI = ("comfyui", "comfyui-sdpa")
GB = 1e9


@dataclass(frozen=True)
class Target:
    """What our implementation is to reach.

    Attributes:
        limit: at least this share of the machine's limit.
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
        flops: that the result needs.
        implementations: ours first.
        rounds: how often each is measured.
        warm: a shorter job that is run before, None = the job itself.
        result: rows of equal `result` must agree; the first in fp32 is what others are held to.
        target: ours.
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


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        quick: toy sizes.
        rounds: instead of each row's own number.
        peers: other implementations too.
        slow: also those that take minutes.
    """

    quick: bool = False
    rounds: int | None = None
    peers: bool = True
    slow: bool = False

    def pick(self, row: Row) -> Row:
        """The row as this plan wants it."""
        row = row if self.rounds is None else replace(row, rounds=self.rounds)
        row = row if self.peers else replace(row, implementations=row.implementations[:1])
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
    config = read_encoder_file(own_text_encoder(job.path)).config
    return flops.text_encoder(config, PROMPT_TOKENS)


def dit(plan: Plan) -> list[Row]:
    """The small DiT, one generation of 8 pingpong steps."""
    folder = str(checkpoint("tiny-s" if plan.quick else "small-music"))
    peers = (*COMFYUI, "diffusers")
    targets = {10.0: (1.2, 3), 30.0: (1.15, 2), 120.0: (1.1, 1)}
    rows = []
    for dtype in ("fp32", "bf16"):
        for seconds, (ratio, rounds) in targets.items():
            job = Job("generation", folder, dtype, seconds / (10 if plan.quick else 1))
            target = Target(0.85, ratio) if dtype == "fp32" else Target(0.7)
            rows.append(
                Row(
                    **{
                        "task": "dit",
                        "name": f"DiT small, {job.steps} steps",
                        "length": job.seconds,
                    },
                    **{"job": job, "flops": generation_flops(job), "rounds": rounds},
                    implementations=("ours", *peers),
                    warm=replace(job, steps=1),
                    result=f"generation {seconds}",
                    target=target,
                )
            )
    return rows


TASKS: dict[str, Callable[[Plan], list[Row]]] = {"dit": dit}
