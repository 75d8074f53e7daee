"""Empty latents of ComfyUI's own audio nodes in SA3 Sampler."""

from __future__ import annotations

import importlib

import pytest
import torch


@pytest.fixture(scope="module")
def stock(pack):
    import_module = importlib.import_module
    ace, audio = (import_module(f"comfy_extras.nodes_{name}") for name in ("ace", "audio"))
    return {
        "audio": audio.EmptyLatentAudio,
        "ace": ace.EmptyAceStepLatentAudio,
        "ace15": ace.EmptyAceStep15LatentAudio,
    }


@pytest.mark.parametrize("seconds", [1.0, 1.7, 2.5])
def test_empty_latent_audio_is_an_empty_latent_of_its_duration(small, stock, seconds):
    given = stock["audio"].execute(seconds, 2).args[0]
    ours = small.module("nodes.latent").SA3EmptyLatent.execute(seconds, 2).args[0]
    out, expected = small.sample(given), small.sample(ours)
    assert torch.equal(out["samples"], expected["samples"])
    assert out["seconds"] == [seconds, seconds]
    old = {key: value for key, value in given.items() if key == "samples"}
    assert torch.equal(small.sample(old)["samples"], expected["samples"])
    schedule = small.module("nodes.schedule").SA3Scheduler.execute
    assert torch.equal(
        schedule(small.model, latent=given).args[0], schedule(small.model, latent=ours).args[0]
    )


def test_any_tenth_of_a_second_is_found_again(small):
    seconds_of = small.module("nodes.bridge.work.stock_latents")._seconds
    wrong = [
        tenths / 10
        for tenths in range(10, 3800)
        if abs(seconds_of(round((tenths / 10 * 44100 / 2048) / 2) * 2) - tenths / 10) > 0.0501
    ]
    assert wrong == []
    assert [seconds_of(round((s * 44100 / 2048) / 2) * 2) for s in (30.0, 47.6, 120.0)] == [
        30.0,
        pytest.approx(47.6, abs=0.06),
        120.0,
    ]


def test_the_node_says_it(small, stock):
    node = small.module("nodes.sampling").SA3Sampler
    given = stock["audio"].execute(1.0, 1).args[0]
    out = node.execute(model=small.model, positive=small.prompt("x"), latent=given, seed=1, steps=1)
    assert any(
        "Empty Latent Audio is made for Stable Audio 1; its 1 s" in x for x in out.ui["text"]
    )


@pytest.mark.parametrize(("name", "model"), [("ace", "ACE-Step 1.0"), ("ace15", "ACE-Step 1.5")])
def test_empty_latents_of_other_models_are_named(small, stock, name, model):
    given = stock[name].execute(2.0, 1).args[0]
    with pytest.raises(ValueError, match=f"{model}, not for Stable Audio 3.*Empty Latent by Dur"):
        small.sample(given)


def test_sound_of_another_model_is_refused(small, stock):
    given = stock["audio"].execute(2.0, 1).args[0]
    with pytest.raises(ValueError, match="holds the sound of another model"):
        small.sample({**given, "samples": given["samples"] + 1})
