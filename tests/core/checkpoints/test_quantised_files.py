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

from sa3_core.adapters.merge import merge_checkpoint
from sa3_core.checkpoints.load import load_model
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.errors import CheckpointError
from tests.helpers.quantised_files import LAYOUTS, LINEAR, Made, quantised_layers, quantised_tensors

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
