"""The commands about model files: models, download, merge."""

import argparse
from collections.abc import Iterator

from .cli_files import Bars, models_dir
from .download import download_variant
from .library import Library
from .variants import VARIANTS


def run_models(args: argparse.Namespace) -> list[str]:
    """A line per model: name, what it is, and its path or how to get it."""
    folder = models_dir(args)
    rows = list(_rows(Library.from_models_dir(folder)))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows]


def _rows(library: Library) -> Iterator[tuple[str, str, str]]:
    found = library.models()
    for name in found:
        yield name, "model", str(library.resolve(name, "model"))
    for name in library.autoencoders():
        if name not in found:
            yield name, "autoencoder", str(library.resolve(name, "autoencoder"))
    for name in library.text_encoders():
        yield name, "text encoder", str(library.resolve(name, "text_encoder"))
    for names, kind in (
        (library.known_models(), "model"),
        (library.known_autoencoders(), "autoencoder"),
    ):
        here = found if kind == "model" else library.autoencoders()
        for name in names:
            if name in VARIANTS and name not in here:
                yield name, kind, f"not here: sa3 download {name}"


def run_download(args: argparse.Namespace) -> list[str]:
    """Get a published model; its folder."""
    root = Library.from_models_dir(models_dir(args)).download_root
    with Bars() as on_progress:
        folder = download_variant(
            args.name,
            root,
            args.source,
            lambda done, total: on_progress(args.name, done, total),
        )
    return [str(folder)]
