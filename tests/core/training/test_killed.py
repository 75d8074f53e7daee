"""Processes that are killed while they train, or whose disk fills up, go on to the same file."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.killed_training import FAILED, FULL, KILLED, LORA, SETTINGS, STAGES
from tests.helpers.support import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows starts no child so")


SHORT = ("between LoRA and state", "behind the state", FULL[1])


def trained(out: Path, stages: Sequence[str]) -> Path:
    command = [sys.executable, "-m", "tests.helpers.killed_training", str(out), *stages]
    subprocess.run(command, cwd=ROOT, check=True, timeout=560)
    return out


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("few"), SHORT)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("many"), [s for s in STAGES if s not in SHORT])


@pytest.mark.parametrize("stage", SHORT)
def test_it_goes_on_to_the_same_file_bit_for_bit(few, stage):
    check(few, stage)


@pytest.mark.soak
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in SHORT])
def test_so_it_does_at_every_other_stage(many, stage):
    check(many, stage)


def check(runs: Path, stage: str) -> None:
    """What was ended at a stage and gone on with is what was never ended."""
    folder, whole = runs / stage.replace(" ", "_"), runs / "whole"
    first, second = map(int, (folder / "codes.txt").read_text("utf-8").split())
    assert first == (FAILED if stage in FULL else KILLED)
    assert second == 0
    numbered = [f"lora-{step:06}.safetensors" for step in range(1, SETTINGS.steps + 1)]
    for name in (LORA, "training.state", *numbered[2:]):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    with (folder / "log.csv").open(encoding="utf-8") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 2, 3, 4]
    assert not list(folder.glob(".*.part"))  # what the killed process had begun
