"""Which models are on disk and how much their downloads are, for the loaders in the page."""

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web

from ....sa3_core.checkpoints.library import Kind, Library
from ....sa3_core.checkpoints.variants import VARIANTS, Variant
from ..host.folders import library
from ..work.loading import WITH_MODEL

MODELS_ROUTE = "/sa3/models"

# Parameters of the published weights; the repositories hold them as float32, the mirror as bf16.
_NETS = {"same-s": 459_130_896, "same-l": 1_453_170_192}  # DiT, by the autoencoder it goes with
_AUTOENCODERS = {"same-s": 108_244_721, "same-l": 852_127_457}
_TEXT_ENCODER = 281_579_520
_BYTES = {"upstream": 4, "mirror": 2}


async def answer_models(request: web.Request) -> web.Response:
    """Takes no parameters, so there is no path to check; headers are read off the event loop."""
    return web.json_response(await asyncio.to_thread(model_states))


def model_states() -> dict[str, Any]:
    """Every name of the loaders' combos: on disk, or how much its download is.

    Returns:
        `models` and `autoencoders` by name, each {"bytes": on disk} or {"repo", "download": bytes
        by source}; `text_encoders`: names found; `with_model`: the choice that takes the model's.
    """
    here = library()
    return {
        "models": _states(here, here.known_models(), "model"),
        "autoencoders": _states(here, here.known_autoencoders(), "autoencoder"),
        "text_encoders": here.text_encoders(),
        "with_model": WITH_MODEL,
    }


def _states(here: Library, names: list[str], kind: Kind) -> dict[str, dict[str, Any]]:
    found = set(here.models() if kind == "model" else here.autoencoders())
    return {
        name: {"bytes": _size(here.resolve(name, kind))}
        if name in found
        else {"repo": VARIANTS[name].repo, "download": _download_sizes(VARIANTS[name])}
        for name in names
    }


def _size(path: Path) -> int:
    """Bytes of a model file, or of all weights in a model folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*.safetensors"))


def _download_sizes(variant: Variant) -> dict[str, int]:
    parameters = _AUTOENCODERS[variant.autoencoder]
    if variant.generative:
        parameters += _NETS[variant.autoencoder] + _TEXT_ENCODER
    return {source: parameters * size for source, size in _BYTES.items()}
