"""The helpers other tests lean on."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import make_checkpoint, support
from tests.helpers.loops import finish


def test_rel_l2_is_relative_and_refuses_other_shapes(rel_l2):
    ones = torch.ones(3, 4)
    assert rel_l2(ones * 1.5, ones) == pytest.approx(0.5)
    assert rel_l2(ones, ones) == 0
    with pytest.raises(AssertionError):
        rel_l2(ones, ones[:2])
    with pytest.raises(AssertionError, match="finite"):
        rel_l2(ones * float("nan"), ones)


@pytest.mark.parametrize(
    ("variant", "digest", "checksum"),
    [
        ("tiny-s", "6d0563e7995542c77de62d118e1f4bdd584f8e17babaeec93ee8996aa4485416", 453222.0603),
        ("tiny-m", "cadea56b342afe817f4dd9cd2fec3d99897657bf7662973dfe0c2cda8f0757e3", 459217.5437),
    ],
)
def test_tiny_checkpoints_are_those_the_golden_files_were_made_with(variant, digest, checksum):
    path = support.tiny_checkpoint(variant) / "model.safetensors"
    if hashlib.sha256(path.read_bytes()).hexdigest() == digest:
        return
    # Another CPU may round the last bit of a random number differently, and nothing more.
    weights = load_file(path)
    assert len(weights) == 252
    total = sum(tensor.double().abs().sum().item() for tensor in weights.values())
    assert total == pytest.approx(checksum, rel=1e-7)


@pytest.mark.parametrize(
    ("variant", "tensors", "elements"),
    [
        ("small-music", 685, 567_573_761),
        ("medium", 997, 2_305_495_793),
        ("same-s", 244, 108_244_721),
    ],
)
def test_published_sizes(variant, tensors, elements):
    assert make_checkpoint.count(make_checkpoint.specs_for(variant)[1]) == (tensors, elements)


def test_an_unknown_golden_name_says_what_there_is(golden):
    with pytest.raises(FileNotFoundError, match="no golden file"):
        golden("tiny-s/no-such-file")


def test_tests_is_our_package_whatever_else_is_installed():
    assert Path(support.__file__).parents[1] in map(Path, sys.modules["tests"].__path__)


def test_coroutines_run_where_no_loop_runs_yet():
    """Browser tests leave a loop running in the tests' thread: only `loops.finish` works then."""
    call = "asyncio" + ".run("
    files = (support.ROOT / "tests").rglob("*.py")
    named = [path.name for path in files if call in path.read_text("utf-8")]
    assert named == []


def test_a_coroutine_is_finished_inside_a_running_loop():
    async def inner() -> int:
        return 3

    async def outer() -> int:
        return finish(inner())

    assert finish(outer(), 10) == 3
