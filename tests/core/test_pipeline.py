"""From prompts and sources to finished audio: against the reference, and item by item."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from sa3_core.checkpoints.load import load_autoencoder
from sa3_core.codec.autoencode import decode, encode
from sa3_core.codec.latent_file import Latents
from sa3_core.editing.edits import AudioToAudio, Continuation, Inpaint
from sa3_core.errors import AudioError, CheckpointError, InputError, RegionError
from sa3_core.geometry import samples_of, target_frames
from sa3_core.pipeline import GenerateRequest, Pipeline, generate, load_pipeline
from sa3_core.sampling.settings import SampleSettings
from tests.helpers.support import Golden, load_golden, rel_l2

PROMPT = "warm analog synth pad slow attack lush reverb 120 BPM"
SECOND = "footsteps on gravel distant thunder"
FOUR = SampleSettings(steps=4)
SEED = 1234  # torch.manual_seed of the golden files; one item draws what they drew


@pytest.fixture(scope="module", params=["tiny-s", "tiny-m"])
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def pipeline(variant, tiny_s, tiny_m) -> Pipeline:
    return load_pipeline({"tiny-s": tiny_s, "tiny-m": tiny_m}[variant])


@pytest.fixture(scope="module")
def small(tiny_s) -> Pipeline:
    """The tiny-s pipeline alone, for what does not depend on the architecture."""
    return load_pipeline(tiny_s)


@pytest.fixture(scope="module")
def source() -> torch.Tensor:
    """1.5 s of stereo at 44.1 kHz."""
    return load_golden("tiny-s/same")["input_audio"]


def request(**changes) -> GenerateRequest:
    base = GenerateRequest([PROMPT], seconds=[1.5], settings=FOUR, seeds=[SEED])
    return replace(base, **changes)


def check_golden(result, golden: Golden) -> None:
    """Latents within 1e-5, audio within 1e-4 of the reference's."""
    valid = golden.settings["valid"][0]
    assert rel_l2(result.latents.frames[0, :, :valid], golden["latents.0"]) < 1e-5
    if "audio.0" in golden:
        first, last = golden.settings["audio_window"]
        assert rel_l2(result.takes[0].audio[:, first:last], golden["audio.0"]) < 1e-4


def test_text_to_audio_end_to_end(pipeline, variant):
    result = generate(pipeline, request())
    check_golden(result, load_golden(f"{variant}/t2a"))
    take = result.takes[0]
    assert take.audio.shape == (2, 66150)
    assert (take.audio.dtype, take.sample_rate) == (torch.float32, 44100)
    assert result.latents.seconds == (1.5,)
    assert result.latents.frames.shape == (1, 256, target_frames(1.5, 10**9))


def test_guidance_with_a_negative_prompt_end_to_end(pipeline, variant):
    settings = SampleSettings(steps=4, sampler="euler", cfg=6.0)
    guided = request(negatives=["low quality noise distorted"], settings=settings)
    golden = load_golden(f"{variant}/cfg")
    frames = generate(pipeline, guided).latents.frames
    assert rel_l2(frames[0, :, : golden.settings["valid"][0]], golden["latents.0"]) < 5e-5


@pytest.mark.parametrize("mode", ["a2a", "a2a_resample"])
def test_audio_to_audio_end_to_end(pipeline, variant, mode, source):
    edit = AudioToAudio(source, 44100)
    if mode == "a2a_resample":
        edit = AudioToAudio(load_golden("inputs")["mono_48000"], 48000)
    settings = replace(FOUR, noise_level=0.7)
    golden = load_golden(f"{variant}/{mode}")
    check_golden(generate(pipeline, request(settings=settings, edit=edit)), golden)


def test_inpainting_end_to_end(pipeline, variant, source):
    edit = Inpaint(source, 44100, ["0.4-1.1"], rule="upstream", paste_back=False)
    check_golden(generate(pipeline, request(edit=edit)), load_golden(f"{variant}/inpaint"))


def test_continuation_end_to_end(pipeline, variant, source):
    edit = Continuation(source, 44100, 2.5, rule="upstream", paste_back=False)
    result = generate(pipeline, request(seconds=(), edit=edit))
    check_golden(result, load_golden(f"{variant}/continuation"))
    assert result.takes[0].audio.shape == (2, 176400)


def test_every_item_of_a_batch_equals_the_item_alone(pipeline):
    prompts, seconds, seeds = [PROMPT, SECOND, ""], [1.5, 3.6, 0.8], [7, 3, 99]
    negatives = ["noise", "", "voice"]
    settings = SampleSettings(steps=3, cfg=3.0)
    batch = GenerateRequest(prompts, negatives, seconds, settings, seeds)
    together = generate(pipeline, batch, noise_seed=11)
    for item in range(3):
        alone = GenerateRequest(
            [prompts[item]], [negatives[item]], [seconds[item]], settings, [seeds[item]]
        )
        result = generate(pipeline, alone, noise_seed=11 + item)
        assert together.takes[item].audio.shape[-1] == samples_of(seconds[item])
        assert rel_l2(together.takes[item].audio, result.takes[0].audio) < 1e-4


