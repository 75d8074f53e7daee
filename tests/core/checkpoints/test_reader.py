"""Reading checkpoints: every layout, every dtype, and refusing what does not belong."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sa3_core.checkpoints.load import load_model, load_same, model_from
from sa3_core.checkpoints.reader import fold_pair, fold_weight_norm, open_checkpoint
from sa3_core.errors import CheckpointError, ConfigError

DIT, SAME, CONDITIONER = "model.model.", "pretransform.model.", "conditioner."
MAPPING = SAME + "decoder.layers.3.mapping."


def part_of(tiny_weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tiny_weights.items() if k.startswith(prefix)}


def assert_same_values(net: torch.nn.Module, expected: dict[str, Tensor]) -> None:
    state = net.state_dict()
    assert set(state) == set(expected)
    for key, value in expected.items():
        assert torch.equal(state[key], value), key


def assert_loads_like(path: Path, tiny_weights: dict[str, Tensor], same: dict[str, Tensor]) -> None:
    model = load_model(path)
    assert_same_values(model.dit, part_of(tiny_weights, DIT))
    assert_same_values(model.conditioner, part_of(tiny_weights, CONDITIONER))
    assert_same_values(load_same(open_checkpoint(path, ("same",))), same)


@pytest.fixture(scope="module")
def folded(tiny_weights) -> dict[str, Tensor]:
    """The autoencoder's tensors with their weight norm folded by torch itself."""
    same = part_of(tiny_weights, SAME)
    for side in ("encoder.layers.0", "decoder.layers.3"):
        gain, direction = (same.pop(f"{side}.mapping.weight_{x}") for x in "gv")
        same[f"{side}.mapping.weight"] = torch._weight_norm(direction, gain, 0)
        assert torch.allclose(fold_pair(gain, direction), same[f"{side}.mapping.weight"])
        same[f"{side}.mapping.weight"] = fold_pair(gain, direction)
    return same


# --- layouts ------------------------------------------------------------------------------------
def test_a_folder_loads_as_it_is(tiny_s, tiny_weights, folded):
    checkpoint = open_checkpoint(tiny_s)
    assert checkpoint.path == tiny_s / "model.safetensors"
    assert {part: len(names) for part, names in checkpoint.parts.items()} == {
        "dit": 81,
        "same": 168,
        "conditioner": 3,
    }
    assert checkpoint.metadata == {"format": "pt"}
    assert_loads_like(tiny_s, tiny_weights, folded)
    assert_loads_like(tiny_s / "model.safetensors", tiny_weights, folded)


def test_a_single_file_without_config_loads_alike(tiny_s, tiny_weights, folded, write):
    path = write(tiny_weights)
    with_config, without = open_checkpoint(tiny_s).config, open_checkpoint(path).config
    assert (with_config.dit, with_config.same) == (without.dit, without.same)
    assert without.objective is None
    assert_loads_like(path, tiny_weights, folded)


@pytest.mark.parametrize(
    ("name", "wanted", "objective"),
    [
        ("stable_audio_3_small_music.safetensors", "auto", "rf_denoiser"),
        ("stable_audio_3_small_music_base.safetensors", "auto", "rectified_flow"),
        ("stable_audio_3_small_music_base.safetensors", "rf_denoiser", "rf_denoiser"),
        ("my-own-base.safetensors", "auto", "rectified_flow"),
        ("my-own.safetensors", "auto", "rf_denoiser"),
        ("my-own.safetensors", "rectified_flow", "rectified_flow"),
    ],
)
def test_a_single_files_objective_comes_from_its_name_or_the_user(
    tiny_weights, write, name, wanted, objective
):
    model = load_model(write(tiny_weights, name), wanted)
    assert model.objective == objective
    assert model.name == name.removesuffix(".safetensors")
    assert (model.sample_size, model.max_frames, model.max_seconds) == (5_292_032, 1292, 120)


def test_a_config_beside_a_single_file_is_another_models(tiny_s, tiny_m, tiny_weights, write):
    path = write(tiny_weights)
    shutil.copy(tiny_m / "model_config.json", path.parent / "model_config.json")
    assert open_checkpoint(path).config.dit == open_checkpoint(tiny_s).config.dit
    folder = path.parent
    path.rename(folder / "model.safetensors")
    with pytest.raises(ConfigError, match="Is the config from another model"):
        open_checkpoint(folder)


@pytest.mark.parametrize("level", ["", "autoencoder."])
def test_a_standalone_autoencoder_loads_with_and_without_config(
    tiny_s, tiny_weights, folded, write, level
):
    tensors = {level + key: value for key, value in part_of(tiny_weights, SAME).items()}
    path = write(tensors, "SAME-S/model.safetensors")
    assert_same_values(load_same(open_checkpoint(path, ("same",))), folded)
    raw = json.loads((tiny_s / "model_config.json").read_text(encoding="utf-8"))
    raw["model"] = raw["model"]["pretransform"]["config"]
    (path.parent / "model_config.json").write_text(json.dumps(raw), encoding="utf-8")
    net = load_same(open_checkpoint(path.parent, ("same",)))
    assert_same_values(net, folded)
    assert net.config == open_checkpoint(tiny_s).config.same


