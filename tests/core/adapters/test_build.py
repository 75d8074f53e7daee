"""Matching LoRA files with models, and building what they do."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sa3_core.adapters import bases as svd_module
from sa3_core.adapters.build import build_adapter, match, require_fit
from sa3_core.adapters.file import AdapterFile, LayerTensors, read_adapter
from sa3_core.adapters.rules import ADAPTER_TYPES, LowRank
from sa3_core.errors import AdapterError
from tests.helpers import support


def shapes_of(variant: str) -> dict[str, tuple[int, ...]]:
    with safe_open(support.tiny_checkpoint(variant) / "model.safetensors", "pt") as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def adapter_of(variant: str, kind: str = "lora") -> AdapterFile:
    return read_adapter(support.golden_path(f"{variant}/adapter_{kind}"))


@pytest.mark.parametrize("kind", ADAPTER_TYPES)
@pytest.mark.parametrize("variant", ["tiny-s", "tiny-m"])
def test_a_fitting_file_matches_completely(variant, kind):
    report = match(adapter_of(variant, kind), shapes_of(variant))
    assert (len(report.matched), report.total) == (40, 40)
    assert require_fit(report) == report.matched
    assert report.hint == ""


@pytest.mark.parametrize("kind", ["lora", "dora-rows", "bora", "bora-xs", "dora-rows-xs"])
@pytest.mark.parametrize(
    ("made_for", "used_on", "kind_of_model"),
    [("tiny-m", "tiny-s", "medium"), ("tiny-s", "tiny-m", "small")],
)
def test_a_file_for_another_architecture_is_refused_with_numbers(
    made_for, used_on, kind_of_model, kind
):
    report = match(adapter_of(made_for, kind), shapes_of(used_on))
    with pytest.raises(AdapterError) as caught:
        require_fit(report)
    text = str(caught.value)
    assert f"adapter_{kind}.safetensors" in text
    assert f"of its 40 layers {len(report.shape_mismatch)} differ in shape" in text
    assert "cross_attn.to_kv.weight: [" in text
    assert "choose partial" in text
    if kind in ("lora", "bora"):  # the others tell one side only
        assert f"trained on a {kind_of_model} model" in text


def test_partial_is_the_users_choice_and_is_logged(caplog):
    report = match(adapter_of("tiny-m"), shapes_of("tiny-s"))
    with caplog.at_level(logging.WARNING):
        keys = require_fit(report, partial=True)
    assert 0 < len(keys) == len(report.matched) < 40
    assert f"{40 - len(keys)} of 40 layers do not fit" in caplog.text


def test_layers_the_model_does_not_have_are_named_and_nothing_fitting_is_always_an_error():
    adapter, shapes = adapter_of("tiny-s"), shapes_of("tiny-s")
    fewer = {key: shape for key, shape in shapes.items() if "layers.2." not in key}
    report = match(adapter, fewer)
    assert len(report.missing_in_model) == 9
    with pytest.raises(AdapterError, match=r"9 are not in the model .*layers\.2"):
        require_fit(report)
    with pytest.raises(AdapterError, match="40 are not in the model"):
        require_fit(match(adapter, {}), partial=True)


def test_ranks_too_large_for_a_weight_do_not_fit():
    layer = LayerTensors(None, torch.eye(16), (), 1.0, (None, None))
    adapter = replace(adapter_of("tiny-s", "lora-xs"), layers={"w": layer})
    assert match(adapter, {"w": (16, 20)}).matched == ("w",)
    report = match(adapter, {"w": (15, 20)})
    with pytest.raises(AdapterError, match=r"w: rank 16 in a weight of \[15, 20\]"):
        require_fit(report)


def test_convolutions_match_by_their_flattened_shape_and_vectors_never():
    pair = LowRank(torch.ones(2, 12), torch.ones(5, 2))
    layer = LayerTensors(pair, None, (), 1.0, (5, 12))
    adapter = replace(adapter_of("tiny-s"), layers={"w": layer})
    assert match(adapter, {"w": (5, 4, 3)}).matched == ("w",)
    assert match(adapter, {"w": (5, 4, 2)}).shape_mismatch[0].model == (5, 4, 2)
    assert match(adapter, {"w": (5,)}).matched == ()


def test_a_file_without_sizes_and_with_fewer_blocks_gets_a_hint(caplog):
    shapes = shapes_of("tiny-s")
    deeper = shapes | {k.replace("layers.2", "layers.3"): v for k, v in shapes.items()}
    report = match(adapter_of("tiny-s", "lora-xs"), deeper)
    with caplog.at_level(logging.WARNING):
        assert len(require_fit(report)) == 40
    assert "does not tell sizes" in caplog.text
    assert match(adapter_of("tiny-s", "lora"), deeper).hint == ""


def copied(tmp_path: Path, kind: str) -> AdapterFile:
    path = tmp_path / "x.safetensors"
    path.write_bytes(support.golden_path(f"tiny-s/adapter_{kind}").read_bytes())
    return read_adapter(path)


def originals(reads: list[str]):
    file = safe_open(support.tiny_checkpoint("tiny-s") / "model.safetensors", "pt")

    def read(key: str):
        reads.append(key)
        return file.get_tensor(key)

    return {key: (lambda key=key: read(key)) for key in file.keys()}  # noqa: SIM118


def test_plain_types_read_no_weights_and_keys_choose_the_layers(tmp_path):
    adapter, reads = copied(tmp_path, "bora"), []
    built = build_adapter(adapter, originals(reads))
    assert list(built) == list(adapter.layers)
    assert reads == []
    some = list(adapter.layers)[3:5]
    assert list(build_adapter(adapter, {}, some)) == some


def test_xs_types_compute_once_report_progress_and_survive_a_stop(tmp_path, monkeypatch):
    adapter, reads, seen = copied(tmp_path, "lora-xs"), [], []
    keys = list(adapter.layers)[:6]

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 3:
            raise StopError

    with pytest.raises(StopError):
        build_adapter(adapter, originals(reads), keys, stop)
    assert seen == [(1, 6), (2, 6), (3, 6)]
    calls = []
    real = svd_module.svd_bases
    monkeypatch.setattr(svd_module, "svd_bases", lambda w, r: calls.append(1) or real(w, r))
    built = build_adapter(adapter, originals(reads), keys)
    assert len(built) == 6
    assert len(calls) == 3  # the first three were kept
    weights = {key: weight() for key, weight in originals(reads).items() if key in keys}
    again = build_adapter(adapter, weights, keys)
    assert len(calls) == 3
    for key in keys:
        assert torch.equal(again[key].apply(weights[key], 0.7), built[key].apply(weights[key], 0.7))
