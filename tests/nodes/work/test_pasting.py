"""Edits from source to finished audio: what was kept is the source's, bit for bit."""

from __future__ import annotations

import importlib

import pytest
import torch

from tests.helpers.editing_support import FRAME, RATE, music, seam_step, seam_steps
from tests.helpers.support import rel_l2

FADE_MS = 20.0


@pytest.fixture(scope="module")
def nodes(small):
    return small.module("nodes.editing")


def inpainted(loaded, nodes, audio, regions, **decoding):
    masked = nodes.SA3InpaintMask.execute(
        latent=loaded.encode(audio), regions=regions, one_list_per_line="\n" in regions
    ).args[0]
    return loaded.decode(loaded.sample(masked), **decoding), masked


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (44100, 1), (48000, 1), (32000, 2)])
def test_kept_samples_are_the_sources_own_at_its_rate_and_channels(small, nodes, rate, channels):
    audio = music(3.0, rate, channels)
    out, _ = inpainted(small, nodes, audio, "0.7-1.3, 2.1-2.4")
    wave, source = out["waveform"], audio["waveform"]
    assert out["sample_rate"] == rate
    assert wave.shape == source.shape
    assert out["lengths"] == [3 * rate]
    edges = [round(s * rate) for s in (0.7, 1.3, 2.1, 2.4)]
    kept = torch.ones(wave.shape[-1], dtype=torch.bool)
    kept[edges[0] : edges[1]] = False
    kept[edges[2] : edges[3]] = False
    assert torch.equal(wave[..., kept], source[..., kept])
    for first, last in (edges[:2], edges[2:]):
        fade = round(FADE_MS / 1000 * rate)
        inside = slice(first + fade, last - fade)
        assert (wave - source)[..., inside].std() > 0.01
    largest = float(source.diff(dim=-1).abs().max())
    for at in edges:
        step, beside = seam_steps(wave, at)
        assert step <= min(beside, largest)


def test_same_l_edits_alike(medium):
    nodes = medium.module("nodes.editing")
    audio = music(2.0)
    out, _ = inpainted(medium, nodes, audio, "0.5-1")
    assert torch.equal(out["waveform"][..., :22050], audio["waveform"][..., :22050])
    assert torch.equal(out["waveform"][..., RATE:], audio["waveform"][..., RATE:])
    assert not torch.equal(out["waveform"], audio["waveform"])


def test_switched_off_nothing_is_pasted(small, nodes):
    audio = music(2.0)
    out, masked = inpainted(small, nodes, audio, "0.5-1", keep_source_exactly=False)
    assert not torch.equal(out["waveform"][..., :20000], audio["waveform"][..., :20000])
    plain = small.decode(small.sample(small.encode(audio), denoise=0.5))  # nothing is marked
    assert not torch.equal(plain["waveform"], audio["waveform"])
    assert masked["sa3_source"]["regions"] == [[(0.5, 1.0)]]


def test_the_feather_of_the_mask_replaces_the_decoders_crossfade(small, nodes):
    audio = music(2.0)
    latent = small.encode(audio)
    masks = {
        ms: nodes.SA3InpaintMask.execute(latent=latent, regions="0.5-1.5", feather_ms=ms)
        for ms in (0.0, 200.0)
    }
    made = small.sample(masks[0.0].args[0])
    rider = masks[200.0].args[0]["sa3_source"]
    short, wide = small.decode(made), small.decode({**made, "sa3_source": rider})
    asked = small.decode(made, crossfade_ms=200.0)
    assert torch.equal(wide["waveform"], asked["waveform"])
    assert not torch.equal(wide["waveform"], short["waveform"])


def test_a_latent_cut_after_masking_is_not_pasted_wrongly(small, nodes):
    masked = nodes.SA3InpaintMask.execute(latent=small.encode(music(2.0)), regions="1-1.5").args[0]
    cut = {**masked, "samples": masked["samples"][..., 10:]}
    node = small.module("nodes.latent").SA3SAMEDecode
    assert "cut or lengthened" in node.execute(cut, small.vae).ui["text"][0]


