"""What type checkers see of the public names; `python dev.py lint` checks it, nothing runs it."""

from pathlib import Path

import torch
from typing_extensions import assert_type

import sa3_core


def names_have_their_types(path: Path, pipeline: sa3_core.Pipeline) -> None:
    """Each line fails in pyright as soon as a name is Any or something else."""
    request = sa3_core.GenerateRequest(prompts=["warm pad"], seconds=[30.0])
    result = sa3_core.generate(pipeline, request)
    assert_type(result, sa3_core.Generation)
    assert_type(result.takes[0].audio, torch.Tensor)
    assert_type(sa3_core.load_pipeline(path), sa3_core.Pipeline)
    assert_type(sa3_core.load_model(path), sa3_core.SA3Model)
    assert_type(sa3_core.load_autoencoder(path), sa3_core.SAMEAutoencoder)
    assert_type(sa3_core.read_adapter(path), sa3_core.AdapterFile)
    assert_type(sa3_core.read_latents(path), sa3_core.Latents)
    assert_type(sa3_core.read_audio(path), tuple[torch.Tensor, int])
    assert_type(sa3_core.prepare_source(torch.zeros(2, 9), 44100), torch.Tensor)
    assert_type(sa3_core.SAMPLERS.names, list[str])