@pytest.mark.parametrize("level", ["model.", "diffusion.", "state_dict.ema."])
def test_extra_path_levels_are_dropped(tiny_weights, folded, write, level):
    assert_loads_like(write({level + k: v for k, v in tiny_weights.items()}), tiny_weights, folded)


def test_a_second_copy_under_a_longer_path_is_left_out(tiny_weights, folded, write, caplog):
    copies = {"ema." + key: torch.zeros_like(value) for key, value in tiny_weights.items()}
    path = write({**copies, **tiny_weights})
    with caplog.at_level(logging.INFO, "sa3_core.checkpoints.reader"):
        assert_loads_like(path, tiny_weights, folded)
    assert "252 tensors of other models ignored" in caplog.text


# --- tensors ------------------------------------------------------------------------------------
def test_the_zero_element_tensor_is_loaded_and_needed(tiny_s, tiny_weights, write):
    key = "bottleneck.noise_scaling_factor"
    net = load_same(open_checkpoint(tiny_s, ("same",)))
    assert net.state_dict()[key].shape == (1, 0, 1)
    path = write({k: v for k, v in tiny_weights.items() if not k.endswith(key)})
    with pytest.raises(CheckpointError, match=r"missing: 1 \(bottleneck\.noise_scaling_factor"):
        load_same(open_checkpoint(path, ("same",)))


def test_every_spelling_of_weight_norm_gives_the_same_weight(tiny_weights, folded, write):
    other, plain = dict(tiny_weights), dict(tiny_weights)
    for side in ("encoder.layers.0", "decoder.layers.3"):
        name = f"{SAME}{side}.mapping."
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            other[f"{name}parametrizations.weight.{new}"] = other.pop(name + old)
            del plain[name + old]
        plain[name + "weight"] = folded[f"{side}.mapping.weight"]
    for tensors in (other, plain):
        path = write(tensors)
        assert_same_values(load_same(open_checkpoint(path, ("same",))), folded)


def test_half_a_weight_norm_pair_is_refused(tiny_weights, write):
    path = write({k: v for k, v in tiny_weights.items() if k != MAPPING + "weight_g"})
    with pytest.raises(CheckpointError, match=r"decoder\.layers\.3\.mapping\.weight_g"):
        load_same(open_checkpoint(path, ("same",)))


@pytest.mark.parametrize("naming", ["weight_g", "parametrized"])
@pytest.mark.parametrize("taps", [1, 3])
def test_folded_weight_norm_equals_torchs(rel_l2, naming, taps):
    layer = torch.nn.Conv1d(12, 5, taps)
    layer = torch.nn.utils.parametrizations.weight_norm(layer)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(1.7)
    tensors = {f"a.mapping.{key}": t for key, t in layer.state_dict().items()}
    if naming == "weight_g":
        new = ("parametrizations.weight.original0", "parametrizations.weight.original1")
        tensors["a.mapping.weight_g"] = tensors.pop(f"a.mapping.{new[0]}")
        tensors["a.mapping.weight_v"] = tensors.pop(f"a.mapping.{new[1]}")
    folded = fold_weight_norm(tensors)
    assert sorted(folded) == ["a.mapping.bias", "a.mapping.weight"]
    assert rel_l2(folded["a.mapping.weight"], layer.weight) < 1e-6
    assert "a.mapping.weight" not in tensors


def test_a_pair_is_folded_only_whole_and_alone():
    with pytest.raises(CheckpointError, match=r"mapping\.weight_g"):
        fold_weight_norm({"mapping.weight_v": torch.ones(2, 3, 1)})
    pair = {"mapping.weight_v": torch.ones(2, 3, 1), "mapping.weight_g": torch.ones(2, 1, 1)}
    with pytest.raises(CheckpointError, match="both"):
        fold_weight_norm({**pair, "mapping.weight": torch.ones(2, 3, 1)})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files(tiny_weights, folded, write, dtype):
    path = write({key: value.to(dtype) for key, value in tiny_weights.items()})
    checkpoint = open_checkpoint(path)
    assert set(checkpoint.dtypes.values()) == {dtype}
    kept = load_model(path, dtype=dtype)
    assert_same_values(kept.dit, {k: v.to(dtype) for k, v in part_of(tiny_weights, DIT).items()})
    assert {p.dtype for p in kept.conditioner.parameters()} == {torch.float32}
    same = load_same(checkpoint)
    assert {p.dtype for p in same.parameters()} == {dtype}
    on_cpu = load_model(path)
    assert {p.dtype for p in on_cpu.dit.parameters()} == {torch.float32}
    assert on_cpu.dtype == torch.float32


