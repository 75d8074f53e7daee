"""What the model is told about kept frames, batches against single runs, and variations."""

from __future__ import annotations

import importlib

import pytest
import torch

from tests.helpers.editing_support import RATE, music
from tests.helpers.support import rel_l2


@pytest.fixture(scope="module")
def nodes(small):
    return small.module("nodes.editing")


@pytest.fixture
def told(small, monkeypatch):
    """Every local_cond that the net is prepared with."""
    seen = []
    net = type(small.model.model.diffusion_model)
    prepare = net.prepare

    def record(self, *args, **kwargs):
        seen.append(kwargs["local_cond"])
        return prepare(self, *args, **kwargs)

    monkeypatch.setattr(net, "prepare", record)
    return seen


def masked_latent(small, nodes, seconds=2.0, regions="0.5-1"):
    return nodes.SA3InpaintMask.execute(latent=small.encode(music(seconds)), regions=regions).args[
        0
    ]


def expected_local(latent, frames):
    keep = 1 - latent["noise_mask"][..., :frames]
    return torch.cat([keep, latent["samples"][..., :frames] * keep], dim=1)


def ksampler(small, latent, **settings):
    stock = importlib.import_module("nodes")
    values = {"seed": 3, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    values |= {"denoise": 1.0, **settings}
    prompt = small.prompt("warm pad")
    return stock.KSampler().sample(
        model=small.model, positive=prompt, negative=prompt, latent_image=latent, **values
    )[0]


def test_sa3_sampler_tells_the_model_mask_and_masked_source(small, nodes, told):
    latent = masked_latent(small, nodes)
    small.sample(latent)
    (local,) = told
    assert torch.equal(local, expected_local(latent, local.shape[-1]))
    told.clear()
    small.sample(latent, keep_mode="hard")
    assert torch.equal(told[0], expected_local(latent, local.shape[-1]))


def test_hard_puts_kept_latents_back_and_model_only_conditions(small, nodes):
    latent = masked_latent(small, nodes)
    keep = latent["noise_mask"][0, 0] < 0.5
    hard = small.sample(latent, keep_mode="hard")["samples"]
    assert torch.equal(hard[..., keep], latent["samples"][..., keep])
    soft = small.sample(latent)["samples"]
    assert not torch.equal(soft[..., keep], latent["samples"][..., keep])
    made = ~keep[: soft.shape[-1]]
    made[22:] = False
    assert rel_l2(hard[..., made], latent["samples"][..., made]) > 0.1


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_ksampler_tells_the_model_the_same_and_keeps_hard(small, nodes, told, cfg):
    latent = masked_latent(small, nodes)
    out = ksampler(small, latent, cfg=cfg)
    assert told
    expected = expected_local(latent, latent["samples"].shape[-1])
    for local in told:
        assert torch.equal(local, expected.expand(local.shape[0], -1, -1))
    keep = latent["noise_mask"][0, 0] < 0.5
    assert rel_l2(out["samples"][..., keep], latent["samples"][..., keep]) <= 1e-5
    wave, source = small.decode(out)["waveform"], latent["sa3_source"]["waveform"]
    assert torch.equal(wave[..., RATE:], source[..., RATE:])  # the source came through KSampler
    assert (wave - source)[..., 23000:43000].std() > 0.01


def test_custom_sampling_tells_the_model_too(small, nodes, told):
    custom = importlib.import_module("comfy_extras.nodes_custom_sampler")
    latent = masked_latent(small, nodes)
    schedule = small.module("nodes.schedule")
    sigmas = schedule.SA3Scheduler.execute(small.model, latent=latent, steps=2).args[0]
    sampler = schedule.SA3SamplerSelect.execute("pingpong").args[0]
    guider = custom.BasicGuider.execute(small.model, small.prompt("warm pad")).args[0]
    noise = custom.RandomNoise.execute(5).args[0]
    out = custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).args[0]
    assert torch.equal(told[0], expected_local(latent, latent["samples"].shape[-1]))
    assert torch.isfinite(out["samples"]).all()


def test_the_scheduler_takes_the_durations_that_the_sampler_takes(small):
    scheduler = small.module("nodes.schedule").SA3Scheduler
    sample_size = small.model.model.info.sample_size
    longest = sample_size // RATE
    assert scheduler.execute(small.model, seconds=float(longest)).args[0].shape == (9,)
    assert sample_size / RATE > longest + 1e-4, "all frames hold a fraction of a second more"
    with pytest.raises(ValueError, match=f"seconds is {longest + 1e-4}; .* at most {longest} "):
        scheduler.execute(small.model, seconds=longest + 1e-4)


def test_mask_of_one_row_from_stock_nodes_reaches_ksampler_through_inpaint_mask(small, nodes, told):
    stock = importlib.import_module("nodes")
    latent = small.encode(music(2.0))
    line = torch.zeros(1, 1, latent["samples"].shape[-1])
    line[..., 10:] = 1
    four_d = stock.SetLatentNoiseMask().set_mask(latent, line)[0]
    with pytest.raises(ValueError, match="spatial dimensions"):
        ksampler(small, four_d)  # ComfyUI's own, before the model is asked
    latent = nodes.SA3InpaintMask.execute(latent=four_d, regions="1-1.2").args[0]
    ksampler(small, latent)
    assert told[0][0, 0].tolist() == [1.0] * 10 + [0.0] * (latent["samples"].shape[-1] - 10)


