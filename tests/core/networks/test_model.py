"""What a generator knows of its own limits, and which compilers it takes."""

from __future__ import annotations

import pytest

from sa3_core.checkpoints.load import load_model
from sa3_core.errors import InputError
from sa3_core.networks.model import max_seconds


def test_the_longest_piece_is_whole_seconds():
    assert max_seconds(5_292_032) == 120
    assert max_seconds(16_777_216) == 380


def test_compilers_that_do_not_run_here_are_refused(tiny_s):
    model = load_model(tiny_s)
    with pytest.raises(InputError, match="one of inductor, cudagraphs"):
        model.compile("jit")
    with pytest.raises(InputError, match="needs an NVIDIA card"):
        model.compile("cudagraphs")
    assert model.net is model.dit
