"""The answers of `bench card` as a page to hand in."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from tests.benchmarks.cases.card_plan import OURS, Question
from tests.benchmarks.measuring import machine
from tests.benchmarks.report import size, version_of
from tests.helpers.support import ROOT, comfyui_root

HEADER = ("what", "precision", "seconds", "peak memory", "difference", "agrees", "remark")
ALWAYS = 2  # columns; others are left out of a table in which they are empty
PACKAGES = ("torch", "diffusers", "flash-attn")
TITLES = {
    "parity": "Parity: each stage of toy models on this device, held to the stored results of the "
    "original implementation",
    "forms": "Forms: the same work in other ways, held to the plain one unless the row says more",
    "speed": "Speed: 8 steps of the transformer, beside other implementations, and decoding",
    "lora": "LoRA: 8 steps with one of rank 16 on each feed-forward, or with none",
    "storage": "Storage: 8 steps with weights in 8 bits, and how far from float32 or what is said",
    "training": "Training: one step of a LoRA of rank 16, blocks computed again on the way back",
    "loading": "Loading: from the file to a transformer on the device",
    "limits": "Limits: 8 steps of 10 s in ComfyUI, which lends room for a part of the weights; "
    "held to the result with all of them",
}
MEMORY = {
    "cuda": "the most that torch's tensors held on the card, weights included",
    "mps": "what torch took of the system for the card, weights included",
    "cpu": "the most that the process took beside what it held before, weights not included",
}


@dataclass(frozen=True)
class Answer:
    """What came of a question.

    Attributes:
        seconds: of the work, None = nothing was timed.
        memory: highest bytes while it ran, as MEMORY says.
        difference: relative L2 to what it should be.
        limit: of the difference.
        remark: why there is no number, or what else there is to know.
        failed: whether it could not be done.
    """

    seconds: float | None = None
    memory: float | None = None
    difference: float | None = None
    limit: float | None = None
    remark: str = ""
    failed: bool = False

    @property
    def agrees(self) -> bool | None:
        """None = there is nothing to agree with."""
        if self.difference is None or self.limit is None:
            return None
        return self.difference <= self.limit


Found = list[tuple[Question, Answer]]


def report(device: str, found: Found, quick: bool) -> str:
    """The page, as Markdown.

    Args:
        device: all of it ran on.
        found: questions in the order of the plan, with their answers.
        quick: toy models were measured.
    """
    lines = [
        *(f"# Card: {device}", "", f"{machine.describe()}.", "", f"{versions()}.", ""),
        *(*summary(found), ""),
    ]
    if quick:
        lines += ["Toy models (`--quick`): their times and memory tell nothing of real ones.", ""]
    lines += [
        "To hand in, send this page and `bench_card.json` beside it. Seconds are medians of three "
        f"runs after a first one. Peak memory is {MEMORY[device]}. A difference is relative L2.",
        "",
    ]
    for part, title in TITLES.items():
        group = [(question, answer) for question, answer in found if question.part == part]
        lines += [f"## {title}", "", *_table(group), ""] if group else []
    return "\n".join(lines)


def versions() -> str:
    """Of this pack and of what it is measured with and beside."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    known = [f"ComfyUI-SA3 {commit or 'of no known commit'}", f"Python {platform.python_version()}"]
    return ", ".join([*known, f"ComfyUI {_comfyui()}", *(f"{p} {version_of(p)}" for p in PACKAGES)])


def _comfyui() -> str:
    try:
        text = (comfyui_root() / "comfyui_version.py").read_text("utf-8")
    except OSError:
        return "not found"
    named = re.search(r'__version__ = "(.+)"', text)
    return named[1] if named else "of no known version"


def summary(found: Found) -> list[str]:
    """What to read first: whether all agrees, and what has no answer."""
    held = [(q, a) for q, a in found if a.agrees is not None]
    wrong = [q.name for q, a in held if not a.agrees]
    broken = [q.name for q, a in found if a.failed]
    told = sum(a.seconds is not None or a.difference is not None for _, a in found)
    left = len(found) - told - len(broken)
    lines = [f"{told} of {len(found)} questions have an answer."]
    if left:
        lines.append(f"{left} do not apply here; the remark says why.")
    if broken:
        lines.append(f"**{len(broken)} could not be answered: {'; '.join(broken)}.**")
    if wrong:
        lines.append(f"**{len(wrong)} of {len(held)} results DISAGREE: {'; '.join(wrong)}.**")
    elif held:
        lines.append(f"All {len(held)} results that have something to agree with agree.")
    return lines


def _table(group: Found) -> list[str]:
    rows = [cells(q, a)[1:] for q, a in _compared(group)]
    used = [i for i in range(len(HEADER)) if i < ALWAYS or any(row[i] for row in rows)]
    picked = [[row[i] for i in used] for row in (HEADER, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in picked]
    return [lines[0], "|" + "---|" * len(used), *lines[1:]]


def _compared(group: Found) -> Iterable[tuple[Question, Answer]]:
    """Say of other implementations how long they take beside ours, which is asked first."""
    ours: dict[tuple[str, float], float] = {}
    for question, answer in group:
        part, _, form = question.form.partition("/")
        same = question.variant, question.seconds_of_audio
        if question.work == "job" and part == "generation" and answer.seconds:
            if form == OURS:
                ours[same] = answer.seconds
            elif same in ours:
                times = f"{answer.seconds / ours[same]:.2f} times as long as this pack"
                yield question, Answer(answer.seconds, answer.memory, remark=times)
                continue
        yield question, answer


def cells(question: Question, answer: Answer) -> list[str]:
    """A row with its part before it; what there is not is empty."""
    difference = ""
    if answer.difference is not None:
        difference = f"{answer.difference:.1e}"
        if answer.limit is not None:
            difference += f" (at most {answer.limit:.0e})"
    return [
        *(question.part, question.what, question.precision),
        "" if answer.seconds is None else f"{answer.seconds:.3g}",
        "" if answer.memory is None else size(answer.memory),
        difference,
        {True: "yes", False: "NO", None: ""}[answer.agrees],
        answer.remark.replace("|", "/").replace("\n", " "),
    ]