def test_repeated_and_picked_batches_find_their_source(small, nodes):
    audio = music(1.5, batch=2)
    out, _ = inpainted(small, nodes, audio, "0.5-1\n0.2-0.4")
    masked = nodes.SA3InpaintMask.execute(
        latent=small.encode(audio), regions="0.5-1\n0.2-0.4", one_list_per_line=True
    ).args[0]
    sampled = small.sample(masked)
    stock = importlib.import_module("nodes")
    (repeated,) = stock.RepeatLatentBatch().repeat(sampled, 2)
    wave = small.decode(repeated)["waveform"]
    assert torch.equal(wave, out["waveform"].repeat(2, 1, 1))
    (second,) = stock.LatentFromBatch().frombatch(sampled, 1, 1)
    assert torch.equal(small.decode(second)["waveform"], out["waveform"][1:])


def test_several_prompts_over_one_masked_source_all_keep_it(small, nodes):
    audio = music(1.5)
    masked = nodes.SA3InpaintMask.execute(latent=small.encode(audio), regions="0.5-1").args[0]
    out = small.decode(small.sample(masked, positive=small.prompt("a pad", "a bell")))
    assert out["lengths"] == [66150, 66150]
    for wave in out["waveform"]:
        assert torch.equal(wave[:, RATE:], audio["waveform"][0, :, RATE:])
    assert not torch.equal(*out["waveform"])


