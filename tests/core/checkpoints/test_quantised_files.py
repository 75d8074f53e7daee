"""Files that ComfyUI quantised: every layout is read exactly, what is not known is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.profiler import profile

from sa3_core.adapters.file import read_adapter
from sa3_core.adapters.merge import merge_checkpoint
from sa3_core.adapters.use import AdapterUse
from sa3_core.checkpoints.load import load_model
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.errors import CheckpointError, InputError
from sa3_core.networks import integer
from sa3_core.networks.quantised import quantise, stored_narrow, widen
from tests.helpers.quantised_files import LAYOUTS, LINEAR, Made, quantised_layers, quantised_tensors
from tests.helpers.support import golden_path

LAYER = "model.model.transformer.layers.1.ff.ff.2"


@pytest.fixture(params=LAYOUTS)
def made(request, tiny_weights) -> Made:
    return quantised_tensors(tiny_weights, request.param)


def save(made: Made, folder: Path) -> Path:
    path = folder / "stable_audio_3_small_music.safetensors"
    tensors = {key: value.contiguous() for key, value in made.tensors.items()}
    save_file(tensors, path, {"format": "pt", **made.metadata})
    return path


def test_every_layout_is_read_as_the_wide_weights_it_stands_for(made, tmp_path):
    path = save(made, tmp_path)
    checkpoint = open_checkpoint(path)
    dit = checkpoint.tensors("dit", torch.float32)
    wanted = {k.removeprefix("model.model."): v for k, v in made.wide.items() if "model.model" in k}
    assert dit.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(dit[key], value), key
    assert checkpoint.adaptable_shapes().keys() == {
        k for k in made.wide if k.startswith(("model.model.", "conditioner."))
    }
    assert torch.equal(checkpoint.originals()[f"{LAYER}.weight"](), made.wide[f"{LAYER}.weight"])


def test_the_model_computes_with_them(made, tmp_path):
    narrow = load_model(save(made, tmp_path), dtype=torch.float32)
    folder = tmp_path / "wide"
    folder.mkdir()
    wide = load_model(save(Made(made.wide), folder), dtype=torch.float32)
    assert narrow.storage is None
    out = [velocity(model.dit) for model in (narrow, wide)]
    assert torch.equal(*out)
    narrow = load_model(save(made, tmp_path), storage="int8").dit
    assert float((velocity(narrow) - out[1]).norm() / out[1].norm()) < 0.05


def velocity(net: torch.nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(1, 256, 20, generator=generator)
    context = torch.randn(1, 6, 768, generator=generator)
    with torch.inference_mode():
        constants = net.prepare(context, None, torch.ones(1, 768), None, None, 20)
        return net.velocity(x, torch.tensor([0.5]), constants)


def test_the_files_own_precision_is_that_of_its_wide_weights(tiny_weights, tmp_path):
    made = quantised_tensors(tiny_weights, "int8")
    assert open_checkpoint(save(made, tmp_path)).dtypes["dit"] == torch.float32
    halved = {
        k: v.half() if v.dtype == torch.float32 and "scale" not in k else v
        for k, v in made.tensors.items()
    }
    assert open_checkpoint(save(Made(halved), tmp_path)).dtypes["dit"] == torch.float16
    narrow = {k: v.to(torch.float8_e4m3fn) for k, v in tiny_weights.items() if k.startswith("mod")}
    checkpoint = open_checkpoint(save(Made(narrow), tmp_path), ("dit",))
    assert checkpoint.dtypes["dit"] == torch.bfloat16


def test_a_changed_copy_is_refused(made, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds weights in 8 bits.*unquantised file"):
        merge_checkpoint(save(made, tmp_path), [], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def mark(conf: object) -> Tensor:
    return torch.tensor(list(json.dumps(conf).encode()), dtype=torch.uint8)


Change = Callable[[dict[str, Tensor]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.update({f"{LAYER}.comfy_quant": mark({"format": "nvfp4"})}),
            "as nvfp4, which",
        ),
        (
            lambda t: t.update({f"{LAYER}.comfy_quant": mark({"format": "mxfp8"})}),
            "as mxfp8, which",
        ),
        (
            lambda t: t.update(
                {f"{LAYER}.comfy_quant": mark({"format": "int8_tensorwise", "convrot": True})}
            ),
            "int8_tensorwise with convrot, which",
        ),
        (
            lambda t: t.update(
                {
                    f"{LAYER}.comfy_quant": mark(
                        {"format": "int8_tensorwise", "params": {"convrot": True}}
                    )
                }
            ),
            "with convrot",
        ),
        (lambda t: t.update({f"{LAYER}.comfy_quant": mark({})}), "as None, which"),
        (lambda t: t.update({f"{LAYER}.comfy_quant": mark([1])}), "no description"),
        (lambda t: t.update({f"{LAYER}.comfy_quant": torch.ones(3).byte()}), "no description"),
        (lambda t: t.pop(f"{LAYER}.weight_scale"), "weight_scale' is missing"),
        (lambda t: t.update({f"{LAYER}.weight_scale": torch.ones(3)}), "wrong size"),
        (lambda t: t.update({f"{LAYER}.pre_quant_scale": torch.ones(3)}), "not read here"),
        (lambda t: t.pop(f"{LAYER}.weight"), "its weight is missing"),
        (lambda t: t.update({f"{LAYER}.weight": torch.ones(4, 4).half()}), "its weight is F16"),
        (lambda t: t.update({f"{LAYER}.weight_scale": torch.tensor(torch.nan)}), "NaN"),
        (lambda t: t.pop(f"{LAYER}.comfy_quant"), r"torch\.int8; weights must be .*unquantised"),
    ],
)
def test_what_is_not_known_is_refused_with_layer_and_format(
    tiny_weights, tmp_path, change: Change, message
):
    made = quantised_tensors(tiny_weights, "int8")
    change(made.tensors)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(save(made, tmp_path))
    assert "transformer.layers.1.ff.ff.2" in str(caught.value)


def test_every_linear_of_the_fixture_is_in_8_bits(made):
    narrow = {k for k, v in made.tensors.items() if v.dtype.itemsize == 1 and v.ndim == 2}
    assert {f"{layer}.weight" for layer in quantised_layers(made.tensors)} <= narrow
    assert all(LINEAR.search(k) for k in narrow) or not quantised_layers(made.tensors)


def test_reading_never_holds_all_weights_wide_in_float32(tiny_weights, tmp_path):
    made = quantised_tensors(tiny_weights, "int8")
    narrow = [value.numel() for value in made.tensors.values() if value.dtype == torch.int8]
    path = save(made, tmp_path)
    checkpoint = open_checkpoint(path)
    peak = traced_peak(lambda: checkpoint.tensors("dit", torch.bfloat16))
    assert peak - path.stat().st_size < 3 * sum(narrow) + 12 * max(narrow)


def test_eight_bits_are_made_a_tensor_at_a_time(tiny_s, tiny_weights):
    values = [v.numel() for k, v in tiny_weights.items() if LINEAR.search(k) and v.ndim == 2]
    rest = sum(v.numel() for k, v in tiny_weights.items() if "pretransform" not in k) - sum(values)
    peak = traced_peak(lambda: load_model(tiny_s, dtype=torch.bfloat16, storage="int8"))
    mapped = (tiny_s / "model.safetensors").stat().st_size
    assert peak - 2 * mapped < 1.5 * sum(values) + 4 * rest + 12 * max(values)


def traced_peak(work: Callable[[], object]) -> int:
    """Most bytes that torch's tensors take at a time while `work` runs, a mapped file included."""
    with profile(profile_memory=True) as trace:
        kept = work()
    del kept
    events = [e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes))


