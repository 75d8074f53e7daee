"""Folders of recordings encoded, against the reference's own files and for what may go wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sa3_core.audio.downmix import to_stereo
from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import format_for
from sa3_core.checkpoints.load import load_autoencoder
from sa3_core.datasets.encode import DEFAULT_SAMPLES, Encoder, encode_folder
from sa3_core.datasets.encoded import read_clip, read_folder, read_silence
from sa3_core.datasets.folder import CaptionRule, list_recordings
from sa3_core.datasets.plan import plan_encoding
from sa3_core.errors import InputError, LatentFileError
from sa3_core.geometry import HOP
from tests.helpers.support import load_golden, rel_l2, tiny_checkpoint

SIZE = 20 * HOP


@pytest.fixture(scope="module")
def same():
    return load_autoencoder(tiny_checkpoint("tiny-s"))


def write_wav(path, pcm, rate):
    write_audio(path, pcm.float() / 32768, rate, format_for(path, 16))


@pytest.fixture
def folder(tmp_path):
    """The two recordings that the reference encoded, with captions."""
    golden, place = load_golden("training/pre_encode_tiny-s"), tmp_path / "sounds"
    place.mkdir()
    for name, rate in (("a", 44100), ("b", 48000)):
        write_wav(place / f"{name}.wav", golden[f"pcm.{name}"], rate)
        (place / f"{name}.txt").write_text(f" caption {name}\n", encoding="utf-8")
    return place


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_latents_equal_the_reference(folder, tmp_path, variant, pad):
    golden, out = load_golden(f"training/pre_encode_{variant}"), tmp_path / "out"
    net = load_autoencoder(tiny_checkpoint(variant))
    outcomes = encode_folder(list_recordings(folder), net, out, SIZE, pad)
    assert [o.status for o in outcomes] == ["encoded", "encoded"]
    for outcome, key, valid in zip(outcomes, "ab", (14, 10), strict=True):
        clip = read_clip(out / f"{outcome.names[0]}.npy")
        expected = golden[f"pad.{key}"]
        assert rel_l2(clip.latents, expected if pad else expected[:, :valid]) <= 1e-5
        assert (clip.valid, clip.prompt) == (valid, f"caption {key}")
    clip = read_clip(out / f"{outcomes[0].names[0]}.npy")
    assert clip.seconds == 57330 / 44100
    assert clip.autoencoder == ("same-l" if variant == "tiny-m" else "same-s")
    assert rel_l2(read_silence(out)[:, :2], golden["silence"][0]) <= 1e-5
    assert read_silence(out).shape == (256, 20)


@pytest.mark.parametrize("frames", [1, 7, 30, 31])
@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_silence_is_put_together_from_a_short_one(variant, frames):
    """The same as encoded whole, both ends included."""
    encoder = Encoder.of(load_autoencoder(tiny_checkpoint(variant)))
    whole = encoder.run(torch.zeros(1, 2, frames * HOP))
    assert rel_l2(encoder.silence(frames), whole) <= 1e-5


def test_the_length_of_pieces_costs_nothing(folder, tmp_path, same):
    """At 285 s a piece, no more is encoded than the clips with their halo and a short silence."""
    whole, counted = Encoder.of(same), list[int]()

    def run(sound):
        counted.append(sound.shape[-1] // HOP)
        return whole.run(sound)

    encoder = Encoder(whole.kind, whole.halo, whole.grid, whole.half, run)
    encode_folder(list_recordings(folder), encoder, tmp_path / "out")
    assert counted == [6, 16, 12]
    assert read_silence(tmp_path / "out").shape == (256, DEFAULT_SAMPLES // HOP)


def test_a_batch_gives_the_same_latents(folder, tmp_path, same):
    for name, batch in (("one", 1), ("two", 2), ("three", 3)):
        encode_folder(list_recordings(folder), same, tmp_path / name, 6 * HOP, batch=batch)
    one, two, three = (read_folder(tmp_path / name) for name in ("one", "two", "three"))
    assert len(one) == 5
    for clips in (two, three):
        for expected, clip in zip(one, clips, strict=True):
            assert rel_l2(clip.latents, expected.latents) <= 1e-5
            assert (clip.name, clip.prompt) == (expected.name, expected.prompt)


def test_a_plan_comes_to_what_is_encoded(folder, tmp_path, same):
    (folder / "none.wav").write_bytes(b"no sound")
    (folder / "none.txt").write_text("caption", encoding="utf-8")
    recordings, out = list_recordings(folder), tmp_path / "out"
    plan = plan_encoding(recordings, 8 * HOP, pad=False)
    outcomes = encode_folder(recordings, same, out, 8 * HOP)
    assert plan.unusable == ("none.wav",)
    assert plan.clips == sum(len(outcome.names) for outcome in outcomes)
    assert plan.seconds == pytest.approx(sum(outcome.seconds for outcome in outcomes))
    assert plan.size == sum(np.load(path).nbytes for path in out.glob("*.npy"))


def test_the_references_files_are_read(tmp_path):
    golden = load_golden("training/pre_encode_tiny-s")
    for key in ("nopad.a", "pad.b"):
        settings = golden.settings[key]
        np.save(tmp_path / f"{key}.npy", golden[key].numpy())
        (tmp_path / f"{key}.json").write_text(json.dumps(settings["json"]), encoding="utf-8")
    np.save(tmp_path / "silence.npy", golden["silence"].numpy())
    whole, padded = read_folder(tmp_path)
    assert torch.equal(whole.latents, golden["nopad.a"])
    assert (whole.valid, whole.seconds, whole.prompt) == (14, 2.0, "caption a")
    assert (padded.valid, padded.latents.shape[1]) == (10, 20)


def test_a_second_run_keeps_what_is_there_and_takes_new_captions(folder, tmp_path, same):
    out = tmp_path / "out"
    encode_folder(list_recordings(folder), same, out, SIZE)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.glob("*.npy")}
    (folder / "a.txt").write_text("another caption", encoding="utf-8")
    outcomes = encode_folder(list_recordings(folder), same, out, SIZE)
    assert [o.status for o in outcomes] == ["kept", "kept"]
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.glob("*.npy")} == before
    assert read_clip(out / f"{outcomes[0].names[0]}.npy").prompt == "another caption"


def test_an_interrupted_run_goes_on(folder, tmp_path, same):
    def stop(done, total, name):
        if done == 1:
            raise KeyboardInterrupt

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    encode_folder(list_recordings(folder), same, whole, SIZE)
    with pytest.raises(KeyboardInterrupt):
        encode_folder(list_recordings(folder), same, cut, SIZE, on_recording=stop)
    outcomes = encode_folder(list_recordings(folder), same, cut, SIZE)
    assert [o.status for o in outcomes] == ["kept", "encoded"]
    files = {p.name: p.read_bytes() for p in whole.iterdir()}
    assert {p.name: p.read_bytes() for p in cut.iterdir()} == files


def test_long_recordings_become_consecutive_pieces(folder, tmp_path, same):
    recording = [r for r in list_recordings(folder) if r.relative == "a.wav"]
    (outcome,) = encode_folder(recording, same, tmp_path / "out", 8 * HOP)
    clips = [read_clip(tmp_path / "out" / f"{name}.npy") for name in outcome.names]
    assert [clip.valid for clip in clips] == [8, 6]
    assert sum(clip.seconds for clip in clips) == pytest.approx(57330 / 44100)
    assert outcome.note == "cut into 2 pieces"


def test_what_cannot_be_used_is_said_and_nothing_takes_its_place(folder, tmp_path, same):
    golden = load_golden("training/pre_encode_tiny-s")
    write_wav(folder / "c.wav", golden["pcm.a"], 44100)  # the same sound again
    write_wav(folder / "d.wav", torch.zeros(2, 9000), 44100)
    write_wav(folder / "e.wav", golden["pcm.b"], 44100)  # no caption
    (folder / "f.wav").write_bytes(b"no sound at all")
    for name in "cdf":
        (folder / f"{name}.txt").write_text("caption", encoding="utf-8")
    outcomes = encode_folder(list_recordings(folder), same, tmp_path / "out", SIZE)
    notes = {o.relative: o.note for o in outcomes if o.status == "rejected"}
    assert set(notes) == {"c.wav", "d.wav", "e.wav", "f.wav"}
    assert "same sound as a.wav" in notes["c.wav"]
    assert "silent" in notes["d.wav"]
    assert "no caption" in notes["e.wav"]
    assert "damaged" in notes["f.wav"]
    assert len(read_folder(tmp_path / "out")) == 2


def test_no_usable_recording_is_an_error_with_names(folder, tmp_path, same):
    for path in folder.glob("*.txt"):
        path.unlink()
    with pytest.raises(InputError, match=r"None of the 2 .*a\.wav: no caption"):
        encode_folder(list_recordings(folder), same, tmp_path / "out", SIZE)


def test_captions_come_in_their_order(folder):
    (folder / "a.json").write_text('{"Genre": "House", "BPM": 120, "x": []}', encoding="utf-8")
    (folder / "b.txt").unlink()
    rule = CaptionRule("a {stem} from {folder}", trigger="zzk")
    first, second = list_recordings(folder, rule)
    assert first.caption == "zzk, Genre: House, BPM: 120"
    assert second.caption == "zzk, a b from sounds"


def test_hidden_files_are_left_out_and_a_list_replaces_the_walk(folder):
    (folder / ".trash").mkdir()
    (folder / ".trash" / "x.wav").write_bytes(b"")
    assert [r.relative for r in list_recordings(folder)] == ["a.wav", "b.wav"]
    (folder / "filelist.txt").write_text("b.wav\n", encoding="utf-8")
    assert [r.relative for r in list_recordings(folder)] == ["b.wav"]
    (folder / "filelist.txt").write_text("../../gone.wav\n", encoding="utf-8")
    with pytest.raises(InputError, match="gone"):
        list_recordings(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"padding_mask": [0] * 14}, "at least one"),
        ({"padding_mask": [1] * 13}, "14 numbers"),
        ({"padding_mask": [1, 0] * 7}, "then zeros"),
        ({"seconds_total": None}, "above 0"),
        ({"prompt": 3}, "must be text"),
    ],
)
def test_damaged_notes_are_refused(tmp_path, change, message):
    golden = load_golden("training/pre_encode_tiny-s")
    np.save(tmp_path / "x.npy", golden["nopad.a"].numpy())
    notes = golden.settings["nopad.a"]["json"] | change
    (tmp_path / "x.json").write_text(json.dumps(notes), encoding="utf-8")
    with pytest.raises(LatentFileError, match=message):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((255, 14), np.float32), "256, frames"),
        (np.full((256, 14), np.nan, np.float32), "not finite"),
        (np.zeros((256, 14), np.int32), "int32"),
    ],
)
def test_damaged_latents_are_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(LatentFileError, match=message):
        read_folder(tmp_path)


def test_latents_of_another_autoencoder_are_refused(folder, tmp_path, same):
    encode_folder(list_recordings(folder), same, tmp_path / "out", SIZE)
    assert len(read_folder(tmp_path / "out", "same-s")) == 2
    with pytest.raises(LatentFileError, match="the model needs same-l"):
        read_folder(tmp_path / "out", "same-l")


def test_a_clip_without_notes_or_with_a_pickle_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((256, 2), np.float32))
    with pytest.raises(LatentFileError, match="is missing"):
        read_folder(tmp_path)
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(LatentFileError, match="no readable array"):
        read_folder(tmp_path)


def test_surround_recordings_are_mixed_down_and_said(same, tmp_path):
    place = tmp_path / "sounds"
    place.mkdir()
    sound = torch.rand(6, 9 * HOP, generator=torch.Generator().manual_seed(1)) * 0.2
    for name, audio in (("six", sound), ("two", to_stereo(sound)[0])):
        write_audio(place / f"{name}.wav", audio, 44100, format_for(place / "a.wav"))
        (place / f"{name}.txt").write_text("pad", encoding="utf-8")
    six, two = encode_folder(list_recordings(place), same, tmp_path / "out", SIZE)
    assert (six.status, two.note) == ("encoded", "the same sound as six.wav")
    assert six.note.startswith("The 6 channels (FL FR FC LFE BL BR) were mixed down")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe\x00", "no readable text"),
        ("a.json", b"{", "no readable JSON"),
        ("a.json", b"[" * 100_000, "no readable JSON"),
        ("a.json", b"[1]", "must hold a JSON object"),
        ("a.json", b"\xff", "no readable text"),
    ],
)
def test_captions_that_cannot_be_read_are_said_with_their_file(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        list_recordings(folder)
    assert name in str(error.value)


@pytest.mark.parametrize("caption", ["", "   \n", "\ufeff"])
def test_an_empty_caption_is_none(folder, caption):
    (folder / "a.txt").write_text(caption, encoding="utf-8")
    assert list_recordings(folder)[0].caption == ""


def test_a_recording_that_is_cut_short_is_rejected(folder, tmp_path, same):
    path = folder / "a.wav"
    path.write_bytes(path.read_bytes()[:-20_000])
    outcomes = encode_folder(list_recordings(folder), same, tmp_path / "out", SIZE)
    assert [o.status for o in outcomes] == ["rejected", "encoded"]
    assert "cut short" in outcomes[0].note


@pytest.mark.parametrize("array", [np.zeros((3, 2)), np.full((1, 256, 2), np.inf)])
def test_a_damaged_silence_is_refused(tmp_path, array):
    np.save(tmp_path / "silence.npy", array.astype(np.float32))
    with pytest.raises(LatentFileError, match=r"silence\.npy"):
        read_silence(tmp_path)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "3"])
def test_durations_that_are_none_are_refused(tmp_path, seconds):
    np.save(tmp_path / "x.npy", np.zeros((256, 2), np.float32))
    notes = {"prompt": "p", "seconds_total": seconds, "padding_mask": [1, 1]}
    (tmp_path / "x.json").write_text(json.dumps(notes), encoding="utf-8")
    with pytest.raises(LatentFileError, match="seconds_total"):
        read_folder(tmp_path)


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, ""])
def test_notes_that_are_no_object_are_refused(tmp_path, text):
    np.save(tmp_path / "x.npy", np.zeros((256, 2), np.float32))
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(LatentFileError, match=r"x\.json"):
        read_folder(tmp_path)
