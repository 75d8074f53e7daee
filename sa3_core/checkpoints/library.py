"""Models on disk, by plain names with forward slashes.

`small-music` is a folder in stable_audio_3, `checkpoints/stable_audio_3_medium.safetensors` a file
in checkpoints. The same name is valid before and after a download.
"""

import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..errors import CheckpointError, ConfigError, InputError
from ..files.published import (
    CONDITIONER_PREFIX,
    CONFIG_FILE,
    DIT_PREFIX,
    HEADER_DTYPES,
    MODEL_FOLDERS,
    OWN_FOLDER,
    TEXT_ENCODER_FILE,
    TEXT_ENCODER_FILES,
    TEXT_ENCODER_FOLDER,
    TEXT_ENCODER_URL,
    WEIGHTS_FILE,
)
from ..files.tensor_file import read_header
from ..text.tokenizers import find_tokenizer
from .bundled import bundled_names, unpacked
from .reader import open_checkpoint
from .variants import VARIANTS

log = logging.getLogger(__name__)

Kind = Literal["model", "autoencoder", "text_encoder"]

_SUFFIX = ".safetensors"
_ROOTS: dict[Kind, tuple[str, ...]] = {  # where single files of a kind may lie
    "model": (OWN_FOLDER, "checkpoints", "diffusion_models"),
    "autoencoder": (OWN_FOLDER, "vae", "checkpoints", "diffusion_models"),
    "text_encoder": ("text_encoders",),
}
_LABELS: dict[Kind, str] = {
    "model": "model",
    "autoencoder": "autoencoder",
    "text_encoder": "text encoder",
}


