"""Everything on a CUDA card that is not there: no tensor in the wrong place, few waits and copies.

The numbers here are what a run may cost; they may only fall.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sa3_core.adapters.loading import load_adapters
from sa3_core.adapters.switch import AdapterSwitch
from sa3_core.adapters.use import AdapterUse
from sa3_core.checkpoints.load import load_model
from sa3_core.codec.autoencode import decode, encode
from sa3_core.codec.latent_file import Latents
from sa3_core.editing.edits import AudioToAudio, Continuation, Inpaint, Loop
from sa3_core.editing.windows import Extension
from sa3_core.pipeline import GenerateRequest, Pipeline, extend, generate, load_pipeline
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.samplers import SAMPLERS
from sa3_core.sampling.schedule import FullShift
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from sa3_core.training.draws import DrawSettings, draw_item
from sa3_core.training.step import assemble, predict, score
from tests.helpers.stand_in_card import (
    LEARNING_CARD,
    Card,
    card,
    install,
    move,
    on_card,
    pipeline_on_card,
)
from tests.helpers.support import golden_path, tiny_checkpoint

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHORT = [("tiny-s", "bf16", True), ("tiny-m", "fp32", False)]
REST = [
    (variant, dtype, flash)
    for variant in ("tiny-s", "tiny-m")
    for dtype in DTYPES
    for flash in (False, True)
    if (variant, dtype, flash) not in SHORT and (dtype != "fp32" or not flash)
]
STEPS = 3


def shortly(some: Sequence[Any], *only: Any) -> list[Any]:
    """All of `some`; those that are not in `only` in long test runs alone."""
    return [x if x in only else pytest.param(x, marks=pytest.mark.soak) for x in some]


@pytest.fixture(
    scope="module",
    params=[*SHORT, *(pytest.param(case, marks=pytest.mark.soak) for case in REST)],
    ids=lambda case: "-".join(map(str, case[:2])) + "-flash" * case[2],
)
def placed(request):
    """A pipeline on the card, with flash-attn or without."""
    variant, dtype, flash = request.param
    pipeline = pipeline_on_card(load_pipeline(tiny_checkpoint(variant)), DTYPES[dtype])
    with pytest.MonkeyPatch.context() as patch:
        install(patch, flash)
        yield variant, pipeline


@pytest.fixture
def pipeline(placed) -> Pipeline:
    return placed[1]


def prompt(items: int = 1) -> TextConditioning:
    return TextConditioning(
        on_card(torch.zeros(items, 5, 768)), on_card(torch.ones(items, 5, dtype=torch.bool))
    )


def costs(pipeline: Pipeline, switch: Any = None, **how: Any) -> list[tuple[int, int]]:
    """Waits and copies of each step after the first, which also prepares."""
    keep, seconds = how.pop("keep", None), how.pop("seconds", (2.0, 2.0))
    negative = prompt() if how.pop("negative", False) else None
    start = StartLatent(torch.zeros(len(seconds), 256, 30), seconds, keep)
    marks: list[tuple[int, int]] = []
    with card() as there:
        out = sample_latent(
            pipeline.model,
            start,
            SampleSettings(steps=STEPS, **how),
            prompt(),
            negative,
            Seeds(3),
            on_step=lambda step, steps, x: marks.append(there.cost),
            switch=switch,
        )
    assert out.device.type == "cpu"
    assert out.shape == (len(seconds), 256, 30)
    assert there.operations > 100
    found = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks)]
    assert len(found) == STEPS - 1, there.waits
    return found


STEP_COST = {"pingpong": (0, 1), "dpmpp-3m-sde": (0, 1)}  # the noise; others nothing
APART: dict[str, dict[str, Any]] = {
    "guidance": {"cfg": 5.0, "negative": True},
    "guidance in an interval": {"cfg": 5.0, "cfg_interval": (0.2, 0.8), "rescale": 0.5},
    "unequal lengths": {"seconds": (1.0, 2.0)},
    "unequal lengths with guidance": {"seconds": (1.0, 2.0), "cfg": 4.0, "norm_threshold": 2.0},
}


@pytest.mark.parametrize("sampler", shortly(SAMPLERS.names, "pingpong"))
def test_a_step_waits_for_nothing(pipeline: Pipeline, sampler: str) -> None:
    assert set(costs(pipeline, sampler=sampler)) == {STEP_COST.get(sampler, (0, 0))}


@pytest.mark.parametrize("what", shortly([*APART], "unequal lengths with guidance"))
def test_neither_guidance_nor_lengths_cost_a_step_anything(pipeline: Pipeline, what: str) -> None:
    """A step in which guidance begins or ends prepares once more."""
    found = costs(pipeline, sampler="euler", **APART[what])
    assert found[-1] == (0, 0)
    assert found[0] == (0, 0) or "interval" in what


@pytest.mark.parametrize("mode", shortly(["model", "hard"]))
def test_kept_frames_cost_a_step_nothing(pipeline: Pipeline, mode: str) -> None:
    keep = (torch.arange(30) < 10).float()[None, None]
    assert set(costs(pipeline, sampler="euler", keep=keep, keep_mode=mode)) == {(0, 0)}


@pytest.mark.parametrize(
    "kind", shortly(["lora", "dora-rows", "bora", "lora-xs", "bora-xs"], "dora-rows")
)
def test_a_lora_with_an_interval_costs_nothing_while_its_set_stays(
    placed, kind: str, tmp_path: Path
) -> None:
    variant, pipeline = placed
    file = tmp_path / f"{kind}.safetensors"  # what an -XS form computes is kept beside its file
    shutil.copy(golden_path(f"{variant}/adapter_{kind}"), file)
    use = AdapterUse(file, 0.7, interval=(0.0, 0.9))  # from the second step on
    uses = load_adapters(tiny_checkpoint(variant), [use])
    with card(), AdapterSwitch(pipeline.model, uses) as switch:
        found = costs(pipeline, switch, sampler="euler", shift="none")
    assert found[-1] == (0, 0)
    assert found[0][0] == 0


@pytest.mark.soak
def test_a_lora_that_acts_on_some_items_only_waits_for_nothing(placed) -> None:
    variant, pipeline = placed
    use = AdapterUse(golden_path(f"{variant}/adapter_lora"), 0.7, interval=(0.0, 0.95))
    uses = load_adapters(tiny_checkpoint(variant), [use])
    with card(), AdapterSwitch(pipeline.model, uses) as switch:
        found = costs(pipeline, switch, sampler="euler", seconds=(1.0, 2.0), cfg=3.0)
    assert {waits for waits, _ in found} == {0}


WAVE = torch.randn(2, 44100, generator=torch.Generator().manual_seed(0)) * 0.1
TWO = SampleSettings(steps=2)
MODES: dict[str, Callable[[], GenerateRequest]] = {
    "text": lambda: GenerateRequest(["a", "b"], seconds=[0.5, 1.0], settings=TWO),
    "negative": lambda: GenerateRequest(
        ["a"], ["x"], [1.0], SampleSettings(steps=2, cfg=3.0), variation=(5, 0.3)
    ),
    "audio": lambda: GenerateRequest(
        ["a"], settings=SampleSettings(steps=2, noise_level=0.5), edit=AudioToAudio(WAVE, 44100)
    ),
    "inpaint": lambda: GenerateRequest(["a"], settings=TWO, edit=Inpaint(WAVE, 44100, ["0.3-0.6"])),
    "continue": lambda: GenerateRequest(["a"], settings=TWO, edit=Continuation(WAVE, 48000, 0.5)),
    "loop": lambda: GenerateRequest(["a"], settings=TWO, edit=Loop(WAVE, 44100)),
}
# Waits and copies by what is done. SAME-L asks for its layers' frequencies, once for each piece of
# work, and sends its rotary table and its window's mask.
COST = {
    "tiny-s": {
        **{"text": (6, 19), "negative": (7, 20), "audio": (5, 15), "inpaint": (5, 16)},
        **{"continue": (5, 16), "loop": (5, 16), "extend": (9, 26)},
        **{("encode", None): (1, 1), ("encode", 4): (1, 3)},
        **{("decode", None): (1, 1), ("decode", 4): (3, 1)},
    },
    "tiny-m": {
        **{"text": (8, 23), "negative": (9, 24), "audio": (7, 20), "inpaint": (7, 21)},
        **{"continue": (7, 21), "loop": (7, 21), "extend": (13, 38)},
        **{("encode", None): (2, 4), ("encode", 4): (4, 12)},
        **{("decode", None): (2, 4), ("decode", 4): (6, 10)},
    },
}


@pytest.mark.parametrize("mode", shortly([*MODES], "inpaint"))
def test_a_whole_run(placed, mode: str) -> None:
    (variant, pipeline), request = placed, MODES[mode]()
    with card() as there:
        made = generate(pipeline, request, chunk=8 if mode == "negative" else None, noise_seed=1)
    assert all(take.audio.device.type == "cpu" for take in made.takes)
    check_cost(there, COST[variant][mode])


def check_cost(there: Card, most: tuple[int, int]) -> None:
    assert there.operations > 10
    waits, copies = there.cost
    assert waits <= most[0], there.waits
    assert copies <= most[1], there.copies


@pytest.mark.soak
def test_an_extension(placed) -> None:
    (variant, pipeline), request = placed, GenerateRequest(["a"], settings=TWO)
    with card() as there:
        extend(
            pipeline, request, (WAVE, 44100), Extension(1.0, context=0.5, overlap=0.2, longest=1.2)
        )
    check_cost(there, COST[variant]["extend"])


@pytest.mark.parametrize("chunk", shortly([None, 4], 4))
def test_the_codec(placed, chunk: int | None) -> None:
    variant, pipeline = placed
    with card() as there:
        latents = encode(pipeline.autoencoder, WAVE[None], chunk)
    assert latents.shape == (1, 256, 11)
    check_cost(there, COST[variant]["encode", chunk])
    with card() as there:
        decode(pipeline.autoencoder, Latents(latents, (1.0,)), chunk)
    check_cost(there, COST[variant]["decode", chunk])


def test_the_text_encoder_asks_once(pipeline: Pipeline) -> None:
    with card() as there:
        text = pipeline.text.encode_ids([[5, 6, 7], [], [9]])
    assert text.tokens.is_cuda
    assert text.tokens.shape == (3, 3, 768)
    check_cost(there, (1, 3))


def test_the_text_encoder_may_lie_elsewhere() -> None:
    """As under a host that is short of memory: each weight is sent when its layer runs."""
    text = load_pipeline(tiny_checkpoint("tiny-s")).text
    text.device = torch.device("cuda")
    with card() as there:
        made = text.encode_ids([[5, 6, 7], [9]])
    assert made.tokens.is_cuda
    assert there.waits.total() == 1, there.waits
    layers = sum(".layers." in name for name, _ in text.named_parameters())
    sent = sum("layers.py" in where for where in there.copies.elements())
    assert sent == layers + 2  # the last norm and the table's rows


@pytest.mark.parametrize("recompute", shortly([False, True], True))
@pytest.mark.parametrize("dtype", shortly(["fp32", "bf16"], "bf16"))
@pytest.mark.parametrize("kind", shortly(["lora", "bora", "lora-xs"], "bora"))
def test_a_training_step(kind: str, dtype: str, recompute: bool) -> None:
    model = load_model(tiny_checkpoint("tiny-s"))
    move(model.dit, DTYPES[dtype], LEARNING_CARD)
    move(model.conditioner, None, LEARNING_CARD)
    model = replace(model, device=LEARNING_CARD, dtype=DTYPES[dtype])
    text = TextConditioning(torch.zeros(2, 5, 768), torch.ones(2, 5, dtype=torch.bool))
    draws = [draw_item(DrawSettings(), 7, valid, 20) for valid in (20, 12)]
    with card(LEARNING_CARD) as there:
        adapter = TrainedAdapter(model, AdapterSettings(kind, 4))
        there.waits.clear(), there.copies.clear()
        inputs = assemble(torch.zeros(2, 256, 20), [1.8, 1.0], text, draws, FullShift())
        placed = inputs.to(LEARNING_CARD)
        with adapter.attached():
            adapter.begin_step(seed=1)
            score(predict(model, placed, recompute), placed).total.backward()
    gradients = [parameter.grad for parameter in adapter.parameters()]
    assert all(g is not None and g.device.type == "meta" for g in gradients)
    check_cost(there, (0, 9))  # the batch
