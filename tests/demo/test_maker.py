"""What the demo model is made from: sounds, the constructed autoencoder, words, training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from demo_model.maker import make, sounds, start, text, train
from demo_model.maker.autoencoder import autoencoder_weights
from demo_model.maker.codec import CHANNELS, NUMBERS, LinearCodec, fit_codec
from sa3_core.checkpoints.load import load_model, load_same
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.measures import level, rhythm
from sa3_core.text.tokenizers import open_tokenizer

SECONDS_OF_FRAME = sounds.FRAME / sounds.RATE


def clip(parts: tuple[str, ...], seconds: float = 6.0, bpm: int = 108, seed: int = 0):
    return sounds.make_clip(np.random.default_rng(seed), parts, seconds, bpm)


def snr(wanted: torch.Tensor, got: torch.Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (wanted - got).square().sum()))


@pytest.fixture(scope="module")
def codec() -> LinearCodec:
    rng = np.random.default_rng(1)
    return fit_codec(sounds.make_clip(rng, seconds=4.0).audio for _ in range(60))


@pytest.fixture(scope="module")
def folder(codec, tmp_path_factory) -> Path:
    """The untrained model."""
    folder = tmp_path_factory.mktemp("demo") / "start"
    words = text.words_of(["flute melody, 108 BPM", "kick drum"])
    text.write_text_encoder(folder / "t5gemma-b-b-ul2", words)
    start.write_start(folder, codec, autoencoder_weights(codec))
    return folder


@pytest.mark.parametrize("parts", [(name,) for name in sounds.DRUM_PARTS])
@pytest.mark.parametrize(("bpm", "frames"), sounds.BEATS.items())
def test_drums_keep_the_tempo_that_captions_name(parts, bpm, frames):
    found = rhythm.tempo(torch.from_numpy(clip(parts, bpm=bpm).audio), sounds.RATE)
    assert found is not None
    assert found.bpm == pytest.approx(60 / (frames * SECONDS_OF_FRAME), rel=0.005)
    assert abs(found.bpm / bpm - 1) < 0.012


@pytest.mark.parametrize("parts", [*((name,) for name in sounds.CLASSES), *sounds.PAIRS])
def test_a_clip_ends_within_its_duration_and_does_not_clip(parts):
    made = clip(parts, seconds=3.3)
    audio = torch.from_numpy(made.audio)
    assert audio.shape == (2, int(3.3 / SECONDS_OF_FRAME) * sounds.FRAME)
    assert 0.05 < float(audio.abs().max()) < 1
    assert float(audio[:, -1].abs().max()) < 1e-3
    assert all(part.split()[0] in made.caption for part in made.parts)
    assert np.array_equal(made.audio, clip(parts, seconds=3.3).audio)


def test_left_and_right_can_be_told_apart():
    hats, guitar = (torch.from_numpy(clip((name,)).audio) for name in ("hi-hat", "guitar"))
    assert level.level_difference(hats) < -3
    assert level.level_difference(guitar) > 2


def test_the_autoencoder_computes_the_codec(folder, codec):
    same = load_same(open_checkpoint(folder, need=("same",)), torch.float32)
    rng = np.random.default_rng(2)
    for _ in range(6):
        made = sounds.make_clip(rng, seconds=3.0)
        audio = torch.from_numpy(made.audio)
        latents = same.encode(audio[None])
        expected = codec.encode(made.audio)
        assert float((latents[0] - expected).norm() / expected.norm()) < 2e-3
        decoded = same.decode(latents)[0, :, : audio.shape[1]]
        assert snr(codec.decode(expected), decoded) > 40
        assert snr(audio, decoded) > 15


def test_latents_of_sounds_are_of_unit_level_in_every_channel(codec):
    clips = train.encoded_clips(codec, 30)
    latents = torch.cat([made.latents for made in clips], dim=1)
    assert 0.5 < float(latents.square().mean().sqrt()) < 2
    deviations = latents.std(dim=1)
    assert float(deviations.max() / deviations.min()) < 6
    assert codec.spread.shape == (CHANNELS, NUMBERS)


def test_words_without_meaning_here_are_one_unknown_token(folder):
    tokenizer = open_tokenizer(folder / "t5gemma-b-b-ul2")
    known = tokenizer.tokenize("Flute melody, 108 BPM", 256).ids
    assert len(set(known)) == 5
    unknown = tokenizer.tokenize("a gentle lo-fi flute", 256).ids
    assert unknown == (3, 3, 3, known[0])


def test_numbers_of_one_tempo_are_alike_and_tempi_have_a_part_in_common(tmp_path):
    names = ("107", "108", "109", "128")
    text.write_text_encoder(tmp_path, names)
    weights = load_file(tmp_path / "model.safetensors")
    words = weights["model.encoder.embed_tokens.weight"].float()
    row = dict(zip(names, words[len(text.SPECIAL) :], strict=True))
    assert torch.equal(row["107"], row["108"])
    assert torch.equal(row["109"], row["108"])
    assert 0.2 < float(torch.cosine_similarity(row["108"], row["128"], dim=0)) < 0.8


def test_training_goes_on_where_it_was_and_is_published_in_half_precision(folder, codec, tmp_path):
    clips = train.encoded_clips(codec, 12)
    phase = train.Phase("try", 100, 2, 2, 1e-3, "cosine", "uniform")
    told: list[tuple[str, int]] = []

    def on_step(name: str, done: int, steps: int, loss: float) -> None:
        told.append((name, done))
        assert 0 < loss < 100

    args = (folder, tmp_path / "work", codec, clips)
    trained = train.train(*args, [dataclasses.replace(phase, steps=1)], on_step)
    before = load_model(trained, dtype=torch.float32)
    trained = train.train(*args, [phase], on_step)
    assert told == [("try", 1), ("try", 2)]
    after = load_model(trained, dtype=torch.float32)
    assert not torch.equal(
        before.dit.transformer.project_in.weight, after.dit.transformer.project_in.weight
    )
    published = make.publish(trained, folder, tmp_path / "demo")
    model = load_model(published, dtype=torch.float32)
    assert model.config.objective == "rf_denoiser"
    weight = after.dit.transformer.project_in.weight
    assert torch.equal(model.dit.transformer.project_in.weight, weight.half().float())
    assert (published / "t5gemma-b-b-ul2" / "tokenizer.json").is_file()


def test_however_often_it_is_stopped_it_makes_the_same_model(folder, codec, tmp_path, monkeypatch):
    """Two phases of two steps, stopped in the middle of each: bit for bit as in one go."""
    monkeypatch.setattr(train, "_SAVE_EVERY", 1)
    clips = train.encoded_clips(codec, 8)
    rest = (100, 2, 2, 1e-3, "cosine", "uniform")
    phases = [train.Phase("one", *rest, coupled=True), train.Phase("two", *rest)]
    told: list[tuple[str, int]] = []

    def stop(name: str, done: int, steps: int, loss: float) -> None:
        told.append((name, done))
        if done < steps:
            raise KeyboardInterrupt

    for _ in phases:
        with pytest.raises(KeyboardInterrupt):
            train.train(folder, tmp_path / "stopped", codec, clips, phases, stop)
    stopped = train.train(folder, tmp_path / "stopped", codec, clips, phases, stop)
    assert told == [("one", 1), ("one", 2), ("two", 1), ("two", 2)]
    whole = train.train(folder, tmp_path / "whole", codec, clips, phases)
    weights = [load_file(made / "model.safetensors") for made in (stopped, whole)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
