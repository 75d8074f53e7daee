"""What training takes, against what autograd really keeps; and the choice that follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sa3_core.adapters.build import build_adapter
from sa3_core.adapters.file import read_adapter
from sa3_core.checkpoints.load import load_model
from sa3_core.errors import InputError
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter, write_adapter
from sa3_core.training.memory import choose_recompute, estimate, free_memory
from sa3_core.training.settings import TrainSettings
from sa3_core.training.step import predict, score
from sa3_core.training.trainer import Trainer
from tests.helpers.clips import encoded_clips
from tests.helpers.support import tiny_checkpoint
from tests.helpers.texts import spoken

SETTINGS = TrainSettings(frames=14)


def kept_bytes(model, adapter, frames: int, recompute: bool) -> int:
    """Bytes of the tensors that autograd keeps for the way back, weights left out."""
    nets = [*model.dit.parameters(), *model.conditioner.parameters(), *adapter.parameters()]
    own = {value.untyped_storage().data_ptr() for value in nets}
    seen: dict[int, torch.Tensor] = {}

    def pack(value):
        if value.untyped_storage().data_ptr() not in own:
            seen[value.untyped_storage().data_ptr()] = value
        return value

    trainer = Trainer(model, adapter, encoded_clips(), spoken(), replace(SETTINGS, frames=frames))
    _, inputs = trainer._inputs()
    with adapter.attached():
        adapter.begin_step()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            loss = score(predict(model, inputs, recompute), inputs)
    assert loss.total.requires_grad
    return sum(value.untyped_storage().nbytes() for value in seen.values())


@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "kind", ["lora", "dora-rows", "bora", "lora-xs", "dora-rows-xs", "dora-cols-xs", "bora-xs"]
)
def test_the_estimate_is_what_autograd_keeps(variant, dtype, kind):
    model = load_model(tiny_checkpoint(variant), dtype=dtype)
    adapter = TrainedAdapter(model, AdapterSettings(kind, 2))
    counts, guesses = [], []
    for frames in (64, 192):
        counts.append(kept_bytes(model, adapter, frames, False))
        guesses.append(
            estimate(model, adapter, replace(SETTINGS, frames=frames), False).activations
        )
    # by the frame: what does not grow with them (text, masks) is small in a real model alone
    assert guesses[1] - guesses[0] == pytest.approx(counts[1] - counts[0], rel=0.12)


@pytest.mark.parametrize("kind", ["dora-rows", "dora-cols", "bora"])
def test_frozen_weights_are_never_kept_wide_for_the_way_back(kind):
    """Of a whole step in bfloat16, nothing that is kept has the size of a layer's weight."""
    model = load_model(tiny_checkpoint("tiny-s"), dtype=torch.bfloat16)
    adapter = TrainedAdapter(model, AdapterSettings(kind, 2))
    kept: list[torch.Size] = []

    def pack(value):
        kept.append(value.shape)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        adapter.begin_step()
    weights = {tuple(branch.weight.shape) for branch in adapter.branches.values()}
    assert kept
    assert not weights & {tuple(shape) for shape in kept}
    assert not weights & {tuple(shape[::-1]) for shape in kept}


def test_blocks_are_recomputed_only_where_memory_needs_it():
    model = load_model(tiny_checkpoint("tiny-s"))
    adapter = TrainedAdapter(model, AdapterSettings("lora", 2))
    plenty, found = choose_recompute(model, adapter, SETTINGS, free=1e12)
    assert plenty is False
    least = estimate(model, adapter, SETTINGS, True)
    middle = (least.learner + least.activations + found.learner + found.activations) / 2 / 0.9
    assert choose_recompute(model, adapter, SETTINGS, free=middle)[0] is True
    with pytest.raises(InputError, match=r"Training needs 0\.0 GB .*shorter crops, recompute"):
        choose_recompute(model, adapter, SETTINGS, wanted=False, free=middle)
    with pytest.raises(InputError, match="are free beside the weights"):
        choose_recompute(model, adapter, SETTINGS, free=1e4)
    assert choose_recompute(model, adapter, SETTINGS, wanted=True, free=1e12)[0] is True
    free = free_memory(torch.device("cpu"))
    assert free is None or 1e8 < free < 1e14


@pytest.mark.parametrize("storage", ["int8", "fp8_e4m3"])
def test_a_lora_is_trained_on_weights_in_8_bits(tmp_path, storage):
    """The gradient is that of the rounded weights; the file fits any storage."""
    narrow = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32, storage=storage)
    wide = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32)
    for path, layer in wide.dit.named_modules():
        other = narrow.dit.get_submodule(path)
        if hasattr(other, "widened"):
            layer.weight.data = other.widened(torch.float32)
    moved = []
    for model, recompute in ((narrow, True), (wide, False)):
        adapter = TrainedAdapter(model, AdapterSettings("dora-rows", 2))
        settings = TrainSettings(steps=1, frames=4, recompute=recompute)
        trainer = Trainer(model, adapter, encoded_clips(), spoken(), settings)
        with adapter.attached():
            trainer.run_step()
        moved.append(torch.cat([value.grad.flatten() for value in adapter.tensors().values()]))
    assert float((moved[0] - moved[1]).norm() / moved[1].norm()) <= 1e-5
    write_adapter(tmp_path / "a.safetensors", adapter, {})
    assert len(build_adapter(read_adapter(tmp_path / "a.safetensors"), {})) == 40