def test_an_edited_region_stays_while_another_is_made(small, nodes):
    audio = music(3.0)
    first = small.sample(
        nodes.SA3InpaintMask.execute(latent=small.encode(audio), regions="0.3-0.9").args[0]
    )
    again = nodes.SA3InpaintMask.execute(
        latent=first, regions="2-2.5", earlier_regions="keep as they are"
    ).args[0]
    before = small.decode(first)["waveform"]
    after = small.decode(small.sample(again, seed=9, keep_mode="hard"))["waveform"]
    assert rel_l2(after[..., : int(1.5 * RATE)], before[..., : int(1.5 * RATE)]) <= 1e-5
    assert torch.equal(after[..., -RATE // 2 :], audio["waveform"][..., -RATE // 2 :])
    assert not torch.equal(
        after[..., 2 * RATE : int(2.5 * RATE)], before[..., 2 * RATE : int(2.5 * RATE)]
    )


def test_continue_audio_adds_at_the_end(small, nodes):
    audio = music(1.55)
    latent = nodes.SA3ContinueAudio.execute(audio, small.vae, 1.0).args[0]
    keep = 1 - latent["noise_mask"][0, 0]
    assert latent["seconds"] == pytest.approx([2.55], abs=1 / RATE)
    assert int(keep.sum()) == audio["waveform"].shape[-1] // FRAME
    upstream = nodes.SA3ContinueAudio.execute(audio, small.vae, 1.0, rule="upstream").args[0]
    assert int((1 - upstream["noise_mask"]).sum()) == audio["waveform"].shape[-1] // FRAME + 1
    out = small.decode(small.sample(latent))
    samples = audio["waveform"].shape[-1]
    assert out["lengths"] == [samples + RATE]
    assert torch.equal(out["waveform"][..., :samples], audio["waveform"])
    assert out["waveform"][..., samples:].std() > 0.01
    step, beside = seam_steps(out["waveform"], samples)
    assert step <= beside


@pytest.mark.parametrize("rate", [44100, 48000])
def test_continue_audio_adds_before_the_start(small, nodes, rate):
    audio = music(1.55, rate, 1)
    where = "before the start"
    latent = nodes.SA3ContinueAudio.execute(audio, small.vae, 1.0, where).args[0]
    keep = 1 - latent["noise_mask"][0, 0]
    first = -(-RATE // FRAME)  # the first frame that the source fills
    assert not keep[:first].any()
    assert keep[first]
    out = small.decode(small.sample(latent))
    assert out["lengths"] == [audio["waveform"].shape[-1] + rate]
    assert torch.equal(out["waveform"][..., rate:], audio["waveform"])
    assert out["waveform"][..., :rate].std() > 0.01
    step, beside = seam_steps(out["waveform"], rate)
    assert step <= beside


@pytest.mark.parametrize("where", ["at the end", "before the start"])
def test_a_short_context_still_gives_the_whole_piece(small, nodes, where):
    audio = music(4.0)
    latent = nodes.SA3ContinueAudio.execute(audio, small.vae, 1.0, where, 1.5).args[0]
    assert latent["seconds"] == [2.5]
    out = small.decode(small.sample(latent))
    assert out["lengths"] == [5 * RATE]
    kept = (
        out["waveform"][..., : 4 * RATE] if where == "at the end" else out["waveform"][..., RATE:]
    )
    assert torch.equal(kept, audio["waveform"])


def test_more_regions_can_be_chained_onto_a_continuation(small, nodes):
    audio = music(4.0)
    latent = nodes.SA3ContinueAudio.execute(audio, small.vae, 1.0, "at the end", 2.0).args[0]
    chained = nodes.SA3InpaintMask.execute(latent=latent, regions="0.5-1").args[0]
    assert chained["sa3_source"]["regions"] == [[(2.5, 3.0), (4.0, 5.0)]]
    wave = small.decode(small.sample(chained))["waveform"]
    source = audio["waveform"]
    assert torch.equal(wave[..., : int(2.5 * RATE)], source[..., : int(2.5 * RATE)])
    assert torch.equal(wave[..., 3 * RATE : 4 * RATE], source[..., 3 * RATE :])
    inside = slice(int(2.5 * RATE) + 900, 3 * RATE - 900)
    assert (wave[..., inside] - source[..., inside]).std() > 0.01


def test_items_of_unequal_lengths_continue_from_their_own_ends(small, nodes):
    audio = {**music(2.0, batch=2), "lengths": [2 * RATE, RATE]}
    audio["waveform"][1, :, RATE:] = 0
    latent = nodes.SA3ContinueAudio.execute(audio, small.vae, 0.5).args[0]
    out = small.decode(small.sample(latent))
    assert out["lengths"] == [2 * RATE + RATE // 2, RATE + RATE // 2]
    assert torch.equal(out["waveform"][1, :, :RATE], audio["waveform"][1, :, :RATE])
    assert out["waveform"][1, :, RATE : RATE + RATE // 2].std() > 0.01
    assert not out["waveform"][1, :, RATE + RATE // 2 :].any()


@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_loops_end_meets_its_start(small, nodes, rate):
    audio = music(4.5, rate)
    latent = nodes.SA3Loop.execute(audio, small.vae, bars=2, bpm=120, seam_seconds=0.8).args[0]
    assert latent["seconds"] == pytest.approx([4.0], abs=1 / RATE)
    sampled = small.sample(latent)
    out = small.decode(sampled)
    wave, source = out["waveform"], audio["waveform"]
    assert out["lengths"] == [4 * rate]
    kept = slice(round(0.4 * rate), round(3.6 * rate))
    assert torch.equal(wave[..., kept], source[..., kept])
    step, beside = seam_step(wave)
    assert step <= beside
    cut_step, cut_beside = seam_step(source[..., : 4 * rate])
    assert cut_step > cut_beside  # as it was, it clicked
    plain = small.decode(sampled, keep_source_exactly=False)["waveform"]
    step, beside = seam_step(plain)
    assert step <= beside
    assert plain.shape[-1] == 4 * RATE


def test_a_loop_of_the_whole_source_and_bad_loops(small, nodes):
    audio = music(2.0)
    latent = nodes.SA3Loop.execute(audio, small.vae, length_in="seconds", seam_seconds=0.5).args[0]
    assert latent["seconds"] == [2.0]
    with pytest.raises(ValueError, match=r"lasts 8 s, the audio only 2 s"):
        nodes.SA3Loop.execute(audio, small.vae)
    with pytest.raises(ValueError, match="must last"):
        nodes.SA3Loop.execute(audio, small.vae, bars=1, bpm=240, seam_seconds=0.9)


def test_paste_back_equals_the_decoders_own(small, nodes):
    audio = music(2.0, 48000)
    _, masked = inpainted(small, nodes, audio, "0.5-1")
    sampled = small.sample(masked)
    pasted = small.decode(sampled)["waveform"]
    raw = small.decode(sampled, keep_source_exactly=False)
    again = nodes.SA3PasteBack.execute(raw, latent=sampled)
    assert torch.equal(again.args[0]["waveform"], pasted)
    sockets = nodes.SA3PasteBack.execute(raw, source=audio, regions="0.5-1").args[0]
    assert torch.equal(sockets["waveform"], pasted)
    listed = nodes.SA3PasteBack.execute(raw, source=audio, region_list=[(0.5, 1.0)]).args[0]
    assert torch.equal(listed["waveform"], pasted)


def test_paste_back_after_the_stock_decoder_leaves_no_headroom(small, nodes):
    audio = music(2.0)
    _, masked = inpainted(small, nodes, audio, "0.5-1")
    sampled = small.sample(masked)
    stock = importlib.import_module("comfy_extras.nodes_audio").VAEDecodeAudio
    raw = stock.execute(small.vae, sampled).args[0]
    assert raw["waveform"].shape[-1] > 3 * RATE
    for inputs in ({"latent": sampled}, {"source": audio, "regions": "0.5-1"}):
        out = nodes.SA3PasteBack.execute(raw, **inputs).args[0]
        assert out["lengths"] == [2 * RATE]
        assert torch.equal(out["waveform"][..., RATE:], audio["waveform"][..., RATE:])


def test_paste_back_says_what_is_missing(small, nodes):
    raw = music(1.0)
    with pytest.raises(ValueError, match="needs the edited latent, or a source"):
        nodes.SA3PasteBack.execute(raw)
    bare = {"samples": torch.zeros(1, 256, 12), "noise_mask": torch.ones(1, 1, 12)}
    out = nodes.SA3PasteBack.execute(raw, latent=bare)
    assert "carries no source" in out.ui["text"][0]
    assert out.args[0] is raw
    with pytest.raises(ValueError, match="44100"):
        nodes.SA3PasteBack.execute(music(1.0, 48000), source=raw, regions="0.2-0.4")


def test_denoise_zero_gives_the_source_back_and_says_so(small, nodes):
    latent = small.encode(music(1.0))
    sampler = small.module("nodes.sampling").SA3Sampler
    out = sampler.execute(
        model=small.model, positive=small.prompt("x"), latent=latent, seed=1, denoise=0.0
    )
    assert torch.equal(out.args[0]["samples"], latent["samples"])
    assert any("returned as it came" in line for line in out.ui["text"])


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(1, 9, 9000), "9 channels"),
        (torch.zeros(1, 2, 0), "empty"),
        (torch.full((1, 2, 9000), float("nan")), "NaN"),
    ],
)
def test_bad_sources_are_refused_everywhere(small, nodes, waveform, message):
    audio = {"waveform": waveform, "sample_rate": RATE}
    for run in (
        lambda: small.encode(audio),
        lambda: nodes.SA3InpaintMask.execute(audio=audio, vae=small.vae, regions="0-0.1"),
        lambda: nodes.SA3ContinueAudio.execute(audio, small.vae, 1.0),
        lambda: nodes.SA3Loop.execute(audio, small.vae, length_in="seconds"),
    ):
        with pytest.raises(ValueError, match=message):
            run()
    with pytest.raises(ValueError, match="no audio"):
        nodes.SA3ContinueAudio.execute(None, small.vae, 1.0)


def test_a_source_shorter_than_a_frame(small, nodes):
    audio = music(0.05)
    with pytest.raises(ValueError, match="must fill one latent frame"):
        nodes.SA3ContinueAudio.execute(audio, small.vae, 1.0)
    out, _ = inpainted(small, nodes, audio, "0.02-0.04")
    assert torch.equal(out["waveform"][..., :882], audio["waveform"][..., :882])
    assert torch.equal(out["waveform"][..., 1764:], audio["waveform"][..., 1764:])


def test_a_loud_source_comes_back_at_its_own_level(small, nodes):
    audio = music(1.0)
    audio["waveform"] *= 40 / audio["waveform"].abs().max()
    out, _ = inpainted(small, nodes, audio, "0.4-0.6")
    assert torch.equal(out["waveform"][..., :17640], audio["waveform"][..., :17640])
