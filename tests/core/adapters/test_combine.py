"""Several LoRAs as one file: the same weights as the stack, or a refusal by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sa3_core.adapters.build import build_adapter
from sa3_core.adapters.combine import combine_adapters
from sa3_core.adapters.file import AdapterFile, read_adapter
from sa3_core.adapters.layer_filter import LayerFilter
from sa3_core.adapters.use import AdapterUse
from sa3_core.errors import AdapterError, InputError
from tests.helpers import lora_tensors
from tests.helpers.support import golden_path, rel_l2

OUT, FF = (f"transformer.layers.1.{name}" for name in ("self_attn.to_out", "ff.ff.2"))
KEY, BIAS = f"model.model.{OUT}.weight", f"model.model.{FF}.bias"
SHAPES = {KEY: (16, 16), BIAS: (16,)}


def lora(tmp_path: Path, name: str, kind: str, seed: int = 0) -> AdapterFile:
    path = tmp_path / f"{name}.safetensors"
    tensors = lora_tensors.kinds((16, 16), seed)[kind]
    named = {f"{OUT}.{role}": tensor for role, tensor in tensors.items()}
    save_file({**named, f"{FF}.diff_b": torch.full((16,), float(seed + 1))}, path)
    return read_adapter(path)


def stacked(items: list[AdapterUse], key: str) -> torch.Tensor:
    weight = torch.zeros(SHAPES[key])
    for item in items:
        change = build_adapter(item.lora, {}, [key])[key]
        weight = change.apply(weight, item.strength_for(key))
    return weight


@pytest.mark.parametrize(
    "kinds", [("lora, alpha", "lora"), ("lora, alpha", "loha"), ("lokr", "diff")]
)
def test_one_file_does_what_the_stack_does(tmp_path, kinds):
    files = [lora(tmp_path, f"l{i}", kind, i) for i, kind in enumerate(kinds)]
    items = [AdapterUse(file, strength) for file, strength in zip(files, (0.7, -1.3), strict=True)]
    out = combine_adapters(items, tmp_path / "one.safetensors")
    made = read_adapter(out)
    assert set(made.layers) == {KEY, BIAS}
    assert made.unused == ()
    for key in (KEY, BIAS):
        assert rel_l2(stacked([AdapterUse(made)], key), stacked(items, key)) < 1e-6
    with safe_open(out, "pt") as file:
        notes = json.loads(file.metadata()["sa3_combined_loras"])
    assert [(note["name"], note["strength"]) for note in notes] == [
        ("l0.safetensors", 0.7),
        ("l1.safetensors", -1.3),
    ]


def test_pairs_of_published_files_keep_a_low_rank(tmp_path):
    file = read_adapter(golden_path("tiny-s/adapter_lora"))
    items = [
        AdapterUse(file, 0.5, strength_conditioner=0.0),
        AdapterUse(file, layers=LayerFilter("layers[0]")),
    ]
    made = read_adapter(combine_adapters(items, tmp_path / "one.safetensors"))
    assert made.adapter_type == "lora"
    ranks = {key: layer.rank for key, layer in made.layers.items()}
    assert set(ranks) == {key for key in file.layers if not key.startswith("conditioner.")}
    first = next(key for key in ranks if "layers.0." in key)
    last = next(key for key in ranks if "layers.1." in key)
    assert (ranks[first], ranks[last]) == (8, 4)
    weight = torch.zeros(file.layers[first].shape)
    whole = build_adapter(file, {}, [first])[first].apply(weight, 1.5)
    assert rel_l2(build_adapter(made, {}, [first])[first].apply(weight, 1.0), whole) < 1e-6


@pytest.mark.parametrize("kind", ["lora, dora rows", "glora", "oft", "boft", "set_weight"])
def test_what_depends_on_the_weight_is_refused_by_name(tmp_path, kind):
    items = [AdapterUse(lora(tmp_path, "plain", "lora")), AdapterUse(lora(tmp_path, "odd", kind))]
    with pytest.raises(AdapterError, match=r"odd.safetensors \(.*Merge it into a model"):
        combine_adapters(items, tmp_path / "one.safetensors")
    assert not (tmp_path / "one.safetensors").exists()


@pytest.mark.parametrize("kind", ["dora-rows", "bora", "lora-xs"])
def test_own_types_that_depend_on_the_weight_are_refused(tmp_path, kind):
    item = AdapterUse(read_adapter(golden_path(f"tiny-s/adapter_{kind}")))
    with pytest.raises(AdapterError, match=rf"\({kind}\) does more than add"):
        combine_adapters([item], tmp_path / "one.safetensors")


def test_what_cannot_be_one_file_says_so(tmp_path):
    plain = lora(tmp_path, "plain", "lora")
    with pytest.raises(InputError, match="no intervals"):
        combine_adapters([AdapterUse(plain, interval=(0.2, 0.8))], tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="ends in"):
        combine_adapters([AdapterUse(plain)], tmp_path / "folder")
    with pytest.raises(AdapterError, match="every strength is 0"):
        combine_adapters([AdapterUse(plain, 0.0)], tmp_path / "a.safetensors")
    files = [read_adapter(golden_path(f"tiny-{size}/adapter_lora")) for size in "sm"]
    with pytest.raises(AdapterError, match="trained on different models"):
        combine_adapters([AdapterUse(file) for file in files], tmp_path / "a.safetensors")