class Library:
    """Finds models below the given folders. It only lists and reads headers, and keeps nothing.

    Where two roots hold the same name the earlier root wins.
    """

    def __init__(self, roots: Mapping[str, Sequence[Path]]) -> None:
        """Args: roots: folders by kind of folder (stable_audio_3, checkpoints, vae, ...)."""
        self._roots = {name: tuple(paths) for name, paths in roots.items()}

    @classmethod
    def from_models_dir(cls, folder: Path) -> "Library":
        """A library laid out like ComfyUI's models folder; `<folder>/<name>/` is found as well."""
        return cls(
            {n: [folder / n] for n in MODEL_FOLDERS} | {OWN_FOLDER: [folder / OWN_FOLDER, folder]}
        )

    @property
    def download_root(self) -> Path:
        """The folder that downloads go to.

        Raises:
            InputError: the library has no folder for them.
        """
        for root in self._roots.get(OWN_FOLDER, ()):
            return root
        raise InputError(f"No folder for downloads is set up (kind {OWN_FOLDER!r}).")

    def models(self) -> list[str]:
        """Names of complete models: folders first, then single files."""
        return list(self._found("model"))

    def autoencoders(self) -> list[str]:
        """Names of SAME autoencoders: standalone ones and those inside full models."""
        return list(self._found("autoencoder"))

    def text_encoders(self) -> list[str]:
        """Names of T5Gemma encoders: single files, folders, and folders inside models."""
        return list(self._found("text_encoder"))

    def known_models(self) -> list[str]:
        """Models found, published ones that are not there yet, and last those brought along."""
        return _with_others(self.models(), generative=True)

    def known_autoencoders(self) -> list[str]:
        """Autoencoders found, published ones that are not there yet, and the one brought along."""
        return _with_others(self.autoencoders(), generative=False)

    def resolve(self, name: str, kind: Kind) -> Path:
        """Find a name on disk.

        A file that lies under the name but is not recognised is returned too: the loader can say
        what it is. Links that the user has put below a root are followed. A model that the program
        brings along is unpacked the first time, unless the user has one of that name.

        Args:
            name: as listed; backslashes count as slashes.
            kind: what is wanted.

        Returns:
            The folder of a folder model or encoder, else the file.

        Raises:
            InputError: the name points out of the folders, or nothing lies under it.
            CheckpointError: what the program brings along cannot be unpacked.
        """
        plain = _plain(name, kind)
        found = self._found(kind)
        if plain in found:
            return found[plain]
        root_name, _, inner = plain.partition("/")
        if root_name in _ROOTS[kind] and inner.endswith(_SUFFIX):
            for root in self._roots.get(root_name, ()):
                if (root / inner).is_file():
                    return root / inner
        if kind != "text_encoder" and plain in bundled_names():
            return unpacked(plain, self.download_root)
        raise self._missing(plain, kind, found)

    def text_encoder_for(self, model: Path) -> Path:
        """The text encoder in a model's own folder, else the first one found; one that can work.

        What has no tokenizer in it or beside it, or weights that are not read here, is taken only
        where there is nothing else: loading it says what is missing.

        Args:
            model: the model's folder or file.

        Raises:
            CheckpointError: there is none; says where to put it.
        """
        own = (model if model.is_dir() else model.parent) / TEXT_ENCODER_FOLDER
        candidates = [own] if (own / WEIGHTS_FILE).is_file() else []
        candidates += self._found("text_encoder").values()
        for candidate in (*filter(_can_encode, candidates), *candidates):
            return candidate
        raise CheckpointError(
            f"No text encoder: {model.name} brings none and none was found. Put the folder "
            f"{TEXT_ENCODER_FOLDER} beside the model's weights, or {TEXT_ENCODER_FILE} "
            f"({TEXT_ENCODER_URL}) into {self._place('text_encoders')}."
        )

    def autoencoder_for(self, model: Path) -> Path:
        """The model itself where it holds an autoencoder, else the first one found that fits it.

        Args:
            model: the model's folder or file.

        Raises:
            CheckpointError: there is none; says where to put it. Or the model cannot be opened.
        """
        checkpoint = open_checkpoint(model, need=("dit",))
        if "same" in checkpoint.parts:
            return model
        assert checkpoint.config.dit is not None
        large = checkpoint.config.dit.differential  # medium goes with SAME-L, small with SAME-S
        for path in self._found("autoencoder").values():
            try:
                same = open_checkpoint(path, need=("same",)).config.same
            except (CheckpointError, ConfigError) as error:
                log.warning("%s is passed over: %s", path.name, error)
                continue
            if same is not None and (same.decoder.window is not None) == large:
                return path
        name = "same-l" if large else "same-s"
        raise CheckpointError(
            f"No autoencoder: {model.name} brings none and no {name.upper()} was found. Put "
            f"{name} into {self._place(OWN_FOLDER)} or a file into {self._place('vae')}."
        )

    def files_of(self, path: Path, kind: Kind) -> list[Path]:
        """Every file that loading what `resolve` found may read, there or not.

        Args:
            path: a folder or file.
            kind: what it is loaded as.
        """
        folder, file = (path, path / WEIGHTS_FILE) if path.is_dir() else (path.parent, path)
        if kind != "text_encoder":
            return [file, folder / CONFIG_FILE] if file.name == WEIGHTS_FILE else [file]
        beside = folder / TEXT_ENCODER_FOLDER
        tokenizers = [place / name for place in (folder, beside) for name in TEXT_ENCODER_FILES]
        return [file, *tokenizers, folder / TEXT_ENCODER_FILE]

    def _place(self, folder: str) -> str:
        """Where to put what belongs into a kind of folder, for messages."""
        return next(map(str, self._roots.get(folder, ())), f"models/{folder}")

    def _missing(self, name: str, kind: Kind, found: Iterable[str]) -> InputError:
        label = _LABELS[kind]
        published = name in VARIANTS and kind != "text_encoder"
        if published and any(folder.name == name for folder in self._folders()):
            return InputError(
                f"The folder of {name!r} is not complete: it needs {WEIGHTS_FILE} and "
                f"{CONFIG_FILE}. Download {name!r} again."
            )
        message = f"There is no {label} {name!r}. Found: {', '.join(found) or 'none'}."
        return InputError(message + (f" Download {name!r} first." if published else ""))

    def _folders(self) -> Iterator[Path]:
        """Every folder that may hold a folder model."""
        for root in self._roots.get(OWN_FOLDER, ()):
            folders = next(os.walk(root), (root, [], []))[1]
            yield from (root / name for name in sorted(folders) if name[0] != ".")

    def _found(self, kind: Kind) -> dict[str, Path]:
        """Name -> path of everything of a kind, in the order it is listed."""
        found: dict[str, Path] = {}
        damaged: dict[str, Path] = {}  # behind all others, as the first one is often the default
        for folder in self._folders():
            encoder = folder / TEXT_ENCODER_FOLDER
            if kind == "text_encoder" and _is_encoder_folder(encoder):
                found.setdefault(_named(f"{folder.name}/{encoder.name}"), encoder)
            elif (folder / CONFIG_FILE).is_file() and kind in _kinds_of_folder(folder):
                sound = kind in _kinds_of(folder / WEIGHTS_FILE)
                (found if sound else damaged).setdefault(_named(folder.name), folder)
        for root_name in _ROOTS[kind]:
            for root in self._roots.get(root_name, ()):
                for path in _files(root, deep=root_name != OWN_FOLDER):
                    if kind in _kinds_of(path):
                        whole = path.parent if _is_encoder_file(path, root) else path
                        name = f"{root_name}/{whole.relative_to(root).as_posix()}"
                        found.setdefault(_named(name), whole)
        return found | {name: path for name, path in damaged.items() if name not in found}


