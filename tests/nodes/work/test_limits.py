"""Lengths that ride on AUDIO count only while they fit; what one prompt may ask for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sa3_core.adapters.layer_filter import LayerFilter
from sa3_core.audio.file import read_audio
from sa3_core.editing.continuation import continue_source
from sa3_core.editing.region_request import RegionRequest, check_text
from sa3_core.editing.regions import parse_durations, parse_regions, regions_from_list
from sa3_core.editing.windows import Extension
from sa3_core.errors import AudioError, InputError
from sa3_core.pipeline import GenerateRequest
from sa3_core.sampling.noise import parse_seeds
from sa3_core.sampling.schedule import parse_shift_options
from sa3_core.text.tokenizers import check_prompts
from tests.helpers.editing_support import music
from tests.tools.hostile import silent_flac


def _audio() -> dict:
    waveform = torch.full((2, 2, 1000), 0.5)
    waveform[1, :, 600:] = 0
    return {"waveform": waveform, "sample_rate": 44100, "lengths": [1000, 600]}


CHANGES = {
    "doubled": lambda w: torch.cat([w, w], dim=-1),
    "resampled": lambda w: F.interpolate(w, scale_factor=2.0),
    "padded": lambda w: F.pad(w, (0, 500)),
    "cut": lambda w: w[..., :500],
    "other batch": lambda w: w[:1],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_audio_that_another_node_changed_counts_whole(bridge, change):
    audio = _audio()
    made = change(audio["waveform"])
    assert bridge.riding.audio_lengths({**audio, "waveform": made}) == [made.shape[-1]] * len(made)


def test_lengths_that_fit_are_kept(bridge):
    audio = _audio()
    assert bridge.riding.audio_lengths(audio) == [1000, 600]
    assert bridge.riding.audio_lengths({**audio, "waveform": audio["waveform"] * 0.5}) == [
        1000,
        600,
    ]


@pytest.mark.parametrize(
    ("seconds", "batch", "wanted"),
    [
        ([1.0] * 100_000, 1, "100000 items; at most 1000"),
        ([1.0], 100_000, "100000 items; at most 1000"),
        ([100_000.0], 900, "as latents would take .* GB; at most 4 GB"),
    ],
)
def test_what_would_take_the_machine_is_refused(bridge, seconds, batch, wanted):
    with pytest.raises(ValueError, match=wanted):  # the pack has a copy of InputError
        bridge.coding.empty_latent(seconds, batch)


def test_a_prompt_of_a_million_characters_is_refused_unread():
    with pytest.raises(InputError, match="1000000 characters; at most 100000"):
        check_prompts(["a" * 1_000_000])
    check_prompts(["a" * 100_000])


MANY = 100_000
TEXTS = {
    "durations": (lambda text: parse_durations(text), "30"),
    "seeds": (lambda text: parse_seeds(text), "7"),
    "regions": (lambda text: parse_regions(text, 10.0), "1-2"),
    "regions of items": (lambda text: RegionRequest(text, True).resolve([10.0]), "1-2"),
    "shift options": (lambda text: parse_shift_options(text), "rate=1"),
    "layer filter": (lambda text: LayerFilter(text), "a"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_long_list_is_refused_by_its_length(kind):
    """By characters before anything reads it, by entries before anything is made of them."""
    read, entry = TEXTS[kind]
    with pytest.raises(InputError, match=r"has \d+ characters; at most 100000 are read"):
        read(f"{entry}, " * MANY)
    with pytest.raises(InputError, match="characters; at most"):
        read("9" * 10 * MANY)
    if kind != "shift options":  # whose names are few
        with pytest.raises(InputError, match="holds more than 1000 entries"):
            read(f"{entry},\n" * 2000)


def test_seeds_count_with_their_ranges():
    assert len(parse_seeds("0-999")) == 1000
    with pytest.raises(InputError, match="holds more than 1000 entries"):
        parse_seeds("1-1000, 1-1000, 1-1000")


def test_lists_of_other_nodes_are_limited_too():
    with pytest.raises(InputError, match="more than 1000"):
        regions_from_list(iter([[1.0, 2.0]] * MANY), 10.0)
    for listed in ([[1.0, 2.0]] * MANY, torch.ones(MANY, 2), torch.ones(MANY, 1, 2)):
        with pytest.raises(InputError, match="more than 1000"):
            RegionRequest(listed=listed).resolve([10.0])
    assert "at most 100000" in str(check_text("1-2 " * MANY))


def test_errors_repeat_a_line_of_a_text_at_most():
    for read in (parse_durations, parse_seeds, parse_shift_options, LayerFilter):
        with pytest.raises(InputError) as refused:
            read("[x" * 40_000)
        assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "run",
    [
        lambda node, small, sound: small.encode(sound, 100_000.0),
        lambda node, small, sound: node.SA3ContinueAudio.execute(sound, small.vae, 100_000.0),
        lambda node, small, sound: node.SA3ContinueAudio.execute(
            sound, small.vae, 100_000.0, "before the start"
        ),
        lambda node, small, sound: node.SA3InpaintMask.execute(
            audio=sound, vae=small.vae, regions="0.1-99999"
        ),
        lambda node, small, sound: node.SA3InpaintMask.execute(
            audio=sound, vae=small.vae, regions="0.1-9999999"
        ),
        lambda node, small, sound: node.SA3InpaintMask.execute(
            latent={"samples": torch.ones(1, 256, 76), "seconds": [1.0]}, regions="0.1-9999999"
        ),
        lambda node, small, sound: small.decode(
            {"samples": torch.zeros(1, 256, 1).expand(100, 256, 30_000)}
        ),
        lambda node, small, sound: small.vae.decode(torch.zeros(1, 256, 1).expand(1, 256, 10**6)),
        lambda node, small, sound: Extension(add=50_000.0).windows(1.0, 120.0, 44100),
        lambda node, small, sound: continue_source(sound["waveform"], 44100, 1e9),
    ],
)
def test_lengths_that_would_take_the_machine_are_refused_first(small, monkeypatch, run):
    """Nothing of the size asked for is made: padding and encoding are never reached."""
    sound = music(0.4)

    def never(*args, **kwargs):
        raise AssertionError("made before it was checked")

    monkeypatch.setattr(type(small.vae), "encode_audio", never)
    node = small.module("nodes.editing")
    with pytest.raises(ValueError, match=r"at most (8 GB|4 GB|100000)"):
        run(node, small, sound)


def test_a_batch_of_the_core_is_limited():
    request = GenerateRequest(["a"], seconds=[1.0] * 1001)
    with pytest.raises(InputError, match="batch holds more than 1000"):
        _ = request.batch
    with pytest.raises(InputError, match="prompts holds more than 1000 entries"):
        check_prompts(["a"] * 1001)


def test_many_prompts_are_encoded_in_portions(small, monkeypatch):
    """As alone; the memory of a run stays that of a portion."""
    encoder = small.clip.cond_stage_model
    sizes = []
    run = encoder._run

    def counted(ids, mask):
        sizes.append(len(ids))
        return run(ids, mask)

    monkeypatch.setattr(encoder, "_run", counted)
    texts = [f"pad number {n}" if n % 3 else "" for n in range(70)]
    both = encoder.encode(texts)
    assert max(sizes) <= 32
    assert sum(sizes) == sum(map(bool, texts))
    alone = encoder.encode([texts[64]])
    length = alone.tokens.shape[1]
    assert torch.allclose(both.tokens[64, :length], alone.tokens[0], atol=1e-5)


def test_a_small_file_that_decodes_to_much_is_refused(tmp_path):
    file = silent_flac(tmp_path / "silence.flac", 60)
    assert file.stat().st_size < 100_000
    assert read_audio(file)[0].shape == (2, 60 * 44100)
    with pytest.raises(AudioError, match=r"lasts 60 s or more.*more than 0\.01 GB"):
        read_audio(file, 1e7)


def test_a_file_that_does_not_say_how_long_it_is_stops_in_time(tmp_path, monkeypatch):
    file = silent_flac(tmp_path / "silence.flac", 60)
    content = bytearray(file.read_bytes())
    content[21] &= 0xF0  # FLAC's count of samples: 36 bits, 0 = unknown
    content[22:26] = bytes(4)
    file.write_bytes(content)
    with pytest.raises(AudioError, match=r"lasts \d+ s or more"):
        read_audio(file, 1e7)