@pytest.mark.parametrize("storage", ["int8", "fp8_e4m3"])
def test_a_model_is_written_in_8_bits_and_read_as_what_it_computes_with(storage, tiny_s, tmp_path):
    path = merge_checkpoint(tiny_s, [], tmp_path / "small_music.safetensors", storage=storage)
    written, source = open_checkpoint(path), open_checkpoint(tiny_s)
    kept, wide = written.tensors("dit", torch.float32), source.tensors("dit", torch.float32)
    assert kept.keys() == wide.keys()
    narrow = {key for key in wide if stored_narrow(key)}
    assert len(narrow) == len(written.quantised.scales) > 10
    for key, weight in wide.items():
        expected = widen(*quantise(weight, storage), torch.float32) if key in narrow else weight
        assert torch.equal(kept[key], expected), key
    for part in ("same", "conditioner"):
        ours, theirs = (c.tensors(part, torch.float32) for c in (written, source))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    again = load_model(path, dtype=torch.float32).dit
    at_use = load_model(tiny_s, dtype=torch.float32, storage=storage).dit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integer, "IN_INTEGERS", False)
        assert torch.equal(velocity(again), velocity(at_use))


def test_loras_are_merged_before_the_weights_are_rounded(tiny_s, tmp_path):
    lora = read_adapter(golden_path("tiny-s/adapter_lora"))
    wide = merge_checkpoint(tiny_s, [AdapterUse(lora)], tmp_path / "wide.safetensors")
    narrow = merge_checkpoint(
        tiny_s, [AdapterUse(lora)], tmp_path / "narrow.safetensors", storage="int8"
    )
    merged, kept = (open_checkpoint(path).tensors("dit", torch.float32) for path in (wide, narrow))
    for key, weight in merged.items():
        expected = widen(*quantise(weight, "int8"), torch.float32) if stored_narrow(key) else weight
        assert torch.equal(kept[key], expected), key
    assert narrow.stat().st_size < wide.stat().st_size
    with pytest.raises(CheckpointError, match="holds weights in 8 bits"):
        merge_checkpoint(narrow, [AdapterUse(lora)], tmp_path / "again.safetensors")
    with pytest.raises(InputError, match="storage is 'nf4'; it must be one of fp8_e4m3, int8"):
        merge_checkpoint(tiny_s, [], tmp_path / "odd.safetensors", storage="nf4")
