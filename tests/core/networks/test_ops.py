"""Linear layers through either matrix library give the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sa3_core.checkpoints.load import load_autoencoder
from sa3_core.networks import ops, same_resampler

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch without oneDNN"
)


@pytest.fixture
def forced(monkeypatch):
    """Choose oneDNN whatever the processor, and count its calls."""
    monkeypatch.setattr(ops, "onednn_is_faster", lambda: True)
    calls = []
    real = torch.ops.mkldnn._linear_pointwise

    def counting(*args):
        calls.append(args[0].shape)
        return real(*args)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counting)
    return calls


@needs_onednn
@pytest.mark.parametrize("shape", [(64, 48), (2, 40, 48), (2, 3, 34, 48)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_equals_torchs_linear(forced, rel_l2, shape, bias):
    x, weight = torch.randn(shape), torch.randn(96, 48)
    shift = torch.randn(96) if bias else None
    assert rel_l2(ops.linear(x, weight, shift), F.linear(x, weight, shift)) < 2e-6
    strided = torch.randn(*shape[:-1], 96)[..., ::2]
    assert rel_l2(ops.linear(strided, weight, shift), F.linear(strided, weight, shift)) < 2e-6
    assert len(forced) == 2


@needs_onednn
def test_only_plain_float32_work_is_sent_there(forced):
    weight = torch.randn(96, 48)
    few = torch.randn(3, 48)
    assert torch.equal(ops.linear(few, weight, None), F.linear(few, weight))
    half = torch.randn(64, 48, dtype=torch.bfloat16)
    assert ops.linear(half, weight.bfloat16(), None).dtype == torch.bfloat16
    learning = torch.randn(64, 48, requires_grad=True)
    ops.linear(learning, weight, None).sum().backward()
    assert learning.grad is not None
    assert not forced


@needs_onednn
def test_the_way_back_goes_there_too(forced, rel_l2):
    grad, weight = torch.randn(64, 96), torch.randn(96, 48)
    assert rel_l2(ops.linear_back(grad, weight), grad @ weight) < 2e-6
    assert rel_l2(ops.linear_back(grad[:, ::2], weight[::2]), grad[:, ::2] @ weight[::2]) < 2e-6
    assert forced == [(64, 96), (64, 48)]
    few, half = grad[:3], grad.bfloat16()
    assert torch.equal(ops.linear_back(few, weight), few @ weight)
    assert torch.equal(ops.linear_back(half, weight.bfloat16()), half @ weight.bfloat16())
    assert len(forced) == 2


@needs_onednn
@pytest.mark.parametrize("maker", ["AuthenticAMD", "GenuineIntel"])
def test_the_processor_decides(monkeypatch, tmp_path, maker):
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\nvendor_id : {maker}\n", encoding="utf-8")
    monkeypatch.setattr(ops, "CPUINFO", info)
    monkeypatch.setattr(ops, "amd_processor", ops.amd_processor.__wrapped__)  # without its memory
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert ops.onednn_is_faster.__wrapped__() is (maker == "AuthenticAMD")
    monkeypatch.setattr(ops, "CPUINFO", tmp_path / "absent")
    monkeypatch.setattr("platform.processor", lambda: f"AMD64 Family 26, {maker}")
    assert ops.onednn_is_faster.__wrapped__() is (maker == "AuthenticAMD")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not ops.onednn_is_faster.__wrapped__()


@needs_onednn
@pytest.mark.parametrize("rows", [40, 64, 1000])
def test_packed_weights_give_the_same(forced, rel_l2, rows):
    net = torch.nn.Sequential(torch.nn.Linear(48, 96), torch.nn.LayerNorm(96))
    layer, other = net[0], torch.randn(96, 48)
    for count in (40, 64, 1000):
        x = torch.randn(count, 48)
        plain = ops.linear(x, layer.weight.detach(), layer.bias.detach())
        with torch.no_grad(), ops.packed_weights(net, rows):
            assert set(ops._packed) == {layer.weight.data_ptr()}
            assert rel_l2(ops.linear(x, layer.weight, layer.bias), plain) < 1e-6
            assert rel_l2(ops.linear(x, other, None), F.linear(x, other)) < 2e-6
        assert not ops._packed


@needs_onednn
def test_nothing_stays_packed_after_an_error(forced):
    with pytest.raises(KeyError), ops.packed_weights(torch.nn.Linear(48, 96), 64):
        raise KeyError
    assert not ops._packed


def test_where_the_library_is_not_faster_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(ops, "onednn_is_faster", lambda: False)
    with ops.packed_weights(torch.nn.Linear(48, 96), 64):
        assert not ops._packed


@needs_onednn
@pytest.mark.parametrize("name", ["tiny_s", "tiny_m"])
def test_a_long_signal_decoded_with_packed_layers(monkeypatch, rel_l2, request, name):
    net = load_autoencoder(request.getfixturevalue(name))
    long = same_resampler.PACKING_PAYS // 17 + 3  # latents of 17 rows
    latent = torch.randn(1, 256, long, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(same_resampler, "CPU_TILE", 204 * net.config.decoder.width)
    monkeypatch.setattr(ops, "onednn_is_faster", lambda: False)
    plain = net.decode(latent)
    monkeypatch.setattr(ops, "onednn_is_faster", lambda: True)
    packed = []
    real = torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(
        torch.ops.mkldnn,
        "_reorder_linear_weight",
        lambda weight, rows: packed.append(rows) or real(weight, rows),
    )
    assert rel_l2(net.decode(latent), plain) < 1e-5
    assert len(packed) == 4 * net.config.decoder.depth  # linear layers of each layer
    net.decode(latent[..., :-8])
    assert len(packed) == 4 * net.config.decoder.depth  # too short for that to pay