def test_one_seed_counts_up_over_the_batch(small):
    twice = generate(small, request(prompts=[PROMPT, PROMPT], seeds=[5]))
    second = generate(small, request(seeds=[6]))
    assert rel_l2(twice.takes[1].audio, second.takes[0].audio) < 1e-4
    assert rel_l2(twice.takes[0].audio, second.takes[0].audio) > 0.1
    again = generate(small, request(prompts=[PROMPT, PROMPT], seeds=[5]))
    assert torch.equal(again.takes[0].audio, twice.takes[0].audio)


def test_a_batch_of_edits_has_its_own_regions_and_durations(small, source):
    edit = Inpaint(source, 44100, ["0.2-0.6", "1-1.2, 0.1-0.3"])
    batch = request(prompts=[PROMPT, SECOND], seconds=[1.5, 1.3], edit=edit, seeds=[1, 2])
    together = generate(small, batch)
    for item in range(2):
        one = replace(edit, regions=[edit.regions[item]])
        alone = request(
            prompts=[batch.prompts[item]],
            seconds=[batch.seconds[item]],
            edit=one,
            seeds=[item + 1],
        )
        result = generate(small, alone)
        assert rel_l2(together.takes[item].audio, result.takes[0].audio) < 1e-4


def test_inpainting_keeps_every_sample_outside_the_regions(small, source):
    edit = Inpaint(source, 44100, ["0.4-0.7 1.1-1.3"])
    audio = generate(small, request(seconds=(), edit=edit)).takes[0].audio
    assert audio.shape == source.shape
    kept = torch.ones(66150, dtype=torch.bool)
    for start, end in ((0.4, 0.7), (1.1, 1.3)):
        kept[int(start * 44100) : int(end * 44100) + 1] = False
    assert torch.equal(audio[:, kept], source[:, kept])
    middle = slice(int(0.5 * 44100), int(0.6 * 44100))
    assert rel_l2(audio[:, middle], source[:, middle]) > 0.1


def test_paste_back_works_at_the_sources_rate_and_channels(small):
    mono = load_golden("inputs")["mono_48000"]
    edit = Continuation(mono, 48000, 1.0)
    take = generate(small, request(seconds=(), edit=edit)).takes[0]
    assert take.sample_rate == 48000
    assert take.audio.shape == (1, 120000)
    assert torch.equal(take.audio[:, :72000], mono)
    assert take.audio[:, 72000:].abs().max() > 0
    plain = generate(small, request(seconds=(), edit=replace(edit, paste_back=False))).takes[0]
    assert plain.sample_rate == 44100
    assert plain.audio.shape[0] == 2


def test_a_region_past_the_end_lengthens_the_piece_unless_seconds_are_given(small, source):
    edit = Inpaint(source, 44100, ["1.2-2.5"])
    longer = generate(small, request(seconds=(), edit=edit)).takes[0].audio
    assert longer.shape == (2, 110250)
    kept = int(1.2 * 44100)
    assert torch.equal(longer[:, :kept], source[:, :kept])
    given = generate(small, request(seconds=[2.0], edit=edit)).takes[0].audio
    assert given.shape == (2, 88200)
    bars = replace(edit, regions=["bar 2"], bpm=120.0, beats_per_bar=2)
    audio = generate(small, request(seconds=(), edit=bars)).takes[0].audio
    assert torch.equal(audio[:, :44100], source[:, :44100])


def test_a_source_shorter_than_the_piece_is_told_to_stay_silent(small, source, caplog):
    edit = Inpaint(source, 44100, ["0.4-0.7"])
    with caplog.at_level(logging.WARNING, "sa3_core"):
        take = generate(small, request(seconds=[2.0], edit=edit)).takes[0]
    assert "stays silent" in caplog.text
    assert not take.audio[:, 66150:].any()


def test_noise_level_0_gives_the_source_as_the_autoencoder_draws_it(small, source, caplog):
    settings = replace(FOUR, noise_level=0.0)
    edit = AudioToAudio(source, 44100)
    with caplog.at_level(logging.WARNING, "sa3_core"):
        take = generate(small, request(seconds=(), settings=settings, edit=edit)).takes[0]
    assert "nothing is made" in caplog.text
    redrawn = decode(small.autoencoder, Latents(encode(small.autoencoder, source[None]), (1.5,)))
    assert rel_l2(take.audio[:, :60000], redrawn[0][:, :60000]) < 1e-4


def test_advice_and_cut_prompts_are_warned_about(small, caplog):
    wordy = request(prompts=["word " * 400], negatives=["noise"])
    with caplog.at_level(logging.WARNING, "sa3_core"):
        generate(small, wordy)
    assert "no effect at cfg 1" in caplog.text
    assert "The prompt given has" in caplog.text
    assert "only the first 256" in caplog.text


