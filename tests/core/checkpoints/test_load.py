"""What a loaded generator knows about itself."""

from __future__ import annotations

import pytest
import torch

from sa3_core.checkpoints.load import find_objective, find_sample_size, load_model
from sa3_core.errors import InputError
from sa3_core.networks.config import DiTConfig, ModelConfig

PLAIN = ModelConfig(DiTConfig(1024, 20, 16, False), None)
DIFFERENTIAL = ModelConfig(DiTConfig(1536, 24, 24, True), None)
STATED = ModelConfig(PLAIN.dit, None, objective="rectified_flow", sample_size=1_000_000)


@pytest.mark.parametrize(
    ("config", "name", "wanted", "expected"),
    [
        (STATED, "small-music", "rf_denoiser", ("rf_denoiser", "chosen")),
        (STATED, "small-music", "auto", ("rectified_flow", "model_config.json")),
        (PLAIN, "checkpoints/stable_audio_3_medium_base.safetensors", "auto", "base"),
        (PLAIN, "stable_audio_3_small_sfx_base", "auto", "base"),
        (PLAIN, "stable_audio_3_small_sfx", "auto", "post-trained"),
        (PLAIN, "my_finetune_base", "auto", "base"),
        (PLAIN, "bassline", "auto", "post-trained"),
    ],
)
def test_the_objective_is_chosen_then_read_then_told_by_the_name(config, name, wanted, expected):
    by_name = {
        "base": ("rectified_flow", "the file's name"),
        "post-trained": ("rf_denoiser", "the file's name"),
    }
    assert find_objective(config, name, wanted) == by_name.get(expected, expected)


def test_an_unknown_objective_is_refused():
    with pytest.raises(InputError, match="one of auto, rf_denoiser, rectified_flow"):
        find_objective(PLAIN, "x", "v")


def test_the_sample_size_is_read_or_that_of_the_published_architecture():
    assert find_sample_size(STATED) == 1_000_000
    assert find_sample_size(PLAIN) == 5_292_032
    assert find_sample_size(DIFFERENTIAL) == 16_777_216


def test_a_loaded_model_carries_its_limits(tiny_m):
    model = load_model(tiny_m)
    assert model.name == "tiny-m"
    assert (model.objective, model.max_frames, model.max_seconds) == ("rf_denoiser", 4096, 380)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
