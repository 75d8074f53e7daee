"""What Train SA3 LoRA does: a run in a folder of its own that goes on where it was stopped."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import folder_paths
import torch

from ....sa3_core.checkpoints.load import load_model
from ....sa3_core.datasets.encoded import EncodedClip, read_folder, read_silence
from ....sa3_core.errors import InputError
from ....sa3_core.files.published import DTYPES
from ....sa3_core.networks.model import SA3Model
from ....sa3_core.networks.quantised import STORAGES
from ....sa3_core.text.conditioning import TextConditioning
from ....sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from ....sa3_core.training.batches import prompts_of
from ....sa3_core.training.logs import losses_of
from ....sa3_core.training.memory import choose_recompute, estimate
from ....sa3_core.training.prepare import crop_frames, kind_of, require_base
from ....sa3_core.training.run import STATE, RunEvents, RunPlan, run
from ....sa3_core.training.settings import TrainSettings
from ....sa3_core.training.trainer import Trainer
from ....sa3_core.training.validation import Validator, hold_out
from ..host.progress import send_text
from ..host.running import check_files, check_interrupted, step_reporter
from ..host.training import TrainedNets, TrainingPlace, gradients, training_device
from ..sockets.clip import encode_prompts
from ..sockets.loose_patch import loose_changes
from ..sockets.model import SA3BaseModel, require_sa3
from ..sockets.trained_lora import TrainedLora, lora_value
from .datasets import EncodedSounds
from .names import check_prefix, place_inside
from .training_view import Previews, RunView

NODE = "Train SA3 LoRA"
RUNS = "sa3_training"  # folder of runs, in the output folder
_RECOMPUTE = {"auto": None, "on": True, "off": False}


@dataclass(frozen=True)
class Wanted:
    """What a node asks for.

    Attributes:
        settings: of training; its frames and recompute are chosen here.
        adapter: kind of LoRA.
        crop: seconds; 0 = the longest clip.
        recompute: auto, on or off.
        precision: auto, fp32, bf16 or fp16, of the computation.
        hold_out: clips that are validated on.
        save_every: steps between checkpoints.
        allow_post_trained: train another model than a base one.
    """

    settings: TrainSettings
    adapter: AdapterSettings
    crop: float = 0.0
    recompute: str = "auto"
    precision: str = "auto"
    hold_out: int = 0
    save_every: int = 500
    allow_post_trained: bool = False


@dataclass(frozen=True)
class Trained:
    """What a run gives.

    Attributes:
        lora: LORA_MODEL.
        losses: of every step.
        steps: done.
        ui: what the node shows.
        notes: sentences.
    """

    lora: TrainedLora
    losses: list[float]
    steps: int
    ui: Mapping[str, Any]
    notes: list[str]


def train(
    patcher: Any,
    clip: Any,
    dataset: EncodedSounds,
    wanted: Wanted,
    name: str,
    previews: Previews | None = None,
) -> Trained:
    """Train a LoRA until its last step; interrupted, it is saved and the next run goes on.

    Args:
        patcher: MODEL without LoRAs; it stays as it is.
        clip: CLIP that encodes the captions.
        dataset: encoded.
        wanted: how.
        name: of the run's folder, to which a mark of its settings is added.
        previews: what is made with each checkpoint; None = nothing.

    Raises:
        InputError: another MODEL, one with patches, or what cannot be trained.
        LatentFileError: clips of another autoencoder, or damaged ones.
        AdapterError: a state or file cannot be written.
    """
    base = require_sa3(patcher, NODE)
    _require_plain(patcher)
    check_files(patcher)
    if not wanted.allow_post_trained:
        require_base(base.info.objective, base.info.name, "switch allow_post_trained on")
    name = check_prefix(name, "name")
    place_inside(_runs(), name, "name")
    with gradients():
        model = _copy_of(base, wanted.precision)
        clips = [c for c in read_folder(dataset.folder, kind_of(model)) if c.name in dataset.names]
        frames = crop_frames(wanted.crop, clips, model)
        settings = replace(wanted.settings, frames=frames)
        prompts = prompts_of(clips, settings.tag_orders)
        texts = _texts(clip, [*prompts, *(previews.prompts if previews else ())])
        place = TrainingPlace(
            TrainedNets({"dit": model.dit, "conditioner": model.conditioner}, base.check_files)
        )
        try:
            place.take()
            model = replace(model, device=place.device)
            send_text("preparing the LoRA")
            adapter = TrainedAdapter(model, wanted.adapter, settings.seed, _interruptible)
            settings, need = _within_memory(place, model, adapter, settings, wanted.recompute)
            return _run(
                _Ready(model, adapter, clips, texts, settings, place, need),
                read_silence(dataset.folder),
                wanted,
                name,
                previews,
            )
        finally:
            place.leave()


@dataclass(frozen=True, eq=False)
class _Ready:
    """All that a run needs, on its device."""

    model: SA3Model
    adapter: TrainedAdapter
    clips: Sequence[EncodedClip]
    texts: Mapping[str, TextConditioning]
    settings: TrainSettings
    place: TrainingPlace
    memory: float


def _run(
    ready: _Ready,
    silence: torch.Tensor | None,
    wanted: Wanted,
    name: str,
    previews: Previews | None,
) -> Trained:
    model, settings = ready.model, ready.settings
    learnt, held = hold_out(ready.clips, wanted.hold_out)
    trainer = Trainer(model, ready.adapter, learnt, ready.texts, settings, silence)
    folder = _folder(name, trainer, ready.clips)
    view = RunView(folder, settings.steps)
    bar = _step_bar(settings.steps)
    notes = {"base_model": model.name, "trained_with": "ComfyUI-SA3"}
    validator = Validator(model, held, ready.texts, settings.frames, silence)
    plan = RunPlan(wanted.save_every, 0, notes, validator)

    def on_saved(checkpoint: Path, step: int) -> None:
        if previews is None:
            return
        with torch.no_grad():
            ready.adapter.begin_step()
            view.heard(previews.make(model, ready.texts, folder, step))
        ready.place.take(ready.memory)  # the autoencoder may have taken it

    def on_step(progress: Any) -> None:
        view.step(progress)
        bar(progress.report.step)

    events = RunEvents(on_step, view.validated, on_saved)
    path = run(trainer, folder, plan, events, resume=(folder / STATE).exists())
    lora = lora_value(ready.adapter, path)
    lines = view.summary(ready.adapter.changes())
    return Trained(lora, losses_of(folder), trainer.step, view.ui(), lines)


def _step_bar(steps: int) -> Any:
    """Drives the progress bar by the number of steps done, and notices interruption."""
    report = step_reporter(steps)
    nothing = torch.empty(0)
    return lambda done: report(done - 1, steps, nothing)


def _interruptible(done: int, total: int) -> None:
    check_interrupted()


def _require_plain(patcher: Any) -> None:
    if patcher.patches or loose_changes(patcher):
        raise InputError(
            "The MODEL carries LoRAs or other patches, which a LoRA would be trained beside. "
            "Connect the MODEL of Load SA3 Model directly, or merge them with Save SA3 Model first."
        )


def _copy_of(base: SA3BaseModel, precision: str) -> SA3Model:
    """The model's file once more, with weights that gradients go through, on the CPU."""
    info = base.info
    device = training_device()
    exact = torch.float32 if device.type == "cpu" else torch.bfloat16
    storage = info.precision if info.precision in STORAGES else None
    dtype = DTYPES.get(precision, exact)
    return load_model(Path(info.path), info.objective, dtype, "cpu", storage=storage)


