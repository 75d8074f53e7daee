"""TorchCompileModel in front of SA3 Sampler: few shapes, the same result, nothing kept too long."""

from __future__ import annotations

import importlib

import pytest
import torch

from tests.helpers.support import rel_l2


class Counter:
    """A backend that runs graphs as they are and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.fixture
def compiling(pack):
    return importlib.import_module("sa3_pack.nodes.bridge.sockets.compiling")


@pytest.fixture
def compiled(pack, patcher):
    """compiled(backend): a clone of the MODEL after ComfyUI's own TorchCompileModel."""
    helpers = importlib.import_module("comfy_api.torch_helpers")
    torch._dynamo.reset()

    def make(backend):
        clone = patcher.clone()
        options = {"guard_filter_fn": lambda entries: [True for _ in entries]}
        helpers.set_torch_compile_wrapper(model=clone, backend=backend, options=options)
        return clone

    return make


def sample(bridge, patcher, prompt, *seconds):
    latent = bridge.coding.empty_latent(list(seconds), 1)
    settings = bridge.core_settings.SampleSettings(steps=2)
    seeds = bridge.core_noise.Seeds(1)
    out, notes = bridge.sampling.sample(patcher, latent, settings, prompt, None, seeds)
    assert not [note for note in notes if "does not use" in note]
    return out["samples"]


def test_durations_of_a_bucket_share_one_graph(bridge, patcher, compiled, prompt):
    counter = Counter()
    model = compiled(counter)
    for seconds in (1.5, 4.0, 5.4):
        exact = sample(bridge, patcher, prompt, seconds)
        assert rel_l2(sample(bridge, model, prompt, seconds), exact) < 1e-5
    assert counter.graphs == 1
    both = sample(bridge, patcher, prompt, 1.5, 4.0)
    assert rel_l2(sample(bridge, model, prompt, 1.5, 4.0), both) < 1e-5
    sample(bridge, model.clone(), prompt, 3.0)
    assert counter.graphs == 2


def test_cuda_graphs_without_a_card_leave_the_model_as_it_is(
    bridge, patcher, compiled, prompt, caplog
):
    exact = sample(bridge, patcher, prompt, 1.5)
    assert torch.equal(sample(bridge, compiled("cudagraphs"), prompt, 1.5), exact)
    assert "cudagraphs needs an NVIDIA card" in caplog.text


def test_cuda_graphs_go_with_the_weights(mm, compiling, compiled, monkeypatch):
    monkeypatch.setattr(mm, "is_device_cuda", lambda device: True)
    model = compiled("cudagraphs")
    first = compiling.compiled_net(model, 1292)
    assert compiling.compiled_net(model, 1292) is first
    model.detach()
    assert compiling.compiled_net(model, 1292) is not first


def test_memory_is_asked_for_the_frames_that_are_computed(bridge, patcher, compiled, prompt):
    def memory(model, frames):
        net = bridge.model.core_model(model, model.model)
        start = bridge.core_start.StartLatent(torch.zeros(1, 256, frames))
        text = bridge.values.text_conditioning(prompt, "positive")
        seeds = bridge.core_noise.Seeds(1)
        return bridge.core_plan.SamplingPlan.of(net, start, text, None, seeds).memory(False)

    assert memory(patcher, 100) < memory(patcher, 128) == memory(compiled("inductor"), 100)
