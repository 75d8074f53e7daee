"""The command that learns: train."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from ..adapters.file import read_adapter
from ..adapters.norms import describe_changes
from ..checkpoints.load import load_autoencoder, load_model
from ..checkpoints.reader import open_checkpoint
from ..checks import check_seconds
from ..datasets.encoded import EncodedClip, read_folder, read_silence
from ..errors import InputError
from ..files.published import DTYPES
from ..geometry import seconds_of_frames
from ..networks.model import SA3Model
from ..text.conditioning import TextConditioning
from ..text.encoder import load_t5gemma
from ..training.adapter import AdapterSettings, TrainedAdapter
from ..training.batches import prompts_of
from ..training.learner import Learner
from ..training.memory import Estimate, choose_recompute
from ..training.prepare import crop_frames, kind_of, require_base
from ..training.presets import with_preset
from ..training.run import RunEvents, RunPlan, check_folder, run
from ..training.settings import TrainSettings
from ..training.share import Share, joined
from ..training.trainer import Trainer
from ..training.validation import Validation, Validator, hold_out
from ..training.whole_model import TrainedModel
from .arguments import PACKAGE
from .demos import Demos
from .files import Bars, find_autoencoder, find_model, find_text_encoder, pick_device, pick_storage
from .loras import find_lora


def run_train(args: argparse.Namespace) -> list[str]:
    """A LoRA, or a whole model, from encoded clips; the path written. Ctrl+C saves."""
    vars(args).update(with_preset(args.preset, vars(args)))
    check_folder(args.out, args.resume)
    with joined(pick_device(args.device)) as (share, device):
        lines = _train(args, share, device)
    return lines if share.leads else []


def _train(args: argparse.Namespace, share: Share, device: torch.device) -> list[str]:
    path = find_model(args, args.model, "model")
    model = _model(args, path, device)
    clips = read_folder(args.data, kind_of(model))
    settings = _settings(args, clips, model, share)
    learner = _learner(args, path, model)
    wanted = {"auto": None, "on": True, "off": False}[args.recompute]
    recompute, memory = choose_recompute(model, learner, settings, wanted, share.world)
    learnt, held = hold_out(clips, args.hold_out)
    if args.dry_run:
        return _plan(settings, learner, learnt, held, recompute, memory)
    settings = replace(settings, recompute=recompute)
    prompts = prompts_of(clips, settings.tag_orders)
    texts = _texts(args, path, [*prompts, *args.demo_prompt], device)
    demos = _demos(args, path, model, texts)
    silence = read_silence(args.data)
    trainer = Trainer(model, learner, learnt, texts, settings, silence, share=share)
    validator = Validator(model, held, texts, settings.frames, silence)
    notes = {"base_model": model.name, "trained_with": PACKAGE}
    plan = RunPlan(args.save_every, args.keep, notes, validator)
    with Bars() as on_progress:

        def on_saved(checkpoint: Path, step: int) -> None:
            if demos is not None:
                with torch.no_grad():
                    learner.begin_step()
                demos.make(model, checkpoint, step)

        events = RunEvents(
            lambda p: on_progress("train", p.report.step, p.total), _say_validation, on_saved
        )
        return [str(run(trainer, args.out, plan, events, args.resume))]


def _demos(
    args: argparse.Namespace, path: Path, model: SA3Model, texts: Mapping[str, TextConditioning]
) -> Demos | None:
    """What is made with each checkpoint; None without a prompt."""
    if not args.demo_prompt:
        return None
    if args.demo_model and args.full:
        raise InputError("--demo-model hears a LoRA, and --full trains none. Leave one out.")
    check_seconds(args.demo_seconds, model.max_seconds, "demo_seconds")
    autoencoder = load_autoencoder(find_autoencoder(args, path), device=model.device)
    other = find_model(args, args.demo_model, "model") if args.demo_model else None
    chosen = {prompt: texts[prompt] for prompt in args.demo_prompt}
    return Demos(args.out, chosen, args.demo_seconds, autoencoder, other)


def _plan(
    settings: TrainSettings,
    learner: Learner,
    learnt: Sequence[EncodedClip],
    held: Sequence[EncodedClip],
    recompute: bool,
    memory: Estimate,
) -> list[str]:
    """What a run would do, line by line."""
    seconds = sum(clip.seconds for clip in learnt)
    rounds, length = (
        settings.steps * settings.batch / len(learnt),
        seconds_of_frames(settings.frames),
    )
    parameters = sum(value.numel() for value in learner.tensors().values())
    return [
        f"clips\t{len(learnt)}, {seconds / 60:.1f} minutes; {len(held)} held out",
        f"steps\t{settings.steps} of {settings.batch} x {length:.1f} s, "
        f"each clip {rounds:.1f} times",
        f"trained\t{parameters / 1e6:.2f} million values",
        f"memory\t{memory}" + ("; blocks are recomputed" if recompute else ""),
    ]


def _say_validation(found: Validation, hint: str) -> None:
    """One line on stderr, between the bars."""
    loss = "" if found.loss is None else f"validation {found.loss:.4g}, "
    said = " ".join([*describe_changes(found.changes)[:1], hint]).strip()
    tqdm.write(f"step {found.step}: {loss}{said}", sys.stderr)


def _model(args: argparse.Namespace, path: Path, device: torch.device) -> SA3Model:
    """The model, in the precision that its frozen weights compute in."""
    exact = torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype, storage = DTYPES.get(args.precision, exact), pick_storage(args.precision)
    model = load_model(path, dtype=dtype, device=device, storage=storage)
    if not args.allow_post_trained:
        require_base(model.objective, model.name, "give --allow-post-trained")
    return model


def _settings(
    args: argparse.Namespace, clips: Sequence[EncodedClip], model: SA3Model, share: Share
) -> TrainSettings:
    return TrainSettings(
        steps=args.steps,
        batch=args.batch * share.world,
        frames=crop_frames(args.crop, clips, model),
        rate=args.rate,
        schedule=args.schedule,
        clip_norm=args.clip_norm,
        accumulate=args.accumulate,
        seed=args.seed,
        tag_orders=args.tag_orders,
    )


def _learner(args: argparse.Namespace, path: Path, model: SA3Model) -> Learner:
    if args.full:
        if args.start_from or args.include or args.exclude or model.storage:
            raise InputError(
                "--full trains all weights as they are: leave out --start-from, --include, "
                "--exclude and 8-bit precisions."
            )
        return TrainedModel(model, open_checkpoint(path))
    settings = AdapterSettings(
        args.adapter_type,
        args.rank,
        args.alpha,
        args.dropout,
        tuple(args.include),
        tuple(args.exclude),
    )
    adapter = TrainedAdapter(model, settings, args.seed)
    if args.start_from:
        adapter.load(read_adapter(find_lora(args, args.start_from)))
    return adapter


def _texts(
    args: argparse.Namespace, path: Path, prompts: Sequence[str], device: torch.device
) -> dict[str, TextConditioning]:
    """Every prompt, encoded once; the encoder goes before training begins."""
    encoder = load_t5gemma(find_text_encoder(args, path), device=device)
    return {prompt: encoder.encode([prompt]).to("cpu") for prompt in prompts}
