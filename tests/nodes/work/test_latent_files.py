"""Latents on disk and batches taken apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.editing_support import RATE, music


@pytest.fixture(scope="module")
def nodes(small):
    return small.module("nodes.latent_files")


@pytest.fixture(scope="module")
def batch(small):
    """Two latents of different durations."""
    node = small.module("nodes.latent").SA3EmptyLatent
    return small.sample(node.execute(1.0, durations="0.7, 1.25").args[0])


def test_safetensors_come_back_bit_for_bit(nodes, batch, comfyui):
    saved = nodes.SA3SaveLatents.execute(batch, "latents/take")
    (file,) = saved.ui["latents"]
    assert saved.args[0] is batch
    stored = load_file(comfyui / "output" / file.removesuffix(" [output]"))
    assert set(stored) == {"latents", "seconds"}
    assert stored["latents"].dtype == torch.float32
    assert stored["seconds"].tolist() == [0.7, 1.25]
    assert stored["seconds"].dtype == torch.float64
    assert file in nodes.takes.latent_files()
    loaded = nodes.SA3LoadLatents.execute(file)
    assert torch.equal(loaded.args[0]["samples"], batch["samples"])
    assert loaded.args[0]["seconds"] == [0.7, 1.25]
    assert "2 items" in loaded.ui["text"][0]


def test_nothing_is_overwritten_and_changes_are_noticed(nodes, batch, comfyui):
    files = [nodes.SA3SaveLatents.execute(batch, "latents/same").ui["latents"][0] for _ in "ab"]
    assert files[0] != files[1]
    node = nodes.SA3LoadLatents
    before = node.fingerprint_inputs(files[0])
    assert before == node.fingerprint_inputs(files[0])
    path = comfyui / "output" / files[0].removesuffix(" [output]")
    save_file({"latents": torch.zeros(1, 256, 4)}, path)
    assert node.fingerprint_inputs(files[0]) != before


def test_npy_holds_one_item_per_file_as_upstream_writes_them(nodes, batch, comfyui):
    files = nodes.SA3SaveLatents.execute(batch, "latents/up", "npy").ui["latents"]
    assert len(files) == 2
    for item, file in enumerate(files):
        array = np.load(comfyui / "output" / file.removesuffix(" [output]"), allow_pickle=False)
        assert array.shape == tuple(batch["samples"].shape[1:])
        loaded = nodes.SA3LoadLatents.execute(file, 0.5).args[0]
        assert torch.equal(loaded["samples"][0], batch["samples"][item])
        assert loaded["seconds"] == [0.5]


def test_a_loaded_take_can_be_edited_without_its_source(small, nodes, batch):
    file = nodes.SA3SaveLatents.execute(batch, "latents/edit").ui["latents"][0]
    latent = nodes.SA3LoadLatents.execute(file).args[0]
    inpaint = small.module("nodes.editing").SA3InpaintMask
    out = inpaint.execute(latent=latent, regions="0.2-0.4")
    assert any("connect `audio`" in line for line in out.ui["text"])
    assert small.sample(out.args[0])["samples"].shape == batch["samples"].shape


def test_saving_an_edit_says_what_is_not_stored(small, nodes):
    inpaint = small.module("nodes.editing").SA3InpaintMask
    masked = inpaint.execute(audio=music(0.5), vae=small.vae, regions="0.2-0.3").args[0]
    assert "not stored" in nodes.SA3SaveLatents.execute(masked, "latents/m").ui["text"][-1]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("missing.safetensors", "which is not there"),
        ("../../etc/passwd", "outside"),
        ("../x.npy [output]", "outside"),
        ("", "which is not there"),
    ],
)
def test_files_that_cannot_be_used_are_refused_before_running(nodes, file, message):
    assert message in nodes.SA3LoadLatents.validate_inputs(file=file)
    with pytest.raises(ValueError, match=message):
        nodes.SA3LoadLatents.execute(file)


def test_damaged_pickled_and_foreign_files_are_refused(nodes, comfyui):
    folder = comfyui / "input"
    np.save(folder / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    save_file({"latents": torch.zeros(1, 64, 4)}, folder / "image.safetensors")
    for name, message in (
        ("pickled.npy", "pickled"),
        ("cut.safetensors", "damaged"),
        ("image.safetensors", "256"),
    ):
        assert f"{name} [input]" in nodes.takes.latent_files()
        with pytest.raises(Exception, match=message):
            nodes.SA3LoadLatents.execute(f"{name} [input]")


def test_a_duration_past_the_frames_is_refused(nodes, batch):
    file = nodes.SA3SaveLatents.execute(batch, "latents/long").ui["latents"][0]
    with pytest.raises(ValueError, match="s at most"):
        nodes.SA3LoadLatents.execute(file, 1000.0)


def test_the_output_folder_is_not_left(nodes, batch):
    with pytest.raises(ValueError, match="filename_prefix"):
        nodes.SA3SaveLatents.execute(batch, "../../x")


def test_split_gives_every_item_at_its_own_length(small, nodes, batch):
    audio = small.decode(batch)
    parts = nodes.SA3SplitAudioBatch.execute(audio).args[0]
    assert [part["waveform"].shape for part in parts] == [
        (1, 2, int(0.7 * RATE)),
        (1, 2, int(1.25 * RATE)),
    ]
    for item, part in enumerate(parts):
        length = part["waveform"].shape[-1]
        assert torch.equal(part["waveform"][0], audio["waveform"][item, :, :length])
    assert nodes.SA3SplitAudioBatch.define_schema().outputs[0].is_output_list
    whole = music(0.5, batch=2)
    assert [p["waveform"].shape[-1] for p in nodes.SA3SplitAudioBatch.execute(whole).args[0]] == [
        22050,
        22050,
    ]
