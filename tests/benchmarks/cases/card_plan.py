"""The questions of `bench card`, what matters most first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from sa3_core.files.published import DTYPES
from sa3_core.networks.quantised import STORAGES, storages_of
from tests.benchmarks.cases.jobs import NO_FLASH
from tests.benchmarks.cases.options import Options

OURS = "ours eager"
PEERS = {"comfyui-sdpa": "ComfyUI", "diffusers": "diffusers"}
STAGES = {
    "text": "text encoder",
    "encode": "encoding",
    "decode": "decoding",
    "t2a": "text to latents",
    "cfg": "text to latents, guidance",
}
RESIDENT = {"1": "all weights on the device", "0.5": "half of them", "0": "none of them"}
# Seconds that a question may take on a card four times as slow as an H200, of which the original's
# times are published: its process and the card's start, the weights, the work with its repetitions.
START = 8.0
WEIGHTS = {"small-music": 3.0, "medium": 8.0}
WORK = {
    "parity": 2.0,
    "forms": 45.0,
    "lora": 8.0,
    "storage": 12.0,
    "product": 4.0,
    "integers": 14.0,
    "training": 15.0,
    "limits": 25.0,
}
PER_SECOND_OF_AUDIO = {"small-music": 0.03, "medium": 0.055}


@dataclass(frozen=True)
class Question:
    """One row of the table.

    Attributes:
        part: `parity`, `forms`, `speed`, `lora`, `storage`, `training`, `loading` or `limits`.
        what: for the table.
        precision: of the computation, or of storage.
        work: a name of QUESTIONS.
        device: where.
        variant: of the checkpoint; tiny ones are for trying it out.
        seconds_of_audio: how much, 0 = it does not matter.
        form: implementation, adapter type, stage: what the work asks for.
        chunk: latents per chunk, None = whole.
        unable: why it cannot be asked here.
    """

    part: str
    what: str
    precision: str
    work: str
    device: str
    variant: str
    seconds_of_audio: float = 0.0
    form: str = ""
    chunk: int | None = None
    unable: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.part}: {self.what} ({self.precision})"

    @property
    def dtype(self) -> torch.dtype:
        """Of the computation."""
        return DTYPES.get(self.precision, torch.float32)


def expected_seconds(questions: Iterable[Question]) -> float:
    """What all of them may take on a card; an estimate, nothing is known of the card."""
    able = [q for q in questions if not q.unable]
    return START * len(list(together(able))) + sum(
        WEIGHTS.get(q.variant, 0.0)
        + WORK.get(q.work, 0.0)
        + PER_SECOND_OF_AUDIO.get(q.variant, 0.0) * q.seconds_of_audio
        for q in able
    )


def together(questions: Iterable[Question]) -> Iterator[list[Question]]:
    """Those that one process answers: parity's of a variant, of which no time or memory is told."""
    key = lambda q: (q.part, q.variant) if q.part == "parity" else q.name  # noqa: E731
    for _, group in itertools.groupby(questions, key):
        yield list(group)


def plan(device: str, options: Options) -> list[Question]:
    """All questions; what matters most comes first."""
    found = [*_parity(device), *_forms(device)]
    small, medium = ("tiny-s", "tiny-m") if options.quick else ("small-music", "medium")
    sizes = [(small, 30.0), (small, 120.0), (medium, 30.0), (medium, 120.0), (medium, 380.0)]
    if options.quick:
        sizes = [(small, 1.0), (medium, 1.0)]
    half = "fp32" if device == "cpu" else "bf16"
    forms = {OURS: "this pack", **(PEERS if options.peers else {})}
    for variant, seconds in sizes:
        pieces = [
            (f"{seconds:g} s, 8 steps, {name}", f"generation/{form}", None)
            for form, name in forms.items()
        ]
        pieces += [
            (f"decode {seconds:g} s {'in chunks' if chunk else 'whole'}", f"decode/{OURS}", chunk)
            for chunk in (None, 64)
        ]
        found += [
            Question(
                "speed", f"{variant} {what}", half, "job", device, variant, seconds, form, chunk
            )
            for what, form, chunk in pieces
        ]
    length = sizes[0][1]
    for kind in ("none", "lora", "dora-rows"):
        found.append(
            Question(
                "lora", f"{small} {length:g} s, {kind}", half, "lora", device, small, length, kind
            )
        )
    for storage in STORAGES:
        missing = storage not in storages_of(torch.device(device))
        why = f"{device} has no numbers of 8 bits with exponents" if missing else ""
        found.append(
            Question(
                "storage",
                f"{small} {length:g} s",
                storage,
                "storage",
                device,
                small,
                length,
                storage,
                unable=why,
            )
        )
    found += _integers(device, small, half, sorted({seconds for _, seconds in sizes[:2]}))
    for kind in ("lora", "dora-rows"):
        size = "quick" if options.quick else "small"
        found.append(
            Question(
                "training",
                f"{size}, {kind}, a step",
                "fp32",
                "training",
                device,
                size,
                2.0 if options.quick else 47.0,
                kind,
            )
        )
    for variant in (small, medium):
        found.append(Question("loading", variant, half, "loading", device, variant))
    for share, name in RESIDENT.items():
        found.append(
            Question(
                "limits",
                f"{small}, {name}",
                half,
                "limits",
                device,
                small,
                length,
                share,
            )
        )
    return found


def _integers(device: str, variant: str, half: str, lengths: list[float]) -> Iterable[Question]:
    """int8 by products of whole numbers: a layer, and whole generations against widened weights."""
    why = "" if device in ("cpu", "cuda") else f"{device} multiplies no whole numbers"
    host = "" if device == "cuda" else "comfy_kitchen's kernels are for cards"
    for form, unable in (("ours", why), ("comfy_kitchen", host)):
        for precision in dict.fromkeys(("fp32", half)):
            yield Question(
                "forms",
                f"{variant} int8 layers in whole numbers by {form}, against float64",
                precision,
                "product",
                device,
                variant,
                form=form,
                unable=unable,
            )
    for length in lengths:
        yield Question(
            "storage",
            f"{variant} {length:g} s, whole numbers against widened",
            half,
            "integers",
            device,
            variant,
            length,
            unable=why,
        )


def _parity(device: str) -> Iterable[Question]:
    for variant in ("tiny-s", "tiny-m"):
        for precision in DTYPES:
            for stage, name in STAGES.items():
                why = ""
                if stage == "text" and precision == "fp16":
                    why = "the text encoder overflows in float16 and is never run in it"
                yield Question(
                    "parity",
                    f"{variant} {name}",
                    precision,
                    "parity",
                    device,
                    variant,
                    form=stage,
                    unable=why,
                )


def _forms(device: str) -> Iterable[Question]:
    card = device == "cuda"
    forms = {
        f"{OURS}{NO_FLASH}": (
            "without flash-attn",
            "" if card else "flash-attn runs on NVIDIA cards alone",
        ),
        "ours compile": ("compiled", ""),
        "ours graph": ("as a CUDA graph", "" if card else "CUDA graphs need an NVIDIA card"),
    }
    for variant in ("tiny-s", "tiny-m"):
        for form, (name, why) in forms.items():
            precision = "bf16" if card else "fp32"
            yield Question(
                "forms",
                f"{variant}, {name}",
                precision,
                "forms",
                device,
                variant,
                1.5,
                form,
                unable=why,
            )
