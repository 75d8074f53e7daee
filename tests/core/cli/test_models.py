"""`sa3 models` and `sa3 download`."""

from __future__ import annotations

from sa3_core.cli import models as cli_library
from sa3_core.errors import DownloadError


def test_models_lists_what_is_there_and_what_is_known(sa3, tiny_s, tmp_path):
    code, out, err = sa3("models", "--models-dir", tiny_s.parent)
    assert (code, err) == (0, "")
    rows = {line.split("  ")[0]: line for line in out}
    assert str(tiny_s) in rows["tiny-s"]
    assert "text encoder" in rows["tiny-s/t5gemma-b-b-ul2"]
    assert "sa3 download medium" in rows["medium"]
    assert "autoencoder" in rows["same-l"]
    code, out, _ = sa3("models", "--models-dir", tmp_path / "none")
    assert sum("sa3 download" in line for line in out) == 8
    brought = [line.split()[0] for line in out if "comes with the program" in line]
    assert brought == ["demo", "demo-base", "demo"]


def test_the_models_folder_is_looked_for_in_three_places(sa3, monkeypatch, tiny_s, tmp_path):
    monkeypatch.delenv("SA3_MODELS")
    assert not any(line.startswith("tiny-s ") for line in sa3("models")[1])
    (tmp_path / "models" / "tiny-x").mkdir(parents=True)
    for part in ("model.safetensors", "model_config.json"):
        (tmp_path / "models" / "tiny-x" / part).write_bytes((tiny_s / part).read_bytes())
    assert any(line.startswith("tiny-x ") for line in sa3("models")[1])
    monkeypatch.setenv("SA3_MODELS", str(tiny_s.parent))
    assert any(line.startswith("tiny-s ") for line in sa3("models")[1])


def test_download_goes_to_the_models_folder(sa3, monkeypatch, tmp_path):
    asked = []

    def fake(name, root, source, on_bytes):
        asked.append((name, root, source))
        on_bytes(1, 2)
        if source == "mirror":
            raise DownloadError("The mirror is gated.")
        return root / name

    monkeypatch.setattr(cli_library, "download_variant", fake)
    code, out, _ = sa3("download", "small-sfx", "--models-dir", tmp_path)
    root = tmp_path / "stable_audio_3"
    assert (code, out) == (0, [str(root / "small-sfx")])
    code, _, err = sa3("download", "small-sfx", "--source", "mirror", "--models-dir", tmp_path)
    assert (code, err) == (1, "sa3: error: The mirror is gated.\n")
    assert asked == [("small-sfx", root, "upstream"), ("small-sfx", root, "mirror")]
