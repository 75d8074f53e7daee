"""`sa3 pre-encode` and `sa3 train` from recordings to a LoRA, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sa3_core.adapters.file import read_adapter
from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import format_for
from sa3_core.cli.main import main
from sa3_core.files.lock import only_one
from tests.helpers.support import load_golden, rel_l2, tiny_checkpoint


@pytest.fixture
def latents(tmp_path) -> Path:
    golden, sounds = load_golden("training/pre_encode_tiny-s"), tmp_path / "sounds"
    sounds.mkdir()
    path = sounds / "a.wav"
    write_audio(path, golden["pcm.a"].float() / 32768, 44100, format_for(path, 16))
    out = tmp_path / "latents"
    command = ["pre-encode", str(sounds), "--model", str(tiny_checkpoint("tiny-s"))]
    command += ["--out", str(out), "--sample_size", "81920", "--caption", "{stem} pad"]
    assert main(command) == 0
    return out


def test_pre_encode_says_of_each_recording_what_became_of_it(latents, tmp_path, capsys):
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"RIFF no sound")
    command = ["pre-encode", str(tmp_path / "sounds"), "--model", str(tiny_checkpoint("tiny-s"))]
    command += ["--sample_size", "81920", "--caption", "{stem} pad"]
    capsys.readouterr()
    assert main([*command, "--out", str(latents)]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == "kept\t1.30 s\ta.wav"
    assert second.startswith("rejected\t0.00 s\tbroken.wav\t")
    assert last == f"{latents}: 1 clips of same-s"
    with only_one(latents):
        assert main([*command, "--out", str(latents)]) == 1
    assert "in use by another process" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--out", str(latents), "--gpus-per-worker", "0.5"])
    assert "--gpus-per-worker needs --engine ray" in capsys.readouterr().err


def test_what_cannot_be_written_fails_and_the_rest_is_encoded(latents, tmp_path, capsys):
    """The next run makes the rest."""
    sounds, out = tmp_path / "sounds", tmp_path / "out"
    write_audio(sounds / "b.wav", torch.rand(2, 9000) * 0.3, 44100, format_for(sounds / "b.wav"))
    (clip,) = (path for path in latents.glob("*.npy") if path.name != "silence.npy")
    (out / clip.name).mkdir(parents=True)  # in the way of a.wav's clip
    command = ["pre-encode", str(sounds), "--model", str(tiny_checkpoint("tiny-s"))]
    command += ["--out", str(out), "--sample_size", "81920", "--caption", "{stem} pad"]
    assert main(command) == 1
    assert "1 of 2 recordings could not be encoded (first a.wav: " in capsys.readouterr().err
    (out / clip.name).rmdir()
    assert main(command) == 0
    said = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()[:2]]
    assert said == ["encoded", "kept"]
    assert (out / clip.name).read_bytes() == clip.read_bytes()


def train(latents: Path, out: Path, *more: str) -> int:
    command = ["train", "--model", str(tiny_checkpoint("tiny-s")), "--data", str(latents)]
    command += ["--out", str(out), "--rank", "2", "--lr", "1e-3", "--batch", "2", *more]
    return main(command)


def test_stopped_and_resumed_is_the_same_lora(latents, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(latents, whole, "--steps", "3", "--crop", "0.5", "--allow-post-trained") == 0
    assert train(latents, parts, "--steps", "2", "--crop", "0.5", "--allow-post-trained") == 0
    assert (
        train(latents, parts, "--steps", "3", "--crop", "0.5", "--allow-post-trained", "--resume")
        == 0
    )
    for name in ("lora.safetensors", "training.state"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    file = read_adapter(whole / "lora.safetensors")
    assert (file.adapter_type, file.rank, len(file.layers)) == ("dora-rows", 2, 40)
    assert any(bool((layer.low_rank.b != 0).any()) for layer in file.layers.values())
    assert len((parts / "log.csv").read_text().splitlines()) == 4


def test_refusals_say_what_to_do(latents, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(latents, out, "--steps", "1") == 1
    assert "-base model" in capsys.readouterr().err
    assert train(latents, out, "--resume") == 1
    assert "no run to go on with" in capsys.readouterr().err
    assert train(tmp_path / "sounds", out, "--allow-post-trained") == 1
    assert "holds no encoded clips" in capsys.readouterr().err
    assert train(latents, out, "--allow-post-trained", "--include", "nowhere") == 1
    assert "leave no layer" in capsys.readouterr().err
    assert not out.exists()
    assert train(latents, out, "--steps", "1", "--allow-post-trained") == 0
    assert train(latents, out, "--steps", "1", "--allow-post-trained") == 1
    assert "holds a run already" in capsys.readouterr().err


def test_ctrl_c_saves(latents, tmp_path, monkeypatch):
    from sa3_core.training.trainer import Trainer

    run_step = Trainer.run_step

    def stop(self):
        if self.step == 1:
            raise KeyboardInterrupt
        return run_step(self)

    monkeypatch.setattr(Trainer, "run_step", stop)
    assert train(latents, tmp_path / "run", "--steps", "9", "--allow-post-trained") == 130
    assert (
        '"step": 1' in read_adapter(tmp_path / "run" / "lora.safetensors").metadata["lora_config"]
    )


def test_all_weights_are_trained_into_a_model_that_generates(latents, tmp_path, capsys):
    out = tmp_path / "run"
    more = ("--allow-post-trained", "--full", "--crop", "0.5")
    assert train(latents, out, "--steps", "1", *more) == 0
    assert train(latents, out, "--steps", "2", "--resume", "--save-every", "1", *more) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "model")
    assert {path.name for path in (out / "model-000002").iterdir()} == {
        "model.safetensors",
        "model_config.json",
    }
    takes = [tmp_path / "before.wav", tmp_path / "after.wav"]
    for model, take in zip((tiny_checkpoint("tiny-s"), out / "model"), takes, strict=True):
        command = ["generate", "--model", str(model), "--prompt", "a", "--seconds", "0.5"]
        assert main([*command, "--steps", "1", "--seed", "1", "--out", str(take)]) == 0
    assert takes[0].read_bytes() != takes[1].read_bytes()
    state = (out / "training.state").read_bytes()
    assert train(latents, tmp_path / "whole", "--steps", "2", *more) == 0
    assert (tmp_path / "whole" / "training.state").read_bytes() == state


def test_numbered_checkpoints_stay_as_many_as_asked(latents, tmp_path):
    more = ("--allow-post-trained", "--crop", "0.5", "--save-every", "1", "--keep", "2")
    assert train(latents, tmp_path / "run", "--steps", "3", *more) == 0
    names = sorted(path.name for path in (tmp_path / "run").glob("lora-*"))
    assert names == ["lora-000002.safetensors", "lora-000003.safetensors"]
    last = (tmp_path / "run" / "lora.safetensors").read_bytes()
    assert (tmp_path / "run" / names[1]).read_bytes() == last


def test_two_trainings_never_share_a_folder(latents, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    with only_one(out):
        assert train(latents, out, "--steps", "1", "--allow-post-trained") == 1
    assert "in use by another process" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [".in-use"]


def test_a_dry_run_says_what_it_takes_and_writes_nothing(latents, tmp_path, capsys):
    out = tmp_path / "run"
    more = ("--allow-post-trained", "--preset", "low-memory", "--dry-run")
    assert train(latents, out, *more) == 0
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert lines[0].startswith("clips\t1, 0.0 minutes; 0 held out")
    assert "10000 of 2 x 12.1 s, each clip 20000.0 times" in lines[1]
    assert "GB" in lines[3]
    assert "blocks are recomputed" in lines[3]
    assert not out.exists()


def test_flags_win_over_the_preset():
    from sa3_core.cli.arguments import build_parser
    from sa3_core.training.presets import with_preset

    command = ["train", "--model", "m", "--data", "d", "--out", "o", "--preset", "low-memory"]
    args = build_parser().parse_args([*command, "--rank", "16"])
    vars(args).update(with_preset(args.preset, vars(args)))
    assert (args.rank, args.adapter_type, args.crop, args.steps) == (16, "lora", 12.0, 10_000)
    assert args.recompute == "on"


def test_training_starts_from_a_lora_of_the_same_kind(latents, tmp_path, capsys):
    more = ("--allow-post-trained", "--crop", "0.5", "--steps", "1")
    assert train(latents, tmp_path / "first", *more) == 0
    first = tmp_path / "first" / "lora.safetensors"
    assert train(latents, tmp_path / "more", *more, "--start-from", str(first)) == 0
    old, new = (read_adapter(p).layers for p in (first, tmp_path / "more" / "lora.safetensors"))
    key = next(iter(old))
    assert not old[key].low_rank.b.equal(new[key].low_rank.b)
    assert (old[key].low_rank.a - new[key].low_rank.a).abs().max() < 2e-3
    other = ("--start-from", str(first), "--type", "bora")
    assert train(latents, tmp_path / "other", *more, *other) == 1
    assert "its type is dora-rows, not bora" in capsys.readouterr().err
    assert train(latents, tmp_path / "other", *more, "--full", "--start-from", str(first)) == 1
    assert "leave out --start-from" in capsys.readouterr().err


def test_a_dry_run_of_pre_encode_writes_nothing(latents, tmp_path, capsys):
    out = tmp_path / "more"
    command = ["pre-encode", str(tmp_path / "sounds"), "--model", str(tiny_checkpoint("tiny-s"))]
    command += ["--out", str(out), "--dry-run", "--sample-size", "20480"]
    assert main(command) == 0
    assert "unusable\ta.wav" in capsys.readouterr().out
    assert main([*command, "--caption", "x"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "clips\t3 of 1 recordings"
    assert [line.split("\t")[0] for line in lines] == ["clips", "sound", "disk", "time"]
    assert not out.exists()
    assert main([*command[:-1], "4095"]) == 1
    assert "--sample-size is 4095" in capsys.readouterr().err


def test_demos_are_made_with_each_checkpoint(latents, tmp_path):
    out, tiny = tmp_path / "run", str(tiny_checkpoint("tiny-s"))
    more = ("--allow-post-trained", "--crop", "0.5", "--save-every", "1", "--lr", "0.05")
    demo = ("--demo-prompt", "warm pad", "--demo-seconds", "0.5", "--demo-model", tiny)
    assert train(latents, out, "--steps", "2", *more, *demo) == 0
    names = sorted(path.name for path in (out / "demos").glob("*.wav"))
    assert names == [f"step-00000{step}{model}-1.wav" for step in "12" for model in ("", "-tiny-s")]
    sounds = [read_audio(out / "demos" / name)[0] for name in names]
    assert all(sound.shape == (2, 22050) for sound in sounds)
    assert not torch.equal(sounds[0], sounds[2])
    # the LoRA that learns and its file on the same model: float16 apart
    for learning, loaded in (sounds[:2], sounds[2:]):
        assert rel_l2(loaded, learning) < 0.02
    picture = Image.open(out / "demos" / names[0].replace(".wav", ".png"))
    assert picture.size == (800, 256)
    assert train(latents, tmp_path / "plain", "--steps", "2", *more) == 0
    states = [(folder / "training.state").read_bytes() for folder in (out, tmp_path / "plain")]
    assert states[0] == states[1]
