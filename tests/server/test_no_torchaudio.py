"""The pack in a real server where whatever it imports finds no torchaudio, as in newer ComfyUI."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from tests.helpers.client import node
from tests.helpers.harness import PACK_NAME, server_with_models
from tests.helpers.support import ROOT
from tests.server.test_server import ids_in_source

# ComfyUI 0.30 itself may have it: only imports from files of this pack fail.
BLOCK = """
import builtins, importlib, os, sys

ours = ({root!r}, os.path.join("custom_nodes", {pack!r}))
real_import, real_module = builtins.__import__, importlib.import_module

def refuse(name):
    if name.split(".")[0] == "torchaudio":
        frame = sys._getframe(2)
        while frame is not None:
            path = frame.f_code.co_filename
            if any(part in path for part in ours) and ".venv" not in path and ".dev" not in path:
                raise ModuleNotFoundError("No module named 'torchaudio' (blocked)")
            frame = frame.f_back if "importlib" in path else None

def blocked_import(name, *args, **kwargs):
    refuse(name)
    return real_import(name, *args, **kwargs)

def blocked_module(name, *args, **kwargs):
    refuse(name)
    return real_module(name, *args, **kwargs)

builtins.__import__, importlib.import_module = blocked_import, blocked_module
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_s):
    base = tmp_path_factory.mktemp("blocked")
    hook = base / "hook"
    hook.mkdir()
    text = BLOCK.format(root=str(ROOT), pack=PACK_NAME)
    (hook / "sitecustomize.py").write_text(text, encoding="utf-8")
    server = server_with_models(base, {"tiny-s": tiny_s})
    server.env["PYTHONPATH"] = str(hook)
    with server:
        yield server


@pytest.mark.smoke
def test_every_node_is_there_without_torchaudio(server):
    assert not re.search(rf"IMPORT FAILED.*{PACK_NAME}", server.log()), server.log()
    module = f"custom_nodes.{PACK_NAME}"
    info = server.client.object_info()
    ours = {name for name, entry in info.items() if entry["python_module"] == module}
    assert ours == ids_in_source()


@pytest.mark.smoke
def test_audio_of_another_rate_goes_through_every_audio_node(server):
    """Resampling in and out, loudness, pictures and peaks: whatever once took torchaudio."""
    sound = torch.randn(2, 48000, generator=torch.Generator().manual_seed(0)) * 0.1
    write_audio(server.base / "input" / "source.wav", sound, 48000, FORMATS["wav-32f"])
    graph = {
        "m": node("SA3LoadModel", model="tiny-s", precision="fp32"),
        "a": node("LoadAudio", audio="source.wav"),
        "e": node("SA3SAMEEncode", audio=["a", 0], vae=["m", 2]),
        "d": node("SA3SAMEDecode", latent=["e", 0], vae=["m", 2]),
        "c": node("SA3CompareAudio", a=["a", 0], b=["d", 0]),
        "k": node("SA3LookAudio", audio=["d", 0]),
        "s": node(
            "SA3SaveAudio",
            audio=["d", 0],
            format="opus-128k",
            filename_prefix="x",
            loudness_lufs=-20.0,
        ),
    }
    run = server.client.run(graph)
    assert run.status == "success", run.error
    assert server.client.view(run.outputs["s"]["audio"][0]).startswith(b"OggS")


def test_the_block_blocks(server, tmp_path):
    """An import of it in a file of this pack fails; else the tests above would show nothing."""
    probe = f"exec(compile('import torchaudio', {str(ROOT / 'nodes' / 'probe.py')!r}, 'exec'))"
    done = subprocess.run(
        [sys.executable, "-c", probe], env=server.env, capture_output=True, text=True
    )
    assert "No module named 'torchaudio' (blocked)" in done.stderr
