"""LoRAs on the command line: stacks, strengths, intervals, filters, files by name."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sa3_core.adapters.build import build_adapter
from sa3_core.adapters.file import read_adapter
from sa3_core.adapters.norms import adapter_changes, describe_changes
from sa3_core.adapters.use import AdapterUse
from sa3_core.checkpoints.reader import open_checkpoint
from sa3_core.cli.values import parse_lora
from tests.helpers import lora_tensors
from tests.helpers.cli_support import DORA, GENERATE, LORA
from tests.helpers.support import GOLDEN, load_golden, rel_l2, tiny_checkpoint


def test_loras_stack(make):
    frames = make("--seconds", 1.5, "--lora", LORA, "--lora", f"{DORA}:1")
    golden = load_golden("tiny-s/lora_stack")["latents"]
    assert rel_l2(frames[:, ::4, :81], golden[..., :81]) < 1e-5


def test_lora_strength_interval_and_filter(make):
    plain = make("--seconds", 1.5)
    half = make("--seconds", 1.5, "--lora", f"{GOLDEN}/tiny-s/adapter_bora.safetensors:0.5")
    golden = load_golden("tiny-s/lora_bora_strength0.5")["latents"]
    assert rel_l2(half[:, ::4, :81], golden[..., :81]) < 1e-5
    assert torch.equal(make("--seconds", 1.5, "--lora", f"{LORA}:0"), plain)
    full = make("--seconds", 1.5, "--lora", LORA)
    late = make("--seconds", 1.5, "--lora", LORA, "--lora-interval", "0-0.5")
    attention = make("--seconds", 1.5, "--lora", LORA, "--lora-filter", "self_attn, layers[0]")
    for one, other in ((full, plain), (late, plain), (late, full), (attention, full)):
        assert rel_l2(one, other) > 1e-4
    both = make(
        *("--seconds", 1.5, "--lora", LORA, "--lora-interval", "0-0.5"),
        *("--lora", f"{DORA}:0", "--lora-filter", "self_attn"),
    )
    assert torch.equal(both, late)  # the options belong to the LoRA before them


def test_it_is_said_how_much_a_lora_changes(sa3, tmp_path):
    still = {key: torch.zeros_like(value) for key, value in load_file(LORA).items()}
    with safe_open(LORA, "pt") as file:
        save_file(still, tmp_path / "still.safetensors", file.metadata())
    loras = ("--lora", LORA, "--lora", tmp_path / "still.safetensors")
    code, _, err = sa3(*GENERATE, "--seconds", 0.3, "--steps", 1, *loras)
    assert code == 0
    model = open_checkpoint(tiny_checkpoint("tiny-s"), ("dit", "conditioner"))
    built = build_adapter(read_adapter(LORA), model.originals())
    (said,) = describe_changes(adapter_changes(built, model.originals()))
    assert f"{LORA.name}: {said}" in err
    assert "by block: 0 " in said
    assert "still.safetensors: weights changed by 0.00%" in err
    assert "It has hardly learnt anything" in err


def test_a_strength_that_overflows_is_named_with_its_lora(sa3):
    code, _, out = sa3(*GENERATE, "--seconds", 0.3, "--steps", 1, "--lora", f"{LORA}:1e38")
    assert code != 0
    assert "NaN or infinite values from step 1 of 1 on, in item 1 of 1" in out
    assert f"On the model: {LORA.name} at 1e+38." in out


def test_a_lora_is_found_by_name_in_the_models_folder(make, tiny_s, tmp_path):
    loras = tmp_path / "models" / "loras"
    loras.mkdir(parents=True)
    (loras / "mine.safetensors").write_bytes(LORA.read_bytes())
    named = make(
        *("--models-dir", tmp_path / "models", "--model", tiny_s),
        *("--seconds", 1.5, "--lora", "mine.safetensors"),
    )
    assert torch.equal(named, make("--seconds", 1.5, "--lora", LORA))


def test_xs_loras_use_the_files_weights_and_keep_their_bases(make, tmp_path):
    path = tmp_path / "xs.safetensors"
    path.write_bytes((GOLDEN / "tiny-s" / "adapter_dora-rows-xs.safetensors").read_bytes())
    frames = make("--seconds", 1.5, "--lora", path)
    golden = load_golden("tiny-s/lora_dora-rows-xs")["latents"]
    assert rel_l2(frames[:, ::4, :81], golden[..., :81]) < 5e-5
    assert list(tmp_path.glob("*.sa3_svd"))


@pytest.mark.parametrize(
    ("text", "file", "strength"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.8", "a.safetensors", 0.8),
        ("dir/a.safetensors:-2", "dir/a.safetensors", -2.0),
        (r"C:\x.safetensors", r"C:\x.safetensors", 1.0),
        (r"C:\x.safetensors:0.8", r"C:\x.safetensors", 0.8),
        ("C:/x.safetensors:1e-1", "C:/x.safetensors", 0.1),
        (r"\\server\share\x.safetensors:3", r"\\server\share\x.safetensors", 3.0),
        ("odd:name.safetensors", "odd:name.safetensors", 1.0),
        ("C:1", "C:1", 1.0),
    ],
)
def test_lora_files_and_strengths(text, file, strength):
    assert parse_lora(text) == AdapterUse(file, strength)


def test_strengths_apart_and_the_names_of_the_nodes(make):
    """The duration embedding has a strength of its own; stack0 has layers of both kinds."""
    lora = ("--seconds", 1.5, "--lora", LORA)
    full, plain = make(*lora), make("--seconds", 1.5)
    apart = make(*lora, "--strength-conditioner", 0)
    assert rel_l2(apart, full) > 1e-5
    assert rel_l2(apart, plain) > 1e-5
    assert torch.equal(make(*lora, "--strength-conditioner", 1), full)
    assert torch.equal(make(*lora, "--strength", 0, "--strength-conditioner", 0), plain)
    half = make("--seconds", 1.5, "--lora", f"{LORA}:0.5")
    assert torch.equal(make(*lora, "--strength", 0.5), half)
    named = make(*lora, "--layer-filter", "self_attn")
    assert torch.equal(make(*lora, "--lora-filter", "self_attn"), named)


def test_a_lora_that_fits_in_part_needs_the_choice(make, sa3, tmp_path):
    """Layers of another size are left out, the others act as alone."""
    tensors = load_file(LORA)
    with safe_open(LORA, "pt") as file:
        metadata = file.metadata()
    broken = {key: value for key, value in tensors.items() if "layers.1." not in key}
    name = next(key for key in tensors if "layers.1." in key and "self_attn" in key)
    layer = name.rpartition(".")[0].removesuffix(".parametrizations.weight.0")
    for key, value in tensors.items():
        if key.startswith(layer):
            broken[key] = value.repeat(*([2] * value.ndim)) if value.ndim else value
    path = tmp_path / "part.safetensors"
    save_file(broken, path, metadata)
    code, _, err = sa3(*GENERATE, "--seconds", 0.5, "--lora", path)
    assert code == 1
    assert "choose partial" in err
    plain = make("--seconds", 0.5)
    assert rel_l2(make("--seconds", 0.5, "--lora", path, "--partial"), plain) > 1e-4


def test_other_trainers_files_act_and_what_is_not_used_is_named(make, sa3, tmp_path):
    """A gain, a bias, a token and a LoHa act; a text encoder's layer is named."""
    block = "diffusion_model.transformer.layers.1."
    loha = lora_tensors.kinds((128, 128))["loha, dora"]
    tensors = {f"{block}self_attn.to_out.{name}": tensor for name, tensor in loha.items()}
    tensors |= {
        f"{block}pre_norm.gamma.diff": torch.full((128,), 0.5),
        f"{block}ff.ff.2.diff_b": torch.full((128,), 0.5),
        "diffusion_model.transformer.memory_tokens.diff": torch.ones(64, 128),
    }
    plain = make("--seconds", 0.5)
    for number, (name, tensor) in enumerate([*tensors.items()][-3:]):
        path = tmp_path / f"{number}.safetensors"
        save_file({name: tensor}, path)
        assert rel_l2(make("--seconds", 0.5, "--lora", path), plain) > 1e-5
    path = tmp_path / "all.safetensors"
    save_file({**tensors, "text_encoder.layers.0.q.diff": torch.ones(2)}, path)
    together = make("--seconds", 0.5, "--lora", path)
    code, _, err = sa3("merge", "--model", "tiny-s", "--lora", path, "--out", "m")
    assert code == 0
    assert "1 tensor is not used: text_encoder.layers.0.q.diff" in err
    encoder = ("--text-encoder", "tiny-s/t5gemma-b-b-ul2")
    merged = make("--seconds", 0.5, "--model", "./m", *encoder)
    assert rel_l2(merged, together) < 1e-5
