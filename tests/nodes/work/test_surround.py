"""Sources of more than two channels, in every node that takes AUDIO."""

from __future__ import annotations

import types

import av
import pytest
import torch

from sa3_core.audio.downmix import to_stereo
from tests.helpers.editing_support import RATE, music


@pytest.fixture(scope="module")
def surround():
    return music(1.5, channels=6)


@pytest.fixture(scope="module")
def stereo(surround):
    return {**surround, "waveform": to_stereo(surround["waveform"])[0]}


def said(out):
    return "6 channels (FL FR FC LFE BL BR, assumed)" in "\n".join(out.ui["text"])


def test_editing_nodes_take_the_mix_and_say_so(small, surround, stereo):
    nodes = small.module("nodes.editing")
    encode = small.module("nodes.latent").SA3SAMEEncode.execute
    runs = (
        lambda audio: encode(audio, small.vae),
        lambda audio: nodes.SA3InpaintMask.execute(audio=audio, vae=small.vae, regions="0.5-1"),
        lambda audio: nodes.SA3ContinueAudio.execute(audio, small.vae, 1.0),
        lambda audio: nodes.SA3Loop.execute(
            audio, small.vae, length_in="seconds", seam_seconds=0.5
        ),
    )
    for run in runs:
        mixed, plain = run(surround), run(stereo)
        assert torch.equal(mixed.args[0]["samples"], plain.args[0]["samples"])
        assert said(mixed)
        assert not said(plain)


def test_what_is_put_back_is_the_mix(small, surround, stereo):
    nodes = small.module("nodes.editing")
    masked = nodes.SA3InpaintMask.execute(audio=surround, vae=small.vae, regions="0.5-1").args[0]
    out = small.decode(small.sample(masked))
    assert torch.equal(out["waveform"][..., :22050], stereo["waveform"][..., :22050])
    pasted = nodes.SA3PasteBack.execute(audio=out, source=surround, regions="0.2-0.4")
    assert torch.equal(pasted.args[0]["waveform"][..., :8820], stereo["waveform"][..., :8820])
    assert said(pasted)
    made = nodes.SA3PasteBack.execute(audio=surround, source=stereo, regions="0.2-0.4")
    assert made.args[0]["waveform"].shape[1] == 2
    assert said(made)


def test_extend_audio(small, surround, stereo):
    node = small.module("nodes.extending").SA3ExtendAudio
    out = node.execute(
        surround, small.model, small.vae, small.prompt("pad"), 0.5, 1, steps=1, overlap_seconds=0.2
    )
    length = stereo["waveform"].shape[-1]
    assert torch.equal(out.args[0]["waveform"][..., :length], stereo["waveform"])
    assert said(out)


def test_the_stock_encoder_takes_them_through_our_vae(small, surround, stereo):
    mixed, plain = (small.vae.encode(a["waveform"].movedim(1, -1)) for a in (surround, stereo))
    assert torch.equal(mixed, plain)


@pytest.fixture
def folders(pack, monkeypatch, tmp_path):
    import folder_paths

    for name in ("output", "temp"):
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    return tmp_path


def channels_of(path):
    with av.open(str(path)) as container:
        return container.streams.audio[0].layout.nb_channels


def test_saving_keeps_all_channels_where_the_format_holds_them(small, folders, surround):
    save = small.module("nodes.bridge.work.saving").save
    hidden = types.SimpleNamespace(prompt=None, extra_pnginfo=None)
    for form, channels in (("flac-24", 6), ("wav-16", 6), ("mp3-V0", 2), ("opus-64k", 2)):
        files, notes = save(surround, "a", form, hidden)
        assert channels_of(folders / "output" / files[0]["filename"]) == channels
        assert any("mixed down" in note for note in notes) == (channels == 2)


def test_compare_audio_plays_the_mix(small, folders, surround):
    compare = small.module("nodes.bridge.work.compare").compare
    ui, notes = compare({"A": surround, "B": music(0.5)}, None, 0)
    assert channels_of(folders / "temp" / ui["sa3_takes"][0]["filename"]) == 2
    assert [note.startswith("A: The 6 channels") for note in notes].count(True) == 1


def test_looking_draws_any_number(small, folders, surround):
    look = small.module("nodes.bridge.work.look").look
    hidden = types.SimpleNamespace(prompt=None, extra_pnginfo=None)
    assert "1.50 s" in look(surround, None, hidden).notes[0]
    assert surround["waveform"].shape == (1, 6, round(1.5 * RATE))
