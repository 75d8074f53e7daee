"""Merged checkpoints: same keys, shapes and types, the right values, nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from sa3_core.adapters.build import build_adapter
from sa3_core.adapters.file import AdapterFile, read_adapter
from sa3_core.adapters.layer_filter import LayerFilter
from sa3_core.adapters.merge import merge_checkpoint
from sa3_core.adapters.use import AdapterUse
from sa3_core.checkpoints import rewrite as module
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.errors import AdapterError, CheckpointError, InputError
from sa3_core.files.lock import only_one
from sa3_core.files.tensor_file import open_tensors, read_header
from tests.helpers import support

QKV = "model.model.transformer.layers.0.self_attn.to_qkv.weight"
CONDITIONER = "conditioner.conditioners.seconds_total.embedder.embedding.1.weight"
EMPTY = "pretransform.model.bottleneck.noise_scaling_factor"


def lora(name: str, tmp_path: Path, variant: str = "tiny-s") -> AdapterFile:
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(support.golden_path(f"{variant}/adapter_{name}").read_bytes())
    return read_adapter(path)


def kinds(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    header = read_header(path)
    header.pop("__metadata__", None)
    return {key: (entry["dtype"], tuple(entry["shape"])) for key, entry in header.items()}


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_a_stack_gives_the_published_layout_with_the_reference_weights(
    variant, golden, rel_l2, tmp_path
):
    source = support.tiny_checkpoint(variant)
    items = [AdapterUse(lora(n, tmp_path, variant)) for n in ("stack0_lora", "stack1_dora-rows")]
    out = merge_checkpoint(source, items, tmp_path / "merged")
    assert out == tmp_path / "merged" / "model.safetensors"
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "model.safetensors",
        "model_config.json",
    ]
    assert kinds(out) == kinds(source / "model.safetensors")
    before, after = load_file(source / "model.safetensors"), load_file(out)
    assert after[EMPTY].shape == (1, 0, 1)
    expected = golden(f"{variant}/lora_stack")
    for key in (QKV, CONDITIONER):
        path = key.split(".", 1)[1].removesuffix(".weight")
        assert rel_l2(after[key][:8], expected[f"weight.{path}"]) < 1e-6
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == set(items[0].lora.layers)
    opened = open_checkpoint(out.parent)
    assert opened.config == open_checkpoint(source).config
    notes = json.loads(opened.metadata["sa3_merged_loras"])
    assert [note["name"] for note in notes] == [
        "stack0_lora.safetensors",
        "stack1_dora-rows.safetensors",
    ]
    assert opened.metadata["format"] == "pt"


def test_strengths_filter_and_zero(tmp_path):
    source, file = support.tiny_checkpoint("tiny-s"), lora("bora", tmp_path)
    item = AdapterUse(
        file,
        0.5,
        layers=LayerFilter("to_qkv, conditioners, -layers[1-9]"),
        strength_conditioner=-1.0,
    )
    after = load_file(merge_checkpoint(source, [item], tmp_path / "a.safetensors"))
    before = load_file(source / "model.safetensors")
    adapter = build_adapter(file, before)
    for key, weight in before.items():
        strength = {QKV: 0.5, CONDITIONER: -1.0}.get(key, 0.0)
        expected = adapter[key].apply(weight, strength) if key in adapter else weight
        assert torch.equal(after[key], expected), key
    untouched = merge_checkpoint(source, [AdapterUse(file, 0.0)], tmp_path / "b.safetensors")
    for key, weight in load_file(untouched).items():
        assert torch.equal(weight, before[key])


def test_merging_twice_keeps_both_notes(tmp_path):
    item = AdapterUse(lora("lora", tmp_path))
    first = merge_checkpoint(support.tiny_checkpoint("tiny-s"), [item], tmp_path / "a.safetensors")
    second = merge_checkpoint(first, [item], tmp_path / "b.safetensors")
    assert len(json.loads(read_header(second)["__metadata__"]["sa3_merged_loras"])) == 2


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "F16"), (torch.bfloat16, "BF16")])
def test_another_precision_rounds_once_and_spares_rotary_frequencies(dtype, name, tmp_path):
    source, file = support.tiny_checkpoint("tiny-s"), lora("dora-cols", tmp_path)
    out = merge_checkpoint(source, [AdapterUse(file)], tmp_path / "half.safetensors", dtype)
    before, after = load_file(source / "model.safetensors"), load_file(out)
    for key, (kind, shape) in kinds(out).items():
        assert kind == ("F32" if key.endswith("inv_freq") else name)
        assert shape == tuple(before[key].shape)
    adapter = build_adapter(file, before)
    assert torch.equal(after[QKV], adapter[QKV].apply(before[QKV], 1.0).to(dtype))
    assert open_checkpoint(out).config is not None
    assert out.stat().st_size < 0.52 * (source / "model.safetensors").stat().st_size


def test_half_precision_sources_are_merged_in_float32(tmp_path):
    source = tmp_path / "half"
    source.mkdir()
    full = load_file(support.tiny_checkpoint("tiny-s") / "model.safetensors")
    save_file({key: value.half() for key, value in full.items()}, source / "model.safetensors")
    first, second = (lora(name, tmp_path) for name in ("stack0_lora", "stack1_dora-rows"))
    items = [AdapterUse(first), AdapterUse(second)]
    after = load_file(merge_checkpoint(source, items, tmp_path / "x.safetensors"))
    weight = full[QKV].half().float()
    for file in (first, second):
        weight = build_adapter(file, {})[QKV].apply(weight, 1.0)
    assert torch.equal(after[QKV], weight.half())


def test_xs_bases_are_those_of_the_original_weight(tmp_path):
    source = support.tiny_checkpoint("tiny-s")
    plain, xs = lora("lora", tmp_path), lora("bora-xs", tmp_path)
    out = merge_checkpoint(source, [AdapterUse(plain), AdapterUse(xs)], tmp_path / "x.safetensors")
    before = load_file(source / "model.safetensors")
    weight = build_adapter(plain, before)[QKV].apply(before[QKV], 1.0)
    expected = build_adapter(xs, before)[QKV].apply(weight, 1.0)
    assert torch.equal(load_file(out)[QKV], expected)


def test_the_text_encoder_is_copied_only_when_asked(tmp_path):
    source, item = support.tiny_checkpoint("tiny-s"), AdapterUse(lora("lora", tmp_path))
    out = tmp_path / "all"
    merge_checkpoint(source, [item], out, copy_text_encoder=True)
    copied = sorted(path.name for path in (out / "t5gemma-b-b-ul2").iterdir())
    assert copied == sorted(path.name for path in (source / "t5gemma-b-b-ul2").iterdir())
    with pytest.raises(InputError, match="one file"):
        merge_checkpoint(source, [item], tmp_path / "x.safetensors", copy_text_encoder=True)
    single = tmp_path / "single.safetensors"
    shutil.copyfile(source / "model.safetensors", single)
    with pytest.raises(InputError, match="no folder t5gemma"):
        merge_checkpoint(single, [item], tmp_path / "none", copy_text_encoder=True)
    assert not (tmp_path / "none").exists()


def test_half_copied_folders_of_killed_merges_are_swept_and_living_ones_stay(tmp_path):
    source, item = support.tiny_checkpoint("tiny-s"), AdapterUse(lora("lora", tmp_path))
    out = tmp_path / "all"
    dead, young, used = (out / f".copy-{name}" for name in ("dead", "young", "used"))
    for folder in (dead, young, used):
        (folder / "t5gemma-b-b-ul2").mkdir(parents=True)
    with only_one(used):
        for folder in (dead, used):
            os.utime(folder, (0, 0))
        merge_checkpoint(source, [item], out, copy_text_encoder=True)
    assert [folder.exists() for folder in (dead, young, used)] == [False, True, True]


def test_only_changed_tensors_are_read_and_progress_is_told(tmp_path, monkeypatch):
    reads, seen = [], []

    class Spy:
        def __init__(self, tensors):
            self._tensors = tensors

        def get(self, name):
            reads.append(name)
            return self._tensors.get(name)

    @contextmanager
    def spied(path):
        with open_tensors(path) as tensors:
            yield Spy(tensors)

    monkeypatch.setattr(module, "open_tensors", spied)
    source, item = support.tiny_checkpoint("tiny-s"), AdapterUse(lora("lora", tmp_path))
    out = tmp_path / "x.safetensors"
    merge_checkpoint(source, [item], out, on_tensor=lambda d, t: seen.append((d, t)))
    assert sorted(reads) == sorted(item.lora.layers)
    total = len(kinds(out))
    assert seen == [(i, total) for i in range(1, total + 1)]


def test_a_stopped_or_failed_merge_leaves_the_old_file_alone(tmp_path, monkeypatch):
    source, item = support.tiny_checkpoint("tiny-s"), AdapterUse(lora("lora", tmp_path))
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "x.safetensors"
    out.write_bytes(b"old")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_checkpoint(source, [item], out, on_tensor=stop)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_tensor", full)
        with pytest.raises(CheckpointError, match="disk is full"):
            merge_checkpoint(source, [item], out)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(CheckpointError, match=r"needs 0\.0 GB and 0\.0 GB are free"):
            merge_checkpoint(source, [item], out)
    assert [path.name for path in folder.iterdir()] == ["x.safetensors"]
    assert out.read_bytes() == b"old"
    merge_checkpoint(source, [item], out)
    assert len(kinds(out)) > 100


def test_what_cannot_be_merged_is_refused_before_anything_is_written(tmp_path):
    source = support.tiny_checkpoint("tiny-s")
    fitting, wrong = lora("lora", tmp_path), lora("bora", tmp_path, "tiny-m")
    out = tmp_path / "x.safetensors"
    with pytest.raises(AdapterError, match="does not fit"):
        merge_checkpoint(source, [AdapterUse(wrong)], tmp_path / "folder" / out.name)
    assert not (tmp_path / "folder").exists()
    with pytest.raises(InputError, match="dtype is"):
        merge_checkpoint(source, [AdapterUse(fitting)], out, torch.float64)
    with pytest.raises(InputError, match="another name"):
        merge_checkpoint(source, [AdapterUse(fitting)], source)
    with pytest.raises(CheckpointError):
        merge_checkpoint(tmp_path / "gone", [AdapterUse(fitting)], out)
    with pytest.raises(CheckpointError, match=r"do not fit torch\.float16"):
        merge_checkpoint(source, [AdapterUse(fitting, 1e7)], out, torch.float16)
    assert not out.exists()
    with pytest.raises(InputError, match="has no intervals"):
        merge_checkpoint(source, [AdapterUse(fitting, interval=(0.2, 1.0))], out)
    partial = AdapterUse(wrong, partial=True)
    merge_checkpoint(source, [partial], out)
    assert kinds(out) == kinds(source / "model.safetensors")