def test_audio_to_audio_stays_nearer_the_source_at_a_lower_level(small):
    latent = small.encode(music(2.0, 48000, 1), 1.5)
    assert latent["seconds"] == [1.5]
    near, far = (small.sample(latent, denoise=d)["samples"][..., :16] for d in (0.2, 0.9))
    source = latent["samples"][..., :16]
    assert rel_l2(near, source) < rel_l2(far, source)
    assert small.decode(small.sample(latent, denoise=0.5))["lengths"] == [int(1.5 * RATE)]


def batch_of_two(small, nodes):
    """Two sources of different lengths with a prompt, a negative, a seed and regions each."""
    audio = {**music(2.0, batch=2), "lengths": [2 * RATE, int(1.3 * RATE)]}
    audio["waveform"][1, :, audio["lengths"][1] :] = 0
    lines = "0.5-1\n0.2-0.4, 0.9-1.3"
    latent = nodes.SA3InpaintMask.execute(
        latent=small.encode(audio), regions=lines, one_list_per_line=True
    ).args[0]
    settings = {
        "positive": small.prompt("warm pad", "bright pluck with a long prompt"),
        "negative": small.prompt("noise", "hum"),
        "seeds": "11, 4",
        "cfg": 3.0,
    }
    out = small.decode(small.sample(latent, **settings))
    singles = []
    for item, (line, seed) in enumerate(zip(lines.splitlines(), (11, 4), strict=True)):
        samples = audio["lengths"][item]
        alone = {"waveform": audio["waveform"][item : item + 1, :, :samples], "sample_rate": RATE}
        masked = nodes.SA3InpaintMask.execute(latent=small.encode(alone), regions=line).args[0]
        positive = small.prompt(("warm pad", "bright pluck with a long prompt")[item])
        negative = small.prompt(("noise", "hum")[item])
        singles.append(
            small.decode(
                small.sample(masked, seed=seed, positive=positive, negative=negative, cfg=3.0)
            )
        )
    return out, singles


@pytest.mark.parametrize("name", ["small", "medium"])
def test_every_item_of_a_batch_equals_itself_alone(name, request):
    loaded = request.getfixturevalue(name)
    out, singles = batch_of_two(loaded, loaded.module("nodes.editing"))
    assert out["lengths"] == [2 * RATE, int(1.3 * RATE)]
    for item, single in enumerate(singles):
        wave = out["waveform"][item, :, : out["lengths"][item]]
        assert rel_l2(wave, single["waveform"][0]) <= 1e-4


@pytest.mark.parametrize("name", ["small", "medium"])
def test_durations_and_prompts_per_item_equal_single_runs(name, request):
    loaded = request.getfixturevalue(name)
    empty = loaded.module("nodes.latent").SA3EmptyLatent
    batch = loaded.sample(
        empty.execute(1.0, durations="1.0, 2.5").args[0], positive=loaded.prompt("a pad", "a bell")
    )
    out = loaded.decode(batch)
    for item, (seconds, prompt) in enumerate(((1.0, "a pad"), (2.5, "a bell"))):
        single = loaded.decode(
            loaded.sample(
                empty.execute(seconds).args[0], seed=1 + item, positive=loaded.prompt(prompt)
            )
        )
        wave = out["waveform"][item, :, : out["lengths"][item]]
        assert rel_l2(wave, single["waveform"][0]) <= 1e-4


def test_audio_to_audio_batches_of_unequal_sources_equal_single_runs(medium):
    audio = {**music(2.0, batch=2), "lengths": [2 * RATE, RATE]}
    audio["waveform"][1, :, RATE:] = 0
    batch = medium.sample(medium.encode(audio), denoise=0.6)["samples"]
    alone = {"waveform": audio["waveform"][1:, :, :RATE], "sample_rate": RATE}
    single = medium.sample(medium.encode(alone), seed=2, denoise=0.6)["samples"]
    assert rel_l2(batch[1:, :, : single.shape[-1]], single) <= 1e-4


def empty(small, seconds=1.5):
    return small.module("nodes.latent").SA3EmptyLatent.execute(seconds).args[0]


def test_variation_strength_leads_from_one_take_to_the_other(small):
    latent = empty(small)
    takes = {
        strength: small.sample(latent, seed=5, variation_seed=90, variation_strength=strength)
        for strength in (0.0, 0.1, 0.5, 1.0)
    }
    own, other = (small.sample(latent, seed=seed)["samples"] for seed in (5, 90))
    assert torch.equal(takes[0.0]["samples"], own)
    assert torch.equal(takes[1.0]["samples"], other)
    apart = [rel_l2(takes[s]["samples"], own) for s in (0.1, 0.5, 1.0)]
    assert 0 < apart[0] < apart[1] < apart[2]


def test_a_seed_sweep_makes_one_take_per_seed(small):
    latent = importlib.import_module("nodes").RepeatLatentBatch().repeat(empty(small), 3)[0]
    sweep = small.sample(latent, seeds="7, 20-21")["samples"]
    for item, seed in enumerate((7, 20, 21)):
        assert rel_l2(sweep[item : item + 1], small.sample(empty(small), seed=seed)["samples"]) <= (
            1e-4
        )
