"""The work of each question of `bench card`: `python -m ... QUESTIONS` answers a list of them."""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from sa3_core.adapters.changes import WeightChange
from sa3_core.adapters.rules import AdapterWeight, LowRank
from sa3_core.adapters.switch import AdapterSwitch, BuiltUse
from sa3_core.adapters.use import AdapterUse
from sa3_core.checkpoints.load import load_autoencoder, load_model
from sa3_core.files.published import DIT_PREFIX
from sa3_core.networks import integer, quantised
from sa3_core.networks.integer import integer_linear, multiplies_integers
from sa3_core.networks.model import SA3Model
from sa3_core.networks.quantised import quantise
from sa3_core.pipeline import GenerateRequest, generate, load_pipeline
from sa3_core.sampling.noise import Seeds
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from sa3_core.text.encoder import load_t5gemma
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from tests.benchmarks.cases.card_plan import Question
from tests.benchmarks.cases.int8 import SHAPES
from tests.benchmarks.cases.jobs import Job, implementation_job
from tests.benchmarks.cases.train import (
    MEDIUM,
    QUICK,
    SMALL,
    inputs_of,
    measured,
    model_of,
    step_of,
)
from tests.benchmarks.checkpoints import checkpoint
from tests.benchmarks.measuring import machine
from tests.benchmarks.measuring.work import UnableError
from tests.benchmarks.report import size
from tests.helpers.support import kept_frames, load_golden, rel_l2, tiny_checkpoint

ROUNDS = 3
# Of so little work threads make none faster; on a busy machine they wait for each other.
TOYS = ("tiny-s", "tiny-m", "quick")
PROMPT = "warm analog synth pad slow attack lush reverb 120 BPM"
# Relative L2 that half precision may differ by; float32 is held to what the tests hold it to.
NEAR = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1}
TOY_SHAPES = ((64, 96), (96, 64))
LAYER_ROWS = {True: 77, False: 1356}  # of toys and of 120 s
WIDENED = "int8 is widened here"


def timed(question: Question, run: Callable[[], Any]) -> dict[str, Any]:
    """Median seconds of a few runs after a first one, and the highest memory meanwhile."""
    run()
    gc.collect()
    before, seconds = _memory_before(question.device), []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        _wait(question.device)
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "memory": _memory_peak(question.device, before)}


