"""What the loader nodes do: find, download and load models, and say what was found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....sa3_core.checkpoints.download import download_variant
from ....sa3_core.checkpoints.library import Kind, Library
from ....sa3_core.checkpoints.variants import VARIANTS
from ....sa3_core.errors import InputError, SA3Error
from ....sa3_core.files.published import Source
from ....sa3_core.networks.model import max_seconds
from ....sa3_core.networks.quantised import STORAGES
from ....sa3_core.registry import AUTO
from ..host.folders import library, states_mark
from ..host.running import chunk_reporter, show
from ..sockets.clip import SA3CLIP, load_clip
from ..sockets.model import SA3BaseModel, load_patcher
from ..sockets.vae import SA3VAE, load_vae

WITH_MODEL = "with the model"  # the loaders' choice of a text encoder or autoencoder


@dataclass(frozen=True)
class ModelChoice:
    """Settings of Load SA3 Model; None = with the model."""

    model: str
    text_encoder: str | None = None
    autoencoder: str | None = None
    precision: str = AUTO
    objective: str = AUTO


def model_names() -> list[str]:
    """Models found, then published variants that are not there yet."""
    return library().known_models()


def text_encoder_names() -> list[str]:
    """T5Gemma folders and files found."""
    return library().text_encoders()


def autoencoder_names(published: bool = False) -> list[str]:
    """SAME files, folders and full models found; with `published` also what can be downloaded."""
    here = library()
    return here.known_autoencoders() if published else here.autoencoders()


def fingerprint(name: str, kind: Kind) -> str:
    """Changes with every file that is read for a model; the name alone while it is not there."""
    here = library()
    try:
        return states_mark(here.files_of(here.resolve(name, kind), kind))
    except InputError:
        return name


def model_fingerprint(model: str, text_encoder: str | None, autoencoder: str | None) -> str:
    """The same of all that Load SA3 Model reads; None = with the model."""
    here = library()
    try:
        path = here.resolve(model, "model")
        files = here.files_of(path, "model")
        encoder, same = _beside(here, path, text_encoder, autoencoder)
    except InputError:
        return f"{model}, {text_encoder}, {autoencoder}"
    except SA3Error:  # one part is missing or damaged: loading says so, and again when it is not
        return states_mark(files)
    files += here.files_of(encoder, "text_encoder") + here.files_of(same, "autoencoder")
    return states_mark(files)


def _beside(
    here: Library, model: Path, text_encoder: str | None, autoencoder: str | None
) -> tuple[Path, Path]:
    """Text encoder and autoencoder of a choice; None = with the model."""
    encoder = (
        here.text_encoder_for(model)
        if text_encoder is None
        else here.resolve(text_encoder, "text_encoder")
    )
    same = (
        here.autoencoder_for(model)
        if autoencoder is None
        else here.resolve(autoencoder, "autoencoder")
    )
    return encoder, same


def ensure_downloaded(node: Any, name: str, source: Source) -> list[str]:
    """Download a published variant that is not there; return what to show."""
    here = library()
    if name not in VARIANTS or name in here.models() or name in here.autoencoders():
        return []
    show(node, [f"{name} is not there yet: downloading..."])
    path = download_variant(name, here.download_root, source, chunk_reporter())
    return [f"downloaded to {path}"]


def load_all(choice: ModelChoice) -> tuple[Any, SA3CLIP, SA3VAE]:
    """MODEL, CLIP and VAE of a choice.

    Raises:
        InputError: a name that is not found.
        CheckpointError, ConfigError: a file that does not fit.
    """
    here = library()
    path = here.resolve(choice.model, "model")
    text_encoder, same = _beside(here, path, choice.text_encoder, choice.autoencoder)
    patcher = load_patcher(str(path), choice.model, choice.precision, choice.objective)
    # Half precision is about the model's size; the text encoder runs once and chooses for itself.
    clip = load_clip(str(text_encoder), "fp32" if choice.precision == "fp32" else AUTO)
    quantised = choice.precision in STORAGES  # for the transformer alone
    return patcher, clip, load_vae(str(same), AUTO if quantised else choice.precision)


def load_autoencoder(name: str, precision: str) -> SA3VAE:
    """VAE of a SAME file, folder or full model."""
    return load_vae(str(library().resolve(name, "autoencoder")), precision)


def describe(patcher: Any) -> list[str]:
    """What the node says about a loaded model."""
    model: SA3BaseModel = patcher.model
    info = model.info
    stored = STORAGES.get(info.precision, model.get_dtype())
    dtype = str(stored).removeprefix("torch.")
    compute = str(model.get_dtype_inference()).removeprefix("torch.")
    precision = dtype if dtype == compute else f"{dtype}, computed in {compute}"
    return [
        f"{info.name}: {info.objective} (from {info.objective_source})",
        f"{precision}, up to {max_seconds(info.sample_size):g} s",
    ]
