"""The helpers other tests lean on."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch

from tests import support


def test_rel_l2_is_relative_and_refuses_other_shapes(rel_l2):
    ones = torch.ones(3, 4)
    assert rel_l2(ones * 1.5, ones) == pytest.approx(0.5)
    assert rel_l2(ones, ones) == 0
    with pytest.raises(AssertionError):
        rel_l2(ones, ones[:2])
    with pytest.raises(AssertionError, match="finite"):
        rel_l2(ones * float("nan"), ones)


@pytest.mark.parametrize(
    ("variant", "digest"),
    [
        ("tiny-s", "6d0563e7995542c77de62d118e1f4bdd584f8e17babaeec93ee8996aa4485416"),
        ("tiny-m", "cadea56b342afe817f4dd9cd2fec3d99897657bf7662973dfe0c2cda8f0757e3"),
    ],
)
def test_tiny_checkpoints_are_those_the_golden_files_were_made_with(variant, digest):
    weights = support.tiny_checkpoint(variant) / "model.safetensors"
    if hashlib.sha256(weights.read_bytes()).hexdigest() != digest:
        pytest.skip("another CPU or torch rounds the random numbers differently in the last bit")


def test_an_unknown_golden_name_says_what_there_is(golden):
    with pytest.raises(FileNotFoundError, match="no golden file"):
        golden("tiny-s/no-such-file")


def test_tests_is_our_package_whatever_else_is_installed():
    assert Path(support.__file__).parent in map(Path, sys.modules["tests"].__path__)
