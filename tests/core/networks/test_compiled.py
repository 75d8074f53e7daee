"""A compiled net: bucketed lengths change no result, and few shapes are compiled.

The compiler here is one that counts what it is given and runs it unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from sa3_core.adapters.rules import AdapterWeight, LowRank
from sa3_core.adapters.switch import AdapterSwitch
from sa3_core.adapters.use import AdapterUse
from sa3_core.checkpoints.load import load_model
from sa3_core.errors import CompileError, InputError
from sa3_core.geometry import target_frames, valid_frames
from sa3_core.networks import attention
from sa3_core.networks import dit as dit_module
from sa3_core.networks.compiled import compile_dit, frame_bucket, token_bucket
from sa3_core.networks.dit import DiffusionTransformer
from sa3_core.networks.model import SA3Model
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from tests.helpers.support import rel_l2, tiny_checkpoint

QKV = "model.model.transformer.layers.1.self_attn.to_qkv.weight"


@pytest.fixture(scope="module", params=["tiny-s", "tiny-m"])
def model(request) -> SA3Model:
    return load_model(tiny_checkpoint(request.param), dtype=torch.float32)


@dataclass
class Counter:
    """A backend of torch.compile; `shapes` holds the first input's of every graph."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Tensor]:
        self.shapes.append(tuple(inputs[0].shape))
        return graph.forward


@pytest.fixture
def counted(model) -> tuple[SA3Model, Counter]:
    """The model behind a counting compiler."""
    torch._dynamo.reset()
    counter = Counter()
    net = compile_dit(model.dit, model.max_frames, {"backend": counter, "fullgraph": True})
    return replace(model, compiled=net), counter


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompts(*lengths: int) -> TextConditioning:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return TextConditioning(draw(*mask.shape, 768) * mask[..., None], mask)


@dataclass(frozen=True)
class Job:
    """What one call of `sample_latent` is given."""

    seconds: tuple[float, ...] = (1.5,)
    tokens: tuple[int, ...] = (10,)
    negative: int = 0
    inpaint: bool = False
    settings: SampleSettings = field(default_factory=lambda: SampleSettings(steps=2))

    def run(self, model: SA3Model, switch: AdapterSwitch | None = None) -> Tensor:
        frames = max(target_frames(s, model.sample_size) for s in self.seconds)
        start = StartLatent(torch.zeros(1, 256, frames), self.seconds)
        if self.inpaint:
            keep = (torch.arange(frames) % 7 < 3)[None, None].float()
            start = StartLatent(draw(1, 256, frames, seed=2), self.seconds, keep)
        negative = prompts(self.negative) if self.negative else None
        text = prompts(*self.tokens)
        return sample_latent(model, start, self.settings, text, negative, Seeds(3), switch=switch)


def test_buckets_waste_little_and_are_few():
    buckets = [frame_bucket(n, 4096) for n in range(1, 4097)]
    assert len(set(buckets)) == 20
    waste = [b / n for n, b in enumerate(buckets, 1)]
    assert min(waste) == 1
    assert max(waste[512:]) < 1.25
    assert sum(waste[512:]) / len(waste[512:]) < 1.09
    assert [frame_bucket(n, 1292) for n in (1, 64, 65, 387, 1281, 1292)] == [
        *(64, 64, 128, 448, 1292, 1292)
    ]
    assert [token_bucket(n) for n in (1, 12, 32, 33, 258)] == [32, 32, 32, 64, 512]


def test_durations_and_prompts_of_a_bucket_share_one_graph(model, counted):
    compiled, counter = counted
    jobs = [
        Job((1.5,), (10,)),
        Job((4.2,), (1,)),
        Job((5.4,), (25,)),  # 59 + 64 frames
        Job((2.0,), (10,), settings=SampleSettings(steps=3, sampler="rk4")),
    ]
    for job in jobs:
        assert rel_l2(job.run(compiled), job.run(model)) < 1e-5
    assert len(counter.shapes) == 1
    assert rel_l2((job := Job((7.0,))).run(compiled), job.run(model)) < 1e-5  # 76 + 64 frames
    assert len(counter.shapes) == 2
    assert rel_l2((job := Job(tokens=(60,))).run(compiled), job.run(model)) < 1e-5
    assert len(counter.shapes) == 3


@torch._dynamo.config.patch(recompile_limit=1)
def test_more_shapes_than_torchs_limit_stay_compiled(model):
    torch._dynamo.reset()
    counter = Counter()
    net = compile_dit(model.dit, model.max_frames, {"backend": counter, "fullgraph": True})
    duration = model.conditioner.duration([3.0])
    for frames in (64, 128, 192):
        constants = net.prepare(draw(1, 3, 768), None, duration, None, None, frames)
        with torch.no_grad():
            net.velocity(draw(1, 256, frames), torch.tensor([0.5]), constants)
    assert len(counter.shapes) == 3


@pytest.mark.parametrize("inpaint", [False, True])
def test_a_batch_shares_one_graph_whatever_is_masked(model, counted, inpaint):
    compiled, counter = counted
    guided = SampleSettings(steps=2, cfg=4.0)
    jobs = [
        Job((1.5, 4.2), (10, 3), inpaint=inpaint),
        Job((5.4, 5.4), (10, 20), inpaint=inpaint),  # nothing to mask but the bucket's frames
        Job((2.0, 1.5), (5,), inpaint=inpaint),
    ]
    for job in jobs:
        assert rel_l2(job.run(compiled), job.run(model)) < 1e-5
    assert len(counter.shapes) == 1
    jobs = [
        Job((s,), inpaint=inpaint, negative=n, settings=guided) for s in (1.5, 4) for n in (0, 7)
    ]
    for job in jobs:
        assert rel_l2(job.run(compiled), job.run(model)) < 5e-5
    # Guidance of one item: its source is not repeated, so with one there is a second shape.
    assert len(counter.shapes) == (2 if inpaint else 1)


