"""`sa3` as a program: one-line errors, exit codes, warnings, progress, help."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
import torch

from sa3_core.audio.file import read_audio
from sa3_core.cli import generate as cli_generate
from sa3_core.cli.arguments import build_parser
from sa3_core.cli.files import Bars
from tests.helpers.cli_support import GENERATE, LORA, read_path
from tests.helpers.support import ROOT


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((*GENERATE, "--seconds", 0), "more than 0 and at most"),
        ((*GENERATE, "--seconds", "-3"), "-3"),
        ((*GENERATE, "--seconds", "nan"), "nan"),
        ((*GENERATE, "--seconds", 500), "at most"),
        ((*GENERATE, "--steps", "-1"), "error: --steps is -1; it must be"),
        ((*GENERATE, "--cfg", "nan"), "error: --cfg is nan"),
        ((*GENERATE, "--apg", 2), "error: --apg is 2"),
        ((*GENERATE, "--chunk", "-4"), "error: --chunk is -4"),
        ((*GENERATE, "--device", "quantum"), "error: --device is 'quantum'"),
        ((*GENERATE, "--device", "cuda:99"), "no 'cuda:99'"),
        ((*GENERATE, "--model", "medium"), "sa3 download medium"),
        ((*GENERATE, "--model", "/none/such"), "no such file or folder"),
        ((*GENERATE, "--model", "BAD/same.safetensors"), "SAME autoencoder only"),
        ((*GENERATE, "--model", "BAD/image.safetensors"), "not a Stable Audio 3 file"),
        ((*GENERATE, "--model", "BAD/cut.safetensors"), "cut short"),
        ((*GENERATE, "--text-encoder", "none"), "no text encoder 'none'"),
        ((*GENERATE, "--out", "none/o.wav"), "no folder"),
        ((*GENERATE, "--out", "o.ogg"), "saved as .wav, .flac, .mp3, .opus or .m4a"),
        ((*GENERATE, "--out", "o.mp3", "--bits", 16), "cannot be saved with 16 bits"),
        ((*GENERATE, "--latents-out", "o.pt"), ".safetensors or .npy"),
        ((*GENERATE, "--seed", 1, 2, "--latents-out", "o.npy"), "holds one item"),
        ((*GENERATE, "--init-audio", "none.wav"), "no audio file"),
        (
            (*GENERATE, "--init-audio", "source.wav", "--noise-level", 2),
            "error: --noise-level is 2.0; it must be",
        ),
        ((*GENERATE, "--inpaint-audio", "source.wav", "--region", "1-0.5"), "reversed"),
        ((*GENERATE, "--inpaint-audio", "source.wav", "--region", "bar 2"), "BPM"),
        ((*GENERATE, "--inpaint-audio", "source.wav", "--region", "9-10"), "continue the audio"),
        (
            (*GENERATE, "--continue-audio", "source.wav", "--add", 0),
            "error: --add is 0.0; it must be",
        ),
        ((*GENERATE, "--lora", "none.safetensors"), "none.safetensors"),
        ((*GENERATE, "--lora", "BAD/old.ckpt"), "pickle"),
        ((*GENERATE, "--lora", "BAD/medium.safetensors"), "does not fit this model"),
        (
            (*GENERATE, "--lora", "BAD/good.safetensors", "--lora-filter", "xyz"),
            "error: --lora-filter is 'xyz'",
        ),
        (("encode", "none.wav", "--model", "tiny-s", "--out", "l.npy"), "no audio file"),
        (("encode", "source.wav", "--model", "tiny-s", "--out", "l.wav"), "latent files end in"),
        (("encode", "source.wav", "--model", "none", "--out", "l.npy"), "no autoencoder 'none'"),
        (("decode", "none.npy", "--model", "tiny-s", "--out", "o.wav"), "no such file"),
        (("decode", "BAD/good.safetensors", "--model", "tiny-s", "--out", "o.wav"), "'latents'"),
        (("download", "medum"), "Did you mean 'medium'?"),
        (("merge", "--model", "tiny-s", "--lora", "none", "--out", "m"), "LoRA"),
        (
            (
                "merge",
                "--model",
                "tiny-s",
                "--lora",
                "BAD/medium.safetensors",
                "--out",
                "m.safetensors",
            ),
            "does not fit this model",
        ),
        (("merge", "--model", "tiny-s", "--lora", LORA, "--out", "a/b/m"), "there is no folder"),
    ],
)
def test_errors_are_one_line_and_exit_1(sa3, source, bad, argv, message):
    argv = [str(arg).replace("BAD", str(bad)) for arg in argv]
    before = sorted(read_path(".").iterdir())
    code, out, err = sa3(*argv)
    assert (code, out) == (1, [])
    assert err.startswith("sa3: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(read_path(".").iterdir()) == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "COMMAND"),
        (("sing",), "invalid choice"),
        (("merge", "--model", "tiny-s", "--out", "m"), "--lora"),
        (("merge", "--lora-filter", "x"), "must come after the --lora"),
        (("generate", "--model", "tiny-s", "--out", "o.wav"), "--prompt"),
        ((*GENERATE, "--sampler", "eulr"), "invalid choice: 'eulr'"),
        ((*GENERATE, "--shift", "x"), "invalid choice"),
        ((*GENERATE, "--objective", "x"), "invalid choice"),
        ((*GENERATE, "--dtype", "int4"), "invalid choice: 'int4'"),
        (("encode", "a.wav", "--model", "m", "--out", "o", "--dtype", "int8"), "int8 stores the"),
        (
            ("decode", "l.npy", "--model", "m", "--out", "o", "--precision", "int8"),
            "alone; nothing else",
        ),
        (
            ("pre-encode", "d", "--model", "m", "--out", "o", "--precision", "fp8_e4m3"),
            "fp8_e4m3 stores the large weights",
        ),
        (
            ("encode", "a", "--model", "m", "--out", "o", "--dtype", "int8"),
            "nothing else is stored so",
        ),
        (("merge", "--out", "o", "--dtype", "int8"), "--lora"),
        ((*GENERATE, "--mask-rule", "x"), "invalid choice"),
        ((*GENERATE, "--bits", 20), "invalid choice"),
        ((*GENERATE, "--seconds", "ten"), "is no time"),
        ((*GENERATE, "--step", 4), "unrecognized"),
        ((*GENERATE, "--inpaint-audio", "a.wav"), "--inpaint-audio needs --region"),
        ((*GENERATE, "--region", "1-2"), "--region needs --inpaint-audio"),
        ((*GENERATE, "--continue-audio", "a.wav"), "--continue-audio needs --add"),
        ((*GENERATE, "--add", 3), "--add needs --continue-audio"),
        (
            (*GENERATE, "--continue-audio", "a.wav", "--add", 3, "--seconds", 9),
            "does not go with --continue-audio",
        ),
        ((*GENERATE, "--noise-level", 0.5), "--noise-level needs"),
        ((*GENERATE, "--bpm", 120), "--bpm needs --region"),
        ((*GENERATE, "--init-audio", "a", "--inpaint-audio", "b"), "not allowed with"),
        ((*GENERATE, "--lora-interval", "0-1"), "must come after the --lora"),
        ((*GENERATE, "--lora", "a", "--lora-interval", "0.9-0.2"), "MIN-MAX within 0-1"),
        ((*GENERATE, "--lora", "a", "--lora-interval", "low"), "MIN-MAX within 0-1"),
        ((*GENERATE, "--lora", "aa:nan"), "finite"),
        ((*GENERATE, "--lora", "a", "--lora-filter", "[3"), "--lora-filter: the filter is '[3'"),
    ],
)
def test_wrong_usage_exits_2(sa3, argv, message):
    code, out, err = sa3(*argv)
    assert (code, out) == (2, [])
    assert message in err


def test_warnings_go_to_stderr_and_the_run_goes_on(sa3):
    code, out, err = sa3(
        *("generate", "--model", "tiny-s", "--prompt", "word " * 300, "--negative", "x"),
        *("--steps", 1, "--seconds", 0.5, "--out", "w.wav"),
    )
    assert (code, out) == (0, ["w.wav"])
    lines = err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("sa3: warning: ") for line in lines)
    assert any("tokens; only the first 256" in line for line in lines)
    assert any("no effect at cfg 1" in line for line in lines)


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "sa3: interrupted"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "out of memory"),
        (torch.cuda.OutOfMemoryError("CUDA"), 1, "out of memory"),
        (MemoryError(), 1, "out of memory"),
        (PermissionError(13, "Permission denied", "x"), 1, "Permission denied"),
    ],
)
def test_what_can_happen_to_a_run(sa3, monkeypatch, failure, code, message):
    def fails(*args):
        raise failure

    monkeypatch.setattr(cli_generate, "generate", fails)
    got, out, err = sa3(*GENERATE, "--seconds", 0.5)
    assert (got, out) == (code, [])
    assert message in err
    assert err.count("\n") == 1


def test_our_own_mistakes_are_not_hidden(sa3, monkeypatch):
    def fails(*args):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(cli_generate, "generate", fails)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        sa3(*GENERATE, "--seconds", 0.5)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_bars_only_on_a_terminal(monkeypatch):
    for stream, shown in ((_Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with Bars() as on_progress:
            on_progress("sample", 1, 2)
            on_progress("sample", 2, 2)
            on_progress("decode", 1, 1)
        text = stream.getvalue()
        assert ("sample: 100%" in text and "decode: 100%" in text) == shown


def test_every_command_explains_itself(sa3):
    for command in ("generate", "encode", "decode", "models", "download", "merge"):
        code, out, _ = sa3(command, "--help")
        assert code == 0
        assert "Exit codes: 0 done, 1 error" in "\n".join(out)
    assert sa3("--version")[1][0].startswith("sa3 ")
    assert "generate" in build_parser().format_help()


def test_as_a_program(tiny_s, tmp_path):
    command = [sys.executable, "-m", "sa3_core", *GENERATE, "--seconds", "0.5", "--steps", "1"]
    done = subprocess.run(
        [*command, "--models-dir", str(tiny_s.parent)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "o.wav\n", "")
    assert read_audio(tmp_path / "o.wav")[0].shape == (2, 22050)