def test_progress_is_told_stage_by_stage(small, source):
    seen: list[tuple[str, int, int]] = []
    edit = AudioToAudio(source, 44100)
    generate(
        small,
        request(prompts=[PROMPT, SECOND], seconds=(), edit=edit),
        chunk=8,
        on_progress=lambda *args: seen.append(args),
    )
    stages = list(dict.fromkeys(stage for stage, _, _ in seen))
    assert stages == ["encode", "sample", "decode 1/2", "decode 2/2"]
    for stage in stages:
        done, total = zip(*[(d, t) for s, d, t in seen if s == stage], strict=True)
        assert done == tuple(range(1, total[0] + 1))
        assert set(total) == {total[0]}
    assert [s for s in seen if s[0] == "sample"][-1] == ("sample", 4, 4)


def test_progress_may_stop_the_run(small):
    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(small, request(), on_progress=stop)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"seconds": ()}, InputError, "No duration"),
        ({"seconds": [0.0]}, InputError, "more than 0 and at most"),
        ({"seconds": [-2.0]}, InputError, "-2"),
        ({"seconds": [float("nan")]}, InputError, "nan"),
        ({"seconds": [1e5]}, InputError, "at most"),
        ({"prompts": []}, InputError, "prompt"),
        ({"prompts": ["a", "b", "c"], "seconds": [1.0, 1.0]}, InputError, "2 durations for 3"),
        ({"prompts": ["a", "b"], "negatives": ["x"] * 3}, InputError, "2 prompts for 3"),
        ({"seeds": []}, InputError, "0 seeds"),
        ({"seeds": [1, 2, 3], "prompts": ["a", "b"]}, InputError, "2 prompts for 3"),
    ],
)
def test_lists_and_durations_that_do_not_fit(small, changes, error, message):
    with pytest.raises(error, match=message):
        generate(small, request(**changes))


def test_edits_that_do_not_fit(small, source):
    def run(edit, **changes):
        generate(small, request(edit=edit, **changes))

    with pytest.raises(RegionError, match="reversed"):
        run(Inpaint(source, 44100, ["1-0.5"]))
    with pytest.raises(RegionError, match="continue the audio"):
        run(Inpaint(source, 44100, ["1.5-2"]), seconds=())
    with pytest.raises(RegionError, match="needs the BPM"):
        run(Inpaint(source, 44100, ["bar 1"]))
    with pytest.raises(InputError, match="give no seconds"):
        run(Continuation(source, 44100, 1.0))
    with pytest.raises(InputError, match="add_seconds is"):
        run(Continuation(source, 44100, -1.0), seconds=())
    with pytest.raises(InputError, match="the piece's length"):
        run(Continuation(source, 44100, 1e4), seconds=())
    with pytest.raises(RegionError, match="fill one latent frame"):
        run(Continuation(source[:, :2000], 44100, 1.0), seconds=())
    with pytest.raises(AudioError, match="9 channels"):
        run(AudioToAudio(torch.zeros(9, 100), 44100))
    with pytest.raises(AudioError, match="empty"):
        run(AudioToAudio(torch.zeros(2, 0), 44100))
    with pytest.raises(AudioError, match="NaN"):
        run(AudioToAudio(torch.full((2, 100), torch.nan), 44100))
    with pytest.raises(InputError, match="2 sources"):
        run(AudioToAudio(torch.zeros(2, 2, 100), 44100))


def test_a_model_without_text_encoder_says_where_to_put_it(tiny_s, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("model.safetensors", "model_config.json"):
        (bare / name).write_bytes((tiny_s / name).read_bytes())
    with pytest.raises(CheckpointError, match=r"t5gemma-b-b-ul2"):
        load_pipeline(bare)
    loaded = load_pipeline(bare, tiny_s / "t5gemma-b-b-ul2", dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.model.dit.parameters()} == {torch.bfloat16}
    assert loaded.autoencoder.bottleneck.bias.dtype == torch.bfloat16
    audio = generate(loaded, request()).takes[0].audio
    exact = generate(load_pipeline(tiny_s), request()).takes[0].audio
    assert 0 < rel_l2(audio, exact) < 0.2


def test_another_autoencoder_and_objective(tiny_s, tiny_m, small):
    mixed = load_pipeline(tiny_s, autoencoder=tiny_m, objective="rectified_flow")
    assert mixed.autoencoder.config == load_autoencoder(tiny_m).config
    assert mixed.autoencoder.config != small.autoencoder.config
    assert mixed.model.objective == "rectified_flow"


def test_headroom_decides_how_long_the_latent_is(small):
    for headroom, frames in ((0.0, 12), (6.0, 76)):
        request = GenerateRequest(["a"], seconds=[1.0], headroom=headroom)
        made = generate(small, request)
        assert made.latents.frames.shape[-1] == frames
        assert made.takes[0].audio.shape[-1] == 44100
    with pytest.raises(InputError, match="headroom is 61"):
        generate(small, GenerateRequest(["a"], seconds=[1.0], headroom=61.0))
