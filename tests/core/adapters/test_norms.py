"""How much a LoRA changes each block: while it is trained, and of its file when it is loaded."""

from __future__ import annotations

import pytest
import torch

from sa3_core.adapters.build import build_adapter
from sa3_core.adapters.file import read_adapter
from sa3_core.adapters.norms import adapter_changes, describe_changes, relative_changes
from sa3_core.adapters.rules import ADAPTER_TYPES
from sa3_core.checkpoints.load import load_model
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from tests.helpers import support


@pytest.fixture(scope="module")
def model():
    return load_model(support.tiny_checkpoint("tiny-s"))


def file_changes(path):
    originals = open_checkpoint(
        support.tiny_checkpoint("tiny-s"), need=("dit", "conditioner")
    ).originals()
    return adapter_changes(build_adapter(read_adapter(path), originals), originals)


@pytest.mark.parametrize("kind", ADAPTER_TYPES)
def test_a_file_tells_the_same_as_its_training(model, tmp_path, kind):
    adapter = TrainedAdapter(model, AdapterSettings(kind, 2), seed=0)
    still = adapter.changes()
    assert max(still.values()) < 1e-5
    generator = torch.Generator().manual_seed(1)
    for value in adapter.tensors().values():
        value.data += 0.02 * torch.randn(value.shape, generator=generator)
    trained = adapter.changes()
    adapter.write(tmp_path / "lora.safetensors", {})
    loaded = file_changes(tmp_path / "lora.safetensors")
    assert list(loaded) == list(trained) == ["0", "1", "2", "ends", "conditioner"]
    for block, change in trained.items():
        assert change > 1e-4
        assert loaded[block] == pytest.approx(change, rel=0.02)  # the file is float16


def test_norms_are_relative_to_a_blocks_own_weights():
    squares = [
        ("model.model.transformer.layers.10.a.weight", 4.0, 60.0),
        ("model.model.transformer.layers.10.b.weight", 5.0, 40.0),
        ("model.model.transformer.layers.9.a.weight", 0.0, 1.0),
    ]
    assert relative_changes(squares) == {"9": 0.0, "10": pytest.approx(0.3)}


def test_a_lora_that_has_learnt_nothing_is_said_to():
    assert describe_changes({}) == []
    (line,) = describe_changes({"0": 0.02, "1": 0.04})
    assert line == "weights changed by 3.00%; by block: 0 2.00%, 1 4.00%"
    assert "hardly learnt" in describe_changes({"0": 0.0005})[1]


def test_a_stop_while_norms_are_computed_goes_through(tmp_path):
    path = support.golden_path("tiny-s/adapter_lora")
    originals = open_checkpoint(
        support.tiny_checkpoint("tiny-s"), need=("dit", "conditioner")
    ).originals()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapter_changes(build_adapter(read_adapter(path), originals), originals, on_layer=stop)
