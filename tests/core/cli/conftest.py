"""`sa3` in process, on tiny models, in a folder of its own."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from safetensors.torch import load_file, save_file

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.cli import generate as cli_generate
from sa3_core.cli.main import main
from sa3_core.pipeline import load_pipeline
from tests.helpers.cli_support import LORA, PROMPT
from tests.helpers.support import GOLDEN, load_golden


@pytest.fixture(scope="module")
def cached_pipeline():
    """Loads each pipeline once: what is tested here is the command line."""
    return lru_cache(load_pipeline)


@pytest.fixture
def sa3(monkeypatch, capsys, tiny_s, tmp_path, cached_pipeline):
    """sa3("generate", ...) -> (exit code, stdout lines, stderr); runs in tmp_path."""
    monkeypatch.setattr(cli_generate, "load_pipeline", cached_pipeline)
    monkeypatch.setenv("SA3_MODELS", str(tiny_s.parent))
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        try:
            code = main([str(arg) for arg in argv])
        except SystemExit as usage:
            code = usage.code
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


@pytest.fixture
def make(sa3):
    """make("--cfg", 2, ...) -> latents of a 1.5 s piece in 4 steps; the audio is in out.wav."""

    def run(*argv):
        code, _, err = sa3(
            *("generate", "--model", "tiny-s", "--prompt", PROMPT, "--steps", 4, "--seed", 1234),
            *("--out", "out.wav", "--latents-out", "out.safetensors", "--force", *argv),
        )
        assert code == 0, err
        return load_file("out.safetensors")["latents"]

    return run


@pytest.fixture(scope="module")
def bad(tiny_s, tmp_path_factory):
    """A folder of files that are not what they are taken for, and one good LoRA."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "old.ckpt").write_bytes(b"pickle")
    (folder / "good.safetensors").write_bytes(LORA.read_bytes())
    other = GOLDEN / "tiny-m" / "adapter_lora.safetensors"
    (folder / "medium.safetensors").write_bytes(other.read_bytes())
    image = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}
    save_file(image, folder / "image.safetensors")
    weights, prefix = load_file(tiny_s / "model.safetensors"), "pretransform.model."
    same = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    save_file(same, folder / "same.safetensors")
    cut = (tiny_s / "model.safetensors").read_bytes()[:-100]
    (folder / "cut.safetensors").write_bytes(cut)
    return folder


@pytest.fixture
def source(tmp_path):
    """source.wav: 1.5 s of stereo at 44.1 kHz; the samples."""
    audio = load_golden("tiny-s/same")["input_audio"]
    write_audio(tmp_path / "source.wav", audio, 44100, FORMATS["wav-32f"])
    return audio