def _memory_before(device: str) -> float | None:
    """Forget earlier peaks; the bytes that a later one is told without, None = unknown."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return 0.0
    if device == "mps":
        torch.mps.empty_cache()
        return 0.0
    machine.give_back_free_memory()
    machine.reset_peak()
    return machine.resident()


def _memory_peak(device: str, before: float | None) -> float | None:
    """On a card with the weights, on a CPU without what the process held before."""
    if device == "cuda":
        return float(torch.cuda.max_memory_allocated())
    if device == "mps":  # tells no peak; but what torch once took it keeps
        return float(torch.mps.driver_allocated_memory())
    peak = machine.peak_resident()
    return None if peak is None or before is None else max(0.0, peak - before)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def parity(question: Question) -> dict[str, Any]:
    """A stage on the card against what the reference computed."""
    folder, stage = tiny_checkpoint(question.variant), question.form
    limit = NEAR[question.precision]
    if stage == "text":
        golden = load_golden("t5gemma")
        text = load_t5gemma(folder / "t5gemma-b-b-ul2", question.dtype, question.device)
        made = text.encode(golden.settings["prompts"]).to("cpu")
        pairs = [(made.tokens[i][made.mask[i]], golden[f"tokens.{i}"]) for i in range(made.batch)]
    elif stage in ("encode", "decode"):
        golden = load_golden(f"{question.variant}/same")
        same = load_autoencoder(folder, question.dtype, question.device)
        place = {"device": question.device, "dtype": question.dtype}
        if stage == "encode":
            made = same.encode(golden["input_audio"][None].to(**place)).cpu()
            pairs = [(made, golden["latents_encoded"])]
        else:
            made = same.decode(golden["latents"].to(**place)).cpu()
            pairs = [(kept_frames(made, golden), golden["audio"])]
    else:
        golden = load_golden(f"{question.variant}/{stage}")
        pipeline = load_pipeline(folder, dtype=question.dtype, device=question.device)
        settings, negatives = SampleSettings(steps=4), []
        if stage == "cfg":
            settings = SampleSettings(steps=4, sampler="euler", cfg=6.0)
            negatives = ["low quality noise distorted"]
        request = GenerateRequest([PROMPT], negatives, [1.5], settings, [1234])
        valid = golden.settings["valid"][0]
        made = generate(pipeline, request).latents.frames[0, :, :valid]
        pairs = [(made, golden["latents.0"])]
    return {"difference": max(rel_l2(a, b) for a, b in pairs), "limit": limit}


def _sampled(model: SA3Model, seconds: float, switch: Any = None, steps: int = 8) -> Tensor:
    tokens = torch.randn(1, 10, 768, generator=torch.Generator().manual_seed(1))
    text = TextConditioning(tokens, torch.ones(1, 10, dtype=torch.bool))
    frames = min(model.max_frames, round(seconds * 44100 / 4096) + 66)
    start = StartLatent(torch.zeros(1, 256, frames), (seconds,))
    settings = SampleSettings(steps=steps)
    return sample_latent(model, start, settings, text, None, Seeds(1), switch=switch)


def forms(question: Question) -> dict[str, Any]:
    """A form of the same generation against the plain one."""
    from tests.benchmarks.peers import ours

    folder = str(tiny_checkpoint(question.variant))
    job = Job(
        "generation", folder, question.precision, question.seconds_of_audio, device=question.device
    )
    plain = ours.prepare(job).run()
    _, other = implementation_job(question.form, job)
    made = ours.prepare(other).run()
    return {"difference": rel_l2(made, plain), "limit": NEAR[question.precision]}


def job(question: Question) -> dict[str, Any]:
    """A generation or a decoding by ours or a peer."""
    from tests.benchmarks.measuring.worker import IMPLEMENTATIONS

    part, _, form = question.form.partition("/")
    folder = checkpoint(question.variant)
    whole = Job(
        part,
        str(folder),
        question.precision,
        question.seconds_of_audio,
        chunk=question.chunk,
        device=question.device,
    )
    name, own = implementation_job(form, whole)
    return timed(question, IMPLEMENTATIONS[name](own).run)


def _loaded(question: Question, storage: str | None = None) -> SA3Model:
    folder = checkpoint(question.variant)
    dtype = None if storage else question.dtype
    return load_model(folder, dtype=dtype, device=question.device, storage=storage)


def lora(question: Question) -> dict[str, Any]:
    """A generation with a LoRA on every block's feed-forward, or with none."""
    model = _loaded(question)
    weights: dict[str, WeightChange] = {}
    for path, weight in model.dit.named_parameters():
        if question.form != "none" and path.endswith("ff.ff.2.weight"):
            out, width = weight.shape
            factor = LowRank(torch.randn(16, width) * 0.01, torch.randn(out, 16) * 0.01)
            gains = (torch.ones(out),) if question.form == "dora-rows" else ()
            weights[DIT_PREFIX + path] = AdapterWeight(factor, question.form, gains, 1.0)
    uses: list[BuiltUse] = [AdapterUse(weights, 0.5, interval=(0.2, 1.0))] if weights else []
    with AdapterSwitch(model, uses) as switch:
        run = lambda: _sampled(model, question.seconds_of_audio, switch if uses else None)  # noqa: E731
        return timed(question, run)


def storage(question: Question) -> dict[str, Any]:
    """A generation with the blocks' matrices in 8 bits, and how far from the unquantised one."""
    plain = _sampled(_loaded(replace(question, precision="fp32")), question.seconds_of_audio)
    narrow = _loaded(question, question.form)
    made = _sampled(narrow, question.seconds_of_audio)
    found = timed(question, lambda: _sampled(narrow, question.seconds_of_audio))
    return {**found, "difference": rel_l2(made, plain)}


@contextmanager
def _whole_numbers(device: str) -> Iterator[bool]:
    """On a CPU int8 is multiplied as it lies whether that is fast or not; whether it is here."""
    with (
        patch.object(integer, "IN_INTEGERS", True),
        patch.object(integer, "BFLOAT16_IS_FASTER", False),
    ):
        yield multiplies_integers(torch.zeros(1, device=device))


def product(question: Question) -> dict[str, Any]:
    """Layers whose inputs need no rounding, so that only the sums' own dtype is left."""
    toy, worst = question.variant in TOYS, 0.0
    layer = _hosts_layer() if question.form == "comfy_kitchen" else integer_linear
    with _whole_numbers(question.device) as able:
        if not able:
            return {"remark": WIDENED}
        for inner, outer in TOY_SHAPES if toy else SHAPES:
            x = torch.randint(-127, 128, (LAYER_ROWS[toy], inner))
            x[:, 0] = 127  # of every row: its step is one
            weight, scale = quantise(torch.randn(outer, inner), "int8")
            bias = torch.randn(outer).to(question.dtype)
            there = (tensor.to(question.device) for tensor in (weight, scale, bias))
            made = layer(x.to(question.device, question.dtype), *there)
            if made is None:
                return {"remark": "comfy_kitchen has no kernel for this here"}
            exact = x.double() @ (weight.double() * scale.double()).T + bias.double()
            worst = max(worst, rel_l2(made.double().cpu(), exact))
    return {"difference": worst, "limit": 4 * torch.finfo(question.dtype).eps}


