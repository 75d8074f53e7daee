"""Which models are on disk and how much their downloads are, for the loaders in the page."""

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web
from huggingface_hub import get_token

from ....sa3_core.checkpoints.bundled import stored_file
from ....sa3_core.checkpoints.library import Kind, Library
from ....sa3_core.checkpoints.variants import VARIANTS, Variant
from ....sa3_core.files.published import DTYPES, MIRROR_REPO, OWN_FOLDER, SOURCE_DTYPES, Source
from ..host.folders import library
from ..work.loading import WITH_MODEL

MODELS_ROUTE = "/sa3/models"
HUB_URL = "https://huggingface.co"

# Parameters of the published weights; the repositories hold them as float32, the mirror as bf16.
_NETS = {"same-s": 459_130_896, "same-l": 1_453_170_192}  # DiT, by the autoencoder it goes with
_AUTOENCODERS = {"same-s": 108_244_721, "same-l": 852_127_457}
_TEXT_ENCODER = 281_579_520


async def answer_models(request: web.Request) -> web.Response:
    """Takes no parameters, so there is no path to check; headers are read off the event loop."""
    return web.json_response(await asyncio.to_thread(model_states))


def model_states() -> dict[str, Any]:
    """Every name of the loaders' combos: on disk, or how much its download is.

    Returns:
        `models` and `autoencoders` by name, each {"bytes": on disk}, {"bundled": True, "bytes": as
        it is stored}, or {"repo", "download": bytes by source, "sources": what is known of each,
        "preferred": the smallest source that is open to this user, "folder": where its files go};
        `text_encoders`: names found;
        `with_model`: the choice that takes the model's; `logged_in`: whether downloads carry a
        token.
    """
    here = library()
    return {
        "models": _states(here, here.known_models(), "model"),
        "autoencoders": _states(here, here.known_autoencoders(), "autoencoder"),
        "text_encoders": here.text_encoders(),
        "with_model": WITH_MODEL,
        "logged_in": _logged_in(),
    }


def _logged_in() -> bool:
    """Whether huggingface_hub keeps a token; nobody is asked whether it is good for anything."""
    return get_token() is not None


def _states(here: Library, names: list[str], kind: Kind) -> dict[str, dict[str, Any]]:
    found = set(here.models() if kind == "model" else here.autoencoders())
    return {name: _state(here, name, kind, name in found) for name in names}


def _state(here: Library, name: str, kind: Kind, is_found: bool) -> dict[str, Any]:
    if is_found:
        return {"bytes": _size(here.resolve(name, kind))}
    if name in VARIANTS:
        return {**_to_download(VARIANTS[name]), "folder": f"models/{OWN_FOLDER}/{name}"}
    brought = stored_file()  # comes with the program: nothing to download
    return {"bundled": True, "bytes": 0 if brought is None else _size(brought)}


def _size(path: Path) -> int:
    """Bytes of a model file, or of all weights in a model folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*.safetensors"))


def _to_download(variant: Variant) -> dict[str, Any]:
    """What is known of a download before it starts."""
    parameters = _AUTOENCODERS[variant.autoencoder]
    if variant.generative:
        parameters += _NETS[variant.autoencoder] + _TEXT_ENCODER
    repos = {"upstream": variant.repo, "mirror": MIRROR_REPO}
    pages = {"upstream": variant.repo, "mirror": f"{MIRROR_REPO}/tree/main/{variant.name}"}
    sources: dict[Source, dict[str, Any]] = {
        source: {
            "repo": repos[source],
            "url": f"{HUB_URL}/{pages[source]}",
            "bytes": parameters * DTYPES[dtype].itemsize,
            "precision": dtype,
            "gated": variant.gated and source == "upstream",
        }
        for source, dtype in SOURCE_DTYPES.items()
    }
    return {
        "repo": variant.repo,
        "download": {source: known["bytes"] for source, known in sources.items()},
        "sources": sources,
        "preferred": _preferred(sources),
    }


def _preferred(sources: dict[Source, dict[str, Any]]) -> Source:
    """The smallest source among those that nobody has to log in for, else among all."""
    is_open = _logged_in()
    return min(
        sources,
        key=lambda name: (sources[name]["gated"] and not is_open, sources[name]["bytes"]),
    )
