"""transformers' T5Gemma on a prompt padded to 256 tokens, as the published pipeline runs it."""

from __future__ import annotations

import torch
from torch import Tensor

from sa3_core.checkpoints.library import Library
from sa3_core.text.conditioning import TEXT_TOKENS
from sa3_core.text.encoder import load_t5gemma
from tests.benchmarks.cases.jobs import Job, prompt_ids
from tests.benchmarks.measuring.work import UnableError, Work, weights_of


def prepare(job: Job) -> Work:
    """Load the encoder and pad the prompt."""
    if job.part != "text":
        raise UnableError("only the text encoder")
    encoder = load_t5gemma(
        Library({}).text_encoder_for(job.path), job.torch_dtype, job.device
    ).encoder
    real = prompt_ids(job)
    ids = torch.zeros(1, TEXT_TOKENS, dtype=torch.long, device=job.device)
    ids[0, : len(real)] = torch.tensor(real)
    mask = torch.arange(TEXT_TOKENS, device=job.device)[None] < len(real)

    def run() -> Tensor:
        hidden = encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return hidden[:, : len(real)].float().cpu()

    return Work(run, weights_of(encoder))
