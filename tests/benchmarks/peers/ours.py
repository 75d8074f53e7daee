"""This pack's implementation, through its public functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sa3_core.checkpoints.library import Library
from sa3_core.checkpoints.load import load_autoencoder, load_model
from sa3_core.codec.chunking import decode_chunked, encode_chunked
from sa3_core.networks import attention
from sa3_core.networks.model import SA3Model
from sa3_core.networks.same import SAMEAutoencoder
from sa3_core.pipeline import GenerateRequest, Pipeline, generate
from sa3_core.sampling.sample import sample_latent
from sa3_core.sampling.settings import SampleSettings
from sa3_core.sampling.start import StartLatent
from sa3_core.text.conditioning import TextConditioning
from sa3_core.text.encoder import T5Gemma, load_t5gemma
from tests.benchmarks.cases.jobs import (
    Job,
    audio_input,
    generation_inputs,
    latent_input,
    prompt_ids,
)
from tests.benchmarks.measuring.work import Work, weights_of

PROMPT = "warm analog synth pad, slow attack"


@functools.lru_cache(maxsize=1)
def _model(folder: Path, dtype: torch.dtype, device: str, mode: str) -> SA3Model:
    model = load_model(folder, dtype=dtype, device=device)
    return model if mode == "eager" else _compiled(model, mode)


@functools.lru_cache(maxsize=1)
def _autoencoder(folder: Path, dtype: torch.dtype, device: str) -> SAMEAutoencoder:
    return load_autoencoder(folder, dtype, device)


@functools.lru_cache(maxsize=1)
def _text(folder: Path, dtype: torch.dtype, device: str) -> T5Gemma:
    return load_t5gemma(Library({}).text_encoder_for(folder), dtype, device)


@functools.lru_cache(maxsize=1)
def _pipeline(folder: Path, dtype: torch.dtype, device: str) -> Pipeline:
    """As `auto` loads it on a CPU: text encoder and autoencoder in float32, the DiT in `dtype`."""
    text, same = (load(folder, torch.float32, device) for load in (_text, _autoencoder))
    return Pipeline(_model(folder, dtype, device, "eager"), text, same)


def _compiled(model: SA3Model, mode: str) -> SA3Model:
    """The model compiled; without a card only as far as tracing goes."""
    from sa3_core.networks.compiled import COMPILERS, compile_dit

    settings = {
        "compile": {"backend": "inductor"},
        "compile + graph": COMPILERS["inductor"],
        "graph": COMPILERS["cudagraphs"],
    }[mode]
    if model.device.type == "cpu":
        settings = {"backend": "eager"}
    return replace(model, compiled=compile_dit(model.dit, model.max_frames, settings))


def _generation(job: Job) -> Work:
    if not job.flash:
        attention.flash_usable = lambda q: False
    model = _model(job.path, job.torch_dtype, job.device, job.mode)
    inputs = generation_inputs(job)
    text = TextConditioning(inputs.tokens, torch.ones(inputs.tokens.shape[:2], dtype=torch.bool))
    start = StartLatent(torch.zeros_like(inputs.noise[0]), (job.seconds,))
    settings = SampleSettings(steps=job.steps)

    def run() -> Tensor:
        noise = iter(inputs.noise)
        out = sample_latent(model, start, settings, text, None, lambda: next(noise))
        return out[..., : inputs.valid]

    return Work(run, weights_of(model.dit))


def _decode(job: Job) -> Work:
    net = _autoencoder(job.path, job.torch_dtype, job.device)
    latent = latent_input(job).to(job.device, job.torch_dtype)
    run = functools.partial(decode_chunked, net, latent, job.chunk, out_device="cpu")
    return Work(run, weights_of(net))


def _encode(job: Job) -> Work:
    net = _autoencoder(job.path, job.torch_dtype, job.device)
    audio, place = audio_input(job), {"device": job.device, "dtype": job.torch_dtype}
    return Work(lambda: encode_chunked(net, audio, job.chunk, **place).cpu(), weights_of(net))


def _text_encoder(job: Job) -> Work:
    net, ids = _text(job.path, job.torch_dtype, job.device), prompt_ids(job)
    return Work(lambda: net.encode_ids([ids]).tokens.cpu(), weights_of(net.encoder))


def _whole(job: Job) -> Work:
    pipeline = _pipeline(job.path, job.torch_dtype, job.device)
    request = GenerateRequest([PROMPT], (), [job.seconds], SampleSettings(steps=job.steps))

    def weights() -> Iterator[Tensor]:
        for net in (pipeline.model.dit, pipeline.text.encoder, pipeline.autoencoder):
            yield from weights_of(net)()

    return Work(lambda: generate(pipeline, request).takes[0].audio, weights)


_PARTS: dict[str, Callable[[Job], Work]] = {
    "generation": _generation,
    "decode": _decode,
    "encode": _encode,
    "text": _text_encoder,
    "pipeline": _whole,
}


def prepare(job: Job) -> Work:
    """Load what the job needs (once) and make its inputs."""
    return _PARTS[job.part](job)