def _with_others(found: list[str], generative: bool) -> list[str]:
    published = [v.name for v in VARIANTS.values() if v.generative is generative]
    others = [*published, *(bundled_names() if generative else bundled_names()[:1])]
    return found + [name for name in others if name not in found]


def _named(name: str) -> str:
    """One spelling per name: macOS stores letters and accents apart, graphs hold them composed."""
    return unicodedata.normalize("NFC", name)


def _plain(name: str, kind: Kind) -> str:
    """A name with forward slashes that stays inside whatever folder it is joined to."""
    plain = name.replace("\\", "/")
    parts = plain.split("/")
    # Windows drops dots and spaces at the end of a part, so ".. " would climb there as well.
    if (
        re.match(r"[A-Za-z]:", plain)
        or "\0" in plain
        or any(not part.strip(" .") for part in parts)
    ):
        raise InputError(
            f"{name!r} is no {_LABELS[kind]} name: give it as it is listed, like small-music or "
            "checkpoints/file.safetensors, not as a path."
        )
    return _named(plain)


def _files(root: Path, deep: bool) -> Iterator[Path]:
    """Safetensors files below a root, links followed, hidden folders left out, sorted."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if f[0] != ".") if deep else []
        yield from (Path(folder, f) for f in sorted(files) if f.lower().endswith(_SUFFIX))


def _is_encoder_file(path: Path, root: Path) -> bool:
    """Tell whether a file is part of an encoder folder below the root."""
    return path.name == WEIGHTS_FILE and path.parent != root and _is_encoder_folder(path.parent)


def _is_encoder_folder(folder: Path) -> bool:
    """Tell whether a folder holds a T5Gemma encoder with its tokenizer."""
    return (
        (folder / "config.json").is_file()
        and find_tokenizer(folder) is not None
        and "text_encoder" in _kinds_of(folder / WEIGHTS_FILE)
    )


def _can_encode(encoder: Path) -> bool:
    """Whether a text encoder has a tokenizer, and weights of a type that is read here."""
    if encoder.is_dir() and not _is_encoder_folder(encoder):
        return False
    weights = encoder / WEIGHTS_FILE if encoder.is_dir() else encoder
    try:
        header = read_header(weights)
    except CheckpointError:
        return False
    ends = ("embed_tokens.weight", "q_proj.weight")
    types = {entry["dtype"] for key, entry in header.items() if key.endswith(ends)}
    return find_tokenizer(encoder) is not None and types <= set(HEADER_DTYPES)


def _kinds_of_folder(folder: Path) -> frozenset[Kind]:
    """What a model folder holds; damaged weights count as all, for loading them says why."""
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        return frozenset()
    return _kinds_of(weights, unreadable=frozenset({"model", "autoencoder"}))


def _kinds_of(path: Path, unreadable: frozenset[Kind] = frozenset()) -> frozenset[Kind]:
    """What a file's header shows it to be; empty where it is something else."""
    try:
        state = path.stat()
        return _kinds_in_header(str(path), state.st_mtime_ns, state.st_size)
    except (CheckpointError, OSError):
        return unreadable


@lru_cache(maxsize=4096)
def _kinds_in_header(path: str, modified: int, size: int) -> frozenset[Kind]:
    """Read a header once per state of the file: listing happens on every look at a node."""
    return frozenset(kinds_in(read_header(Path(path))))


def kinds_in(keys: Iterable[str]) -> set[Kind]:
    """What tensors of these names make up, one level of extra path allowed in front.

    Stable Audio Open has transformer and conditioner keys too; only SA3 has local embeddings and
    a running deviation in its bottleneck.
    """
    ends = {
        f"{DIT_PREFIX}transformer.layers.0.to_local_embed.0.weight": "dit",
        f"{CONDITIONER_PREFIX}conditioners.seconds_total.embedder.embedding.1.weight": "duration",
        "bottleneck.running_std": "bottleneck",
        "decoder.layers.3.new_tokens": "decoder",
        "encoder.layers.0.pre_self_attn_layernorm.weight": "text",
    }
    found = {part for key in keys for end, part in ends.items() if key.endswith(end)}
    kinds: set[Kind] = set()
    if {"dit", "duration"} <= found:
        kinds.add("model")
    if {"bottleneck", "decoder"} <= found:
        kinds.add("autoencoder")
    if "text" in found:
        kinds.add("text_encoder")
    return kinds
