"""Graphs in API format that several server tests build on."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from tests.helpers.client import ComfyClient, Graph, Run, node

SECONDS = 3.0
FRAMES_WITH_HEADROOM = 98  # of SECONDS, aligned
PROMPT, NEGATIVE = "warm analog synth pad", "low quality noise"


def base_graph(model: str = "tiny-s", seconds: float = SECONDS, **latent: Any) -> Graph:
    """Loader `m`, prompt `p`, negative `n` and empty latent `l`."""
    return {
        "m": node("SA3LoadModel", model=model, precision="fp32"),
        "p": node("SA3TextEncode", clip=["m", 1], text=PROMPT),
        "n": node("SA3TextEncode", clip=["m", 1], text=NEGATIVE),
        "l": node("SA3EmptyLatent", seconds=seconds, **latent),
    }


def sampler(**changes: Any) -> dict[str, Any]:
    """SA3 Sampler on the nodes of `base_graph`."""
    inputs = {"model": ["m", 0], "positive": ["p", 0], "latent": ["l", 0], "seed": 7, **changes}
    return node("SA3Sampler", **inputs)


def saved(latent: str, name: str = "t", **decode: Any) -> Graph:
    """Decode `latent` with our decoder as `<name>d` and save it exactly as `<name>s`."""
    return {
        f"{name}d": node("SA3SAMEDecode", latent=[latent, 0], vae=["m", 2], **decode),
        f"{name}s": save_node(f"{name}d", name),
    }


def save_node(audio: str, name: str = "t") -> dict[str, Any]:
    """Save an AUDIO node's output as 32-bit float WAV."""
    return node("SA3SaveAudio", audio=[audio, 0], filename_prefix=f"t/{name}", format="wav-32f")


def read(client: ComfyClient, run: Run, node_id: str, index: int = 0) -> Tensor:
    """Samples [A, N] of a file that a run saved."""
    data = client.view(run.outputs[node_id]["audio"][index])
    with av.open(BytesIO(data)) as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
        layout = container.streams.audio[0].layout.nb_channels
    joined = np.concatenate(parts, axis=1)
    if joined.shape[0] == 1:
        joined = joined.reshape(-1, layout).T
    return torch.from_numpy(joined.copy())


def results(client: ComfyClient, graph: Graph, *nodes: str, timeout: float = 120) -> list[Tensor]:
    """Run a graph and return the first file of each save node.

    Raises:
        AssertionError: the run did not succeed.
    """
    run = client.run(graph, timeout=timeout)
    assert run.status == "success", run.error.get("exception_message", run.error)
    return [read(client, run, node_id) for node_id in nodes]


def failure(client: ComfyClient, graph: Graph) -> str:
    """Message of a run that must fail."""
    run = client.run(graph)
    assert run.status == "error", run.status
    return run.error["exception_message"]
