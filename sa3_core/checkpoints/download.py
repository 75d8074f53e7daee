"""Explicit downloads of published models through huggingface_hub, resumable and checked.

Files arrive in `<target root>/.staging/<name>/`, named after their checksum, and are moved to
`<target root>/<name>/` when all of them are there and verified, the weights last. Nothing of this
runs unless a user asks for it.
"""

import functools
import hashlib
import inspect
import io
import logging
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers
from tqdm import tqdm

from ..errors import DownloadError, UnknownNameError
from ..files.published import (
    CONFIG_FILE,
    MIRROR_REPO,
    SOURCES,
    TEXT_ENCODER_FOLDER,
    WEIGHTS_FILE,
    Source,
)
from .download_errors import Place, explained
from .variants import VARIANTS, Variant

_log = logging.getLogger(__name__)

OnBytes = Callable[[int, int], None]  # bytes done, bytes in all; may raise to stop

_SPACE_MARGIN = 1.05
_HASH_BLOCK = 2**23  # bytes
_TIMEOUT = 30.0  # seconds for the list of files
_ENCODER_SUFFIXES = {".json", ".safetensors", ".model", ".txt"}  # never pickles or code
_PLAIN_PATH = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)


@dataclass(frozen=True)
class _HubFile:
    """One file of a repository.

    Attributes:
        path: in the repository.
        target: in the model's folder.
        size: bytes.
        digest: hexadecimal SHA-256 of an LFS file, else git's SHA-1 of the blob.
        is_lfs: which of the two.
    """

    path: str
    target: str
    size: int
    digest: str
    is_lfs: bool

    @property
    def staged(self) -> str:
        return f"{self.target}.{self.digest[:16]}"


class _Progress:
    """Adds up bytes over all files and tells the caller."""

    def __init__(self, total: int, on_bytes: OnBytes) -> None:
        self._total, self._on_bytes, self._before = total, on_bytes, 0

    def at(self, position: int) -> None:
        self._on_bytes(self._before + position, self._total)

    def done(self, size: int) -> None:
        self._before += size


class _ReportingFile(io.FileIO):
    """A file to append to that reports its length after each write."""

    def __init__(self, path: Path, report: Callable[[int], None]) -> None:
        super().__init__(path, "ab")
        self._report = report

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        size = len(rest)
        while rest:  # a raw file may take less than it is given
            rest = rest[super().write(rest) :]
        self._report(self.tell())
        return size


def is_complete(folder: Path, variant: Variant) -> bool:
    """Tell whether a folder holds everything that a download of the variant would bring."""
    return all((folder / name).is_file() for name in _required(variant))


def download_variant(
    name: str,
    target_root: Path,
    source: Source = "upstream",
    on_bytes: OnBytes = lambda done, total: None,
) -> Path:
    """Get a published model, unless it is there already; go on where an earlier try stopped.

    A token is taken from where huggingface_hub keeps it (HF_TOKEN, `hf auth login`) and from
    nowhere else. Files that are in the folder already are kept as they are.

    Args:
        name: a name of VARIANTS.
        target_root: folder that gets a folder of that name.
        source: the original repository, or the bundled bf16 mirror.
        on_bytes: told the bytes done and wanted, resumed ones included; called while files are
            checked as well. What it raises stops the download and leaves it resumable.

    Returns:
        The model's folder.

    Raises:
        UnknownNameError: no such variant or source.
        DownloadError: licence not accepted, nothing there, no connection, no space, damaged file.
    """
    if name not in VARIANTS:
        raise UnknownNameError("model", name, VARIANTS)
    if source not in SOURCES:
        raise UnknownNameError("download source", source, SOURCES)
    variant = VARIANTS[name]
    folder = target_root / name
    if is_complete(folder, variant):
        return folder
    if source == "mirror":
        place = Place(variant, MIRROR_REPO, f"{name}/", folder)
    else:
        place = Place(variant, variant.repo, "", folder)
    with explained(place):
        revision, files = _list_files(place)
        missing = [file for file in files if not (folder / file.target).exists()]
        staging = target_root / ".staging" / name
        staging.mkdir(parents=True, exist_ok=True)
        _check_space(place, missing, staging)
        progress = _Progress(sum(file.size for file in missing), on_bytes)
        for file in missing:
            _fetch(place, revision, file, staging, progress)
        _move(missing, staging, folder)
    _log.info("%s is in %s.", name, folder)
    return folder


def _required(variant: Variant) -> list[str]:
    names = [WEIGHTS_FILE, CONFIG_FILE]
    if variant.generative:
        parts = ("config.json", WEIGHTS_FILE, "tokenizer.json")
        names += [f"{TEXT_ENCODER_FOLDER}/{part}" for part in parts]
    return names


