"""NaN and infinite values in whatever reaches a node: refused with names, never saved or shown."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.helpers.editing_support import music

BAD = [float("nan"), float("inf")]


@pytest.fixture
def nodes(small):
    return {name: small.module(f"nodes.{name}") for name in ("latent", "editing", "latent_files")}


def files(folder: Path) -> set[Path]:
    """Everything that was written below a folder."""
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("value", BAD)
def test_a_latent_that_is_not_finite_is_refused_everywhere(small, nodes, comfyui, value):
    """As a stock sampler of another MODEL leaves it; also where only its headroom is bad."""
    latent = small.module("nodes.latent").SA3EmptyLatent.execute(0.4, 2).args[0]
    samples = latent["samples"].clone()
    samples[1, 5, -1] = value
    bad = {**latent, "samples": samples}
    before = files(comfyui)
    hidden = SimpleNamespace(prompt=None, extra_pnginfo=None)
    save = type("Node", (nodes["latent_files"].SA3SaveLatents,), {"hidden": hidden})
    for run in (
        lambda: small.decode(bad),
        lambda: small.sample(bad, steps=1),
        lambda: small.vae.decode(samples),
        lambda: small.vae.decode_tiled(samples),
        lambda: save.execute(bad),
    ):
        with pytest.raises(Exception, match=r"NaN or infinite") as refused:
            run()
        assert "2" in str(refused.value), "the item is named"
    assert files(comfyui) == before


@pytest.mark.parametrize("value", BAD)
def test_a_mask_that_is_not_finite_is_refused_by_its_name(small, nodes, value):
    latent = small.encode(music(0.4))
    mask = torch.zeros(1, 1, latent["samples"].shape[-1])
    mask[..., 3] = value
    bad = {**latent, "noise_mask": mask}
    for run in (
        lambda: small.sample(bad, steps=1),
        lambda: nodes["editing"].SA3InpaintMask.execute(latent=bad, regions="0.1-0.2"),
    ):
        with pytest.raises(ValueError, match="noise_mask has NaN or infinite values"):
            run()


@pytest.mark.parametrize("value", BAD)
def test_a_source_that_is_not_finite_is_no_picture_and_no_sound(small, nodes, comfyui, value):
    """One that another node put on the latent: ours are checked at their socket."""
    latent = small.encode(music(0.4))
    rider = {**latent["sa3_source"]}
    rider["waveform"] = rider["waveform"].clone()
    rider["waveform"][0, 1, 1000] = value
    bad = {**latent, "sa3_source": rider}
    before = files(comfyui)
    with pytest.raises(ValueError, match="source that rides on the latent has NaN or infinite"):
        nodes["editing"].SA3InpaintMask.execute(latent=bad, regions="0.1-0.2")
    assert files(comfyui) == before


@pytest.mark.parametrize("value", BAD)
def test_audio_that_is_not_finite_is_neither_drawn_nor_played(small, comfyui, value):
    bad = music(0.2)
    bad["waveform"][0, 0, 7] = value
    hidden = SimpleNamespace(prompt=None, extra_pnginfo=None)
    before = files(comfyui)
    work = {
        n: importlib.import_module(f"sa3_pack.nodes.bridge.work.{n}")
        for n in ("look", "saving", "compare")
    }
    for run in (
        lambda: work["look"].look(bad, "look", hidden),
        lambda: work["compare"].compare({"A": bad}, None, 0),
        lambda: work["saving"].save(bad, "take", "wav-32f", hidden),
        lambda: small.encode(bad),
    ):
        with pytest.raises(ValueError, match=r"NaN|finite|numbers"):
            run()
    assert files(comfyui) == before