def test_loras_with_an_interval_compile_nothing_new(model, counted):
    compiled, counter = counted
    shape = model.dit.get_parameter(QKV.removeprefix("model.model.")).shape
    low = LowRank(0.05 * draw(4, shape[1]), 0.05 * draw(shape[0], 4, seed=1))
    use = AdapterUse({QKV: AdapterWeight(low, "lora", (), 1.0)}, 1.0, (0.0, 0.9))
    job = Job(settings=SampleSettings(steps=4, sampler="euler"))
    outs = []
    for m in (compiled, model):
        with AdapterSwitch(m, [use]) as switch:
            outs.append(job.run(m, switch))
    assert rel_l2(outs[0], outs[1]) < 1e-5
    assert rel_l2(outs[0], job.run(compiled)) > 1e-3
    assert len(counter.shapes) == 1


def test_half_precision_at_a_buckets_length_is_as_exact(model):
    half = load_model(tiny_checkpoint(model.name), dtype=torch.bfloat16)
    padded = replace(half, compiled=compile_dit(half.dit, half.max_frames, {"backend": "eager"}))
    exact, plain, out = (Job().run(m) for m in (model, half, padded))
    assert rel_l2(out, exact) < 1.2 * rel_l2(plain, exact)


def test_an_output_survives_the_next_call(model):
    """Compiled code and graphs may hand out the same memory again."""
    memory: list[Tensor] = []

    def reusing(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., tuple[Tensor]]:
        def run(*args: Tensor) -> tuple[Tensor]:
            (out,) = graph.forward(*args)
            memory.append(out) if not memory else memory[0].copy_(out)
            return (memory[0],)

        return run

    torch._dynamo.reset()
    net = compile_dit(model.dit, model.max_frames, {"backend": reusing})
    job = Job(settings=SampleSettings(steps=2, sampler="rk4"))
    assert rel_l2(job.run(replace(model, compiled=net)), job.run(model)) < 1e-5


class OnDevice(TorchDispatchMode):
    """Fails where the CPU would wait for the device, or data go to or from it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero"), name
        tensors = [a for a in torch.utils._pytree.tree_leaves((args, kwargs)) if is_tensor(a)]
        assert all(t.device.type == "cuda" for t in tensors), name
        out = func(*args, **(kwargs or {}))
        made = [t for t in torch.utils._pytree.tree_leaves(out) if is_tensor(t)]
        assert all(t.device.type == "cuda" for t in made), name
        return out


def is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def pretended_mask(mask: Tensor, always: int, like: Tensor) -> attention.KeyMask:
    """`attention.key_mask` without a look at values."""
    assert mask.device.type == "cpu"
    valid = torch.ones(len(mask), 1, 1, always + mask.shape[1], dtype=torch.bool, device="cuda")
    segments = torch.empty(2 * len(mask) + 1, dtype=torch.int32, device="cuda")
    return attention.KeyMask(valid, segments if attention.flash_usable(like) else None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize("with_flash", [False, True])
def test_a_step_neither_waits_for_the_card_nor_copies_to_it(
    model, monkeypatch, dtype, source, with_flash
):
    """So that it can be recorded as a CUDA graph. Tensors of a pretended card, without values."""
    monkeypatch.setattr(attention, "_flash_installed", lambda: with_flash)
    varlen = lambda q, k, v, segments: q.clone()  # noqa: E731
    monkeypatch.setattr(attention, "flash_attend_segments", varlen)
    monkeypatch.setattr(dit_module, "key_mask", pretended_mask)
    with FakeTensorMode(), torch.no_grad():
        dit = DiffusionTransformer(model.config.dit, device="cuda", dtype=dtype)
        net = compile_dit(dit, 4096, {"backend": "eager"})
        context = torch.empty(2, 9, 768, dtype=dtype, device="cuda")
        local = torch.empty(2, 257, 30, device="cuda") if source else None
        duration = torch.empty(2, 768, device="cuda")
        constants = net.prepare(
            context, torch.empty(2, 9, device="cuda"), duration, local, None, 30
        )
        assert constants.frame_keys is not None
        uses_flash = with_flash and dtype == torch.float16
        assert (constants.frame_keys.segments is not None) == uses_flash
        x = torch.empty(2, 256, 64, device="cuda")
        features = torch.empty(2, model.config.dit.time_features, device="cuda")
        with OnDevice():
            assert dit.velocity_at(x, features, constants).shape == x.shape


def test_a_compiler_that_does_not_work_is_named(model):
    def broken(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Tensor]:
        raise RuntimeError("no g++ here")

    torch._dynamo.reset()
    net = compile_dit(model.dit, model.max_frames, {"backend": broken})
    with pytest.raises(CompileError, match=r"\(no g\+\+ here\).*C\+\+ compiler"):
        Job().run(replace(model, compiled=net))


def test_unknown_compilers_and_devices_are_refused(model):
    with pytest.raises(InputError, match="must be one of inductor, cudagraphs"):
        model.compile("tensorrt")
    with pytest.raises(InputError, match="NVIDIA card; the model is on cpu"):
        model.compile("cudagraphs")


def test_without_a_compiler_lengths_are_exact(model, monkeypatch):
    seen = []
    prepare = model.dit.prepare
    monkeypatch.setattr(
        model.dit, "prepare", lambda **how: seen.append(how["frames"]) or prepare(**how)
    )
    Job((2.0,)).run(model)
    assert seen == [valid_frames(2.0, 1000)]