def _texts(clip: Any, prompts: Sequence[str]) -> dict[str, TextConditioning]:
    """Every prompt, encoded once, by itself."""
    found = {}
    for number, prompt in enumerate(dict.fromkeys(prompts), start=1):
        check_interrupted()
        send_text(f"encoding caption {number}")
        with torch.inference_mode():
            text, _ = encode_prompts(clip, [prompt])
        # Copies, because no gradient goes through what inference mode made.
        found[prompt] = TextConditioning(text.tokens.cpu().clone(), text.mask.cpu().clone())
    return found


def _within_memory(
    place: TrainingPlace,
    model: SA3Model,
    adapter: TrainedAdapter,
    settings: TrainSettings,
    recompute: str,
) -> tuple[TrainSettings, float]:
    """Settings that fit, once the host has made room; and the bytes beside the weights."""
    wanted = _RECOMPUTE[recompute]
    most = estimate(model, adapter, settings, bool(wanted))
    place.take(most.learner + most.activations)
    chosen, found = choose_recompute(model, adapter, settings, wanted, free=place.free())
    return replace(settings, recompute=chosen), found.learner + found.activations


def _folder(name: str, trainer: Trainer, clips: Sequence[EncodedClip]) -> Path:
    """The run's folder: the same settings and captions go on, others begin anew."""
    told = [trainer.identity(), sorted((clip.name, clip.prompt) for clip in clips)]
    mark = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    return place_inside(_runs(), f"{name}-{mark}", "name")


def _runs() -> Path:
    return Path(folder_paths.get_output_directory()) / RUNS


def loss_map(losses: Sequence[float]) -> dict[str, list[float]]:
    """LOSS_MAP of ComfyUI's own nodes."""
    return {"loss": [loss for loss in losses if math.isfinite(loss)]}
