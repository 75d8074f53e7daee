"""The commands about model files: models, download, merge."""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

from ..adapters.combine import combine_adapters
from ..adapters.file import read_adapter
from ..adapters.merge import merge_checkpoint
from ..checkpoints.download import download_variant
from ..checkpoints.library import Library
from ..checkpoints.load import find_objective
from ..checkpoints.reader import open_checkpoint
from ..checkpoints.variants import VARIANTS
from ..errors import CheckpointError, InputError
from ..files.published import CONFIG_FILE, WEIGHTS_FILE
from ..files.whole_file import NewName, claim_folder, write_failure
from ..registry import AUTO
from .files import (
    Bars,
    check_outputs,
    find_model,
    models_dir,
    pick_dtype,
    pick_storage,
    place_for,
    written_as,
)
from .loras import find_lora
from .values import given_loras

log = logging.getLogger(__name__)


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
            elif name not in here:
                yield name, kind, "comes with the program"


def run_download(args: argparse.Namespace) -> list[str]:
    """Get a published model; its folder."""
    root = Library.from_models_dir(models_dir(args)).download_root
    with Bars() as on_progress:
        folder = download_variant(
            args.name,
            root,
            args.download_from,
            lambda done, total: on_progress(args.name, done, total),
        )
    return [str(folder)]


def run_merge(args: argparse.Namespace) -> list[str]:
    """Write a checkpoint with LoRAs merged into it, or one LoRA of several; its path."""
    if args.model is None:
        return _combine(args)
    single = args.out.suffix == ".safetensors"
    target = args.out if single else args.out / WEIGHTS_FILE
    check_outputs([target], args.force, new_folder=not single)
    items = [use.with_lora(read_adapter(find_lora(args, use.lora))) for use in given_loras(args)]
    model = find_model(args, args.model, "model")
    out = place_for(args.out, args.force) if single else _folder(args)
    with Bars() as on_progress:
        written = merge_checkpoint(
            model,
            items,
            out,
            pick_dtype(args.precision),
            args.with_text_encoder,
            lambda done, total: on_progress("merge", done, total),
            pick_storage(args.precision),
        )
    written_as(target, written)
    if single:
        _warn_of_lost_objective(model, written)
    return [str(written)]


def _combine(args: argparse.Namespace) -> list[str]:
    if args.with_text_encoder or args.precision != AUTO:
        raise InputError(
            "--precision and --with-text-encoder are about a model; name one with --model, or "
            "leave them out to make one LoRA."
        )
    if args.out.suffix != ".safetensors":
        raise InputError(
            f"{args.out}: without --model the LoRAs are made into one, whose file must end in "
            ".safetensors. To merge them into a model, name it with --model."
        )
    check_outputs([args.out], args.force)
    items = [use.with_lora(read_adapter(find_lora(args, use.lora))) for use in given_loras(args)]
    written = combine_adapters(items, place_for(args.out, args.force))
    written_as(args.out, written)
    return [str(written)]


def _folder(args: argparse.Namespace) -> Path:
    """The folder for a merged model: a new one is this program's alone."""
    if args.out.exists():
        return args.out
    try:
        return claim_folder(NewName(args.out))
    except OSError as error:
        raise CheckpointError(write_failure(args.out, error)) from error


def _warn_of_lost_objective(model: Path, written: Path) -> None:
    """A single file does not state the objective: its name does, or the user must."""
    config = open_checkpoint(model, ("dit",)).config
    source = model.parent.name if model.name == WEIGHTS_FILE else model.stem
    had, _ = find_objective(config, source)
    has, _ = find_objective(open_checkpoint(written, ("dit",)).config, written.stem)
    if had != has:
        log.warning(
            "%s will be taken for %s, but the model is %s, which %s states. Give --objective %s "
            "when you use it, put _base into its name, or make a folder with --out.",
            written.name,
            has,
            had,
            CONFIG_FILE if config.objective else "its name",
            had,
        )
