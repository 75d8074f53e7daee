"""Running nets under ComfyUI's management: loading, progress, interruption, texts in the node."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.patcher_extension
import comfy.utils
import torch

from ....sa3_core.errors import CheckpointError
from ....sa3_core.files.states import FileStates
from .progress import Countdown, send_text

_FILES = "sa3_files"  # a patcher's attachment


def intermediate(x: torch.Tensor) -> torch.Tensor:
    """`x` where ComfyUI wants values between nodes to lie."""
    return x.to(mm.intermediate_device())


def make_patcher(
    model: Any, load_device: torch.device, offload_device: torch.device, classic: bool
) -> Any:
    """A ModelPatcher of the kind that the host uses, or a `classic` one where it asks for that."""
    patchers = comfy.model_patcher
    kind = patchers.ModelPatcher if classic else patchers.CoreModelPatcher
    return kind(model, load_device=load_device, offload_device=offload_device)


def device_for(memory: int) -> torch.device:
    """Where a small computation goes: the device where it has so many bytes free, else the CPU."""
    device = mm.get_torch_device()
    free: Any = mm.get_free_memory(device)
    return device if free > memory else torch.device("cpu")


@contextmanager
def loaded(patcher: Any, memory: float) -> Iterator[Any]:
    """Load a patcher's model for the duration of a block.

    Args:
        patcher: ModelPatcher.
        memory: bytes of activations that the block needs beside the weights.

    Raises:
        CheckpointError: a file of the model or of its LoRAs was changed since it was read.
    """
    check_files(patcher)
    mm.load_models_gpu([patcher], memory_required=math.ceil(memory))
    patcher.pre_run()
    try:
        yield patcher.model
    finally:
        patcher.cleanup()


def watch_files(patcher: Any, files: FileStates) -> None:
    """Let a patcher's runs refuse to start once these files (of LoRAs) were changed."""
    before: FileStates = patcher.get_attachment(_FILES) or FileStates()
    patcher.set_attachments(_FILES, FileStates(before.states + files.states))


def check_files(patcher: Any) -> None:
    """Refuse to run a model whose files, or whose LoRAs' files, are no longer what was read.

    Raises:
        CheckpointError: naming the first one.
    """
    loras: FileStates = patcher.get_attachment(_FILES) or FileStates()
    try:
        patcher.model.check_files()
        loras.check()
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} Run the graph again: the loader notices what has changed."
        ) from error


def check_interrupted() -> None:
    """Raise the host's exception when the user pressed cancel."""
    mm.throw_exception_if_processing_interrupted()


def step_reporter(
    steps: int, preview: Callable[[torch.Tensor], Any] | None = None
) -> Callable[[int, int, torch.Tensor], None]:
    """An `on_step` that drives the node's progress bar and notices interruption.

    Args:
        steps: how many there will be.
        preview: makes what the bar shows of the predicted data; None = nothing.
    """
    bar = comfy.utils.ProgressBar(steps)
    countdown = Countdown("sampling", "step")

    def report(step: int, total: int, denoised: torch.Tensor) -> None:
        check_interrupted()
        bar.update_absolute(step + 1, total, preview(denoised) if preview else None)
        countdown.update(step + 1, total)

    return report


def chunk_reporter(part: str | None = None) -> Callable[[int, int], None]:
    """An `on_chunk` or `on_bytes` that drives the node's progress bar.

    Args:
        part: what is done chunk by chunk, shown as text in the node; None = nothing is shown.
    """
    bar: Any = None
    countdown = Countdown(part, "chunk") if part else None

    def report(done: int, total: int) -> None:
        nonlocal bar
        check_interrupted()
        bar = bar or comfy.utils.ProgressBar(max(total, 1))
        bar.update_absolute(done, max(total, 1))
        if countdown and done:
            countdown.update(done, total)

    return report


def show(node: Any, lines: list[str]) -> dict[str, Any]:
    """Show lines in the node and return them as its `ui` output (history, API).

    Args:
        node: the node class in `execute` (its hidden `unique_id` names the node).
        lines: sentences, one per line.
    """
    unique_id = getattr(node.hidden, "unique_id", None)
    if unique_id is not None and lines:
        send_text("\n".join(lines), unique_id)
    return {"text": lines}