def test_float32_files_can_be_loaded_in_half_precision(tiny_s):
    model = load_model(tiny_s, dtype=torch.float16)
    assert {p.dtype for p in model.dit.parameters()} == {torch.float16}
    assert model.dit.transformer.rotary_pos_emb.inv_freq.dtype == torch.float32
    same = load_same(open_checkpoint(tiny_s, ("same",)), torch.bfloat16)
    assert {p.dtype for p in same.parameters()} == {torch.bfloat16}


def test_a_few_float32_tensors_do_not_make_a_half_file_float32(tiny_weights, write):
    path = write(
        {k: v if k.endswith("inv_freq") else v.bfloat16() for k, v in tiny_weights.items()}
    )
    assert open_checkpoint(path).dtypes["dit"] == torch.bfloat16
    dit = load_model(path, dtype=torch.bfloat16).dit
    key = "transformer.rotary_pos_emb.inv_freq"
    assert torch.equal(dit.state_dict()[key], tiny_weights[DIT + key])


def test_each_part_has_a_dtype_of_its_own_whatever_is_asked_for(tiny_weights, write):
    path = write({k: v.half() if k.startswith(SAME) else v for k, v in tiny_weights.items()})
    expected = {"dit": torch.float32, "conditioner": torch.float32, "same": torch.float16}
    for need in (("dit", "same"), ("same", "dit"), ("same",)):
        checkpoint = open_checkpoint(path, need)
        assert checkpoint.dtypes == expected
        assert load_same(checkpoint).bottleneck.bias.dtype == torch.float16


def test_weight_norm_of_half_files_is_folded_in_float32(tiny_weights, write):
    path = write({key: value.bfloat16() for key, value in tiny_weights.items()})
    net = load_same(open_checkpoint(path, ("same",)), torch.float32)
    gain, direction = (tiny_weights[f"{MAPPING}weight_{x}"].bfloat16().float() for x in "gv")
    assert torch.equal(net.decoder.layers["3"].mapping.weight, fold_pair(gain, direction))


def test_quantised_weights_are_refused(tiny_weights, write):
    key = DIT + "transformer.layers.0.ff.ff.2.weight"
    path = write({**tiny_weights, key: tiny_weights[key].to(torch.int8)})
    with pytest.raises(CheckpointError, match=r"ff\.ff\.2\.weight' is torch\.int8.*unquantised"):
        load_model(path)


# --- memory -------------------------------------------------------------------------------------
def test_a_full_model_in_the_autoencoder_loader_reads_only_its_tensors(tiny_s, folded):
    asked: list[str] = []

    class Spy(dict):
        def __getitem__(self, key: str) -> Tensor:
            asked.append(key)
            return super().__getitem__(key)

    def read(path: Path) -> dict[str, Tensor]:
        return Spy(load_file(path))

    assert_same_values(load_same(open_checkpoint(tiny_s, ("same",), read)), folded)
    assert len(asked) == 168
    assert all(key.startswith(SAME) for key in asked)


def test_weights_that_fit_are_not_copied(tiny_s):
    """The nets use the very memory that the reader hands out."""
    seen: dict[int, Tensor] = {}

    def read(path: Path) -> dict[str, Tensor]:
        tensors = load_file(path)
        seen.update({t.data_ptr(): t for t in tensors.values() if t.numel()})
        return tensors

    checkpoint = open_checkpoint(tiny_s, read=read)
    model = model_from(checkpoint, "auto", torch.float32, torch.device("cpu"))
    same = load_same(checkpoint)
    copied = [
        name
        for net in (model.dit, model.conditioner, same)
        for name, tensor in net.state_dict().items()
        if tensor.numel() and tensor.data_ptr() not in seen
    ]
    assert sorted(copied) == ["decoder.layers.3.mapping.weight", "encoder.layers.0.mapping.weight"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_default_reader_maps_the_file(tiny_s):
    file = tiny_s / "model.safetensors"
    model = load_model(tiny_s)
    spans = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if line.endswith(str(file.resolve())):
            low, high = line.split(" ", 1)[0].split("-")
            spans.append((int(low, 16), int(high, 16)))
    for name, tensor in model.dit.state_dict().items():
        assert any(low <= tensor.data_ptr() < high for low, high in spans), name


def test_loaded_nets_ask_for_no_gradient_and_run_in_inference_mode(tiny_s):
    model = load_model(tiny_s)
    assert not any(p.requires_grad for p in model.dit.parameters())
    assert not model.dit.training
    assert not model.conditioner.training


def test_what_loras_may_change_is_known_by_its_published_key(tiny_s, tiny_weights):
    checkpoint, tensors = open_checkpoint(tiny_s), tiny_weights
    names, shapes = checkpoint.adaptable_names(), checkpoint.adaptable_shapes()
    assert set(names) == {k for k in tensors if k.startswith((DIT, CONDITIONER))}
    assert {key: tuple(tensors[name].shape) for key, name in names.items()} == shapes
    originals = checkpoint.originals()
    key = DIT + "transformer.layers.0.self_attn.to_out.weight"
    assert torch.equal(originals[key](), tensors[names[key]])