def _list_files(place: Place) -> tuple[str, list[_HubFile]]:
    """The repository's newest revision and the files of it that the variant needs."""
    info = HfApi().model_info(place.repo, files_metadata=True, timeout=_TIMEOUT)
    files = []
    for entry in info.siblings or []:
        target = entry.rfilename.removeprefix(place.subfolder)
        inside = entry.rfilename.startswith(place.subfolder)
        if inside and _PLAIN_PATH.fullmatch(target) and _is_needed(target, place.variant):
            digest = entry.lfs.sha256 if entry.lfs else str(entry.blob_id)
            size = entry.size or 0
            files.append(_HubFile(entry.rfilename, target, size, digest, entry.lfs is not None))
    absent = set(_required(place.variant)) - {file.target for file in files}
    if absent:
        raise DownloadError(
            f"{place.repo} holds no {', '.join(sorted(absent))} for {place.variant.name}. Choose "
            "the other download source."
        )
    return str(info.sha), files


def _is_needed(target: str, variant: Variant) -> bool:
    path = PurePosixPath(target)
    if target in (WEIGHTS_FILE, CONFIG_FILE):
        return True
    return (
        variant.generative
        and path.parts[0] == TEXT_ENCODER_FOLDER
        and path.suffix in _ENCODER_SUFFIXES
    )


def _check_space(place: Place, files: Sequence[_HubFile], staging: Path) -> None:
    need = 0.0
    for file in files:
        whole = staging / file.staged
        part = _part_of(whole)
        here = [path.stat().st_size for path in (whole, part) if path.exists()]
        need += max(0, file.size - sum(here)) * _SPACE_MARGIN
    free = shutil.disk_usage(staging).free
    if need > free:
        raise DownloadError(
            f"{place.variant.name} needs {need / 1e9:.2f} GB more in {place.folder.parent}, where "
            f"{free / 1e9:.2f} GB are free. Free some space or choose another model folder."
        )


def _fetch(place: Place, revision: str, file: _HubFile, staging: Path, progress: _Progress) -> None:
    """Bring one file into staging, verified; what is there of it already is kept."""
    whole = staging / file.staged
    part = _part_of(whole)
    if not whole.exists():
        part.parent.mkdir(parents=True, exist_ok=True)
        _append(place, revision, file, part, progress)
        _verify(file, part, progress)
        os.replace(part, whole)
    progress.done(file.size)


def _part_of(whole: Path) -> Path:
    return whole.with_name(whole.name + ".part")


def _append(place: Place, revision: str, file: _HubFile, part: Path, progress: _Progress) -> None:
    """Download what a partial file lacks.

    hf_hub_download would do, but since huggingface_hub 2 it starts each file anew after a stop.
    """
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()
    url = hf_hub_url(place.repo, file.path, revision=revision, endpoint=HfApi().endpoint)
    # The caller shows progress; older versions have no way to keep their own bar away.
    has_bar = "tqdm_class" in inspect.signature(http_get).parameters
    quiet = functools.partial(tqdm, disable=True)
    options: dict[str, Any] = {"tqdm_class": quiet} if has_bar else {}
    with _ReportingFile(part, progress.at) as target:
        have = target.tell()
        progress.at(have)
        http_get(
            url,
            target,
            resume_size=have,
            headers=build_hf_headers(),
            expected_size=file.size,
            **options,
        )


def _verify(file: _HubFile, part: Path, progress: _Progress) -> None:
    """Compare length and checksum with the repository's; a damaged file is deleted."""
    found = hashlib.sha256() if file.is_lfs else hashlib.sha1(usedforsecurity=False)
    if not file.is_lfs:
        found.update(b"blob %d\0" % file.size)
    with part.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK):
            found.update(block)
            progress.at(file.size)  # lets the caller stop here too
    if part.stat().st_size != file.size or found.hexdigest() != file.digest:
        part.unlink()
        raise DownloadError(
            f"{file.path} arrived damaged (its checksum differs) and was deleted. Start the "
            "download again; if it happens twice, choose the other download source."
        )


def _move(files: Sequence[_HubFile], staging: Path, folder: Path) -> None:
    """Move finished files to their names, the weights last: a folder with weights is complete."""
    for file in sorted(files, key=lambda file: file.target == WEIGHTS_FILE):
        target = folder / file.target
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / file.staged, target)
    shutil.rmtree(staging, ignore_errors=True)
    with suppress(OSError):  # other downloads may be in it
        staging.parent.rmdir()