def _hosts_layer() -> Callable[..., Tensor | None]:
    """As nodes multiply where comfy_kitchen has a kernel, None where it has none."""
    import tempfile

    from tests.benchmarks.cases import quality

    with tempfile.TemporaryDirectory() as base:
        quality._start_host(base, torch.cuda.is_available())
        return quality._part("nodes.bridge.sockets.quantised").fused_product


def integers(question: Question) -> dict[str, Any]:
    """A generation in int8 by whole numbers, held against one by widened weights."""
    model = _loaded(question, "int8")
    run = lambda: _sampled(model, question.seconds_of_audio)  # noqa: E731
    with patch.object(quantised, "integers_pay", lambda x, weight: False):
        plain, widened = run(), timed(question, run)
    with _whole_numbers(question.device) as able:
        if not able:
            return {**widened, "remark": WIDENED}
        made, found = run(), timed(question, run)
    difference = rel_l2(made, plain)
    apart = -20 * math.log10(difference) if difference else math.inf
    remark = f"widened {widened['seconds']:.3g} s, {size(widened['memory'])}; {apart:.1f} dB apart"
    return {**found, "difference": difference, "limit": NEAR["bf16"], "remark": remark}


def training(question: Question) -> dict[str, Any]:
    """A training step with recomputed blocks."""
    device = torch.device(question.device)
    config = {"quick": QUICK, "small": SMALL, "medium": MEDIUM}[question.variant]
    model, inputs = model_of(config, device), inputs_of(question.seconds_of_audio, device)
    adapter = TrainedAdapter(model, AdapterSettings(question.form, 16))
    with adapter.attached():
        step = step_of(model, inputs, adapter.parameters(), adapter.begin_step, recompute=True)
        found = measured(step, device, ROUNDS)
    return {"seconds": found.seconds, "memory": found.peak}


def loading(question: Question) -> dict[str, Any]:
    """From the file to a model on the card."""
    return timed(question, lambda: _loaded(question))


def limits(question: Question) -> dict[str, Any]:
    """ComfyUI's own partial loading, with room for a share of the weights, against all of them."""
    import tempfile

    from tests.benchmarks.cases import quality

    folder = checkpoint(question.variant)
    with tempfile.TemporaryDirectory() as base:
        quality._start_host(base, question.device != "cpu")
        host, prompt = quality._part("nodes.bridge.sockets.model"), None
        tokens = torch.randn(1, 10, 768, generator=torch.Generator().manual_seed(1))
        text = quality._part("sa3_core.text.conditioning").TextConditioning
        prompt = text(tokens, torch.ones(1, 10, dtype=torch.bool))
        patcher = host.load_patcher(str(folder), folder.name, question.precision, "auto")
        total = patcher.model_size()

        def run(share: float) -> Tensor:
            patcher.unpatch_model(patcher.offload_device)
            patcher.partially_load(patcher.load_device, int(share * total) or 1)
            model = host.core_model(patcher, patcher.model)
            return quality._sample(model, prompt, 0)[0]

        whole, share = run(1.0), float(question.form)
        made = run(share)
        found = timed(question, lambda: run(share))
        patcher.detach()
    return {**found, "difference": rel_l2(made, whole), "limit": NEAR[question.precision]}


QUESTIONS: dict[str, Callable[[Question], dict[str, Any]]] = {
    **{"parity": parity, "forms": forms, "job": job, "lora": lora, "storage": storage},
    **{"product": product, "integers": integers},
    **{"training": training, "loading": loading, "limits": limits},
}


def main() -> None:
    """Answer the questions given as JSON, a line each."""
    for given in json.loads(sys.argv[1]):
        print(json.dumps(_answer(Question(**given))), flush=True)


def _answer(question: Question) -> dict[str, Any]:
    if question.device == "cpu" and question.variant in TOYS:
        torch.set_num_threads(1)
    torch.manual_seed(0)
    mode = torch.enable_grad() if question.work == "training" else torch.inference_mode()
    try:
        with mode:
            return QUESTIONS[question.work](question)
    except UnableError as reason:
        return {"failed": True, "remark": str(reason)}


if __name__ == "__main__":
    main()
