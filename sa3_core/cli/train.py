"""The commands that learn: pre-encode and train."""

import argparse
import csv
import time
from pathlib import Path

import torch

from ..checkpoints.load import load_autoencoder, load_model
from ..datasets.encode import autoencoder_name, encode_folder
from ..datasets.encoded import read_folder, read_silence
from ..datasets.folder import CaptionRule, list_recordings
from ..errors import InputError
from ..files.published import DTYPES
from ..files.whole_file import write_failure
from ..geometry import frames_covering, samples_of
from ..text.encoder import load_t5gemma
from ..training.adapter import AdapterSettings, TrainedAdapter, write_adapter
from ..training.batches import prompts_of
from ..training.trainer import StepReport, Trainer, TrainSettings
from .arguments import PACKAGE
from .files import Bars, find_model, find_text_encoder, pick_device

_COLUMNS = ("step", "loss", "made", "given", "rate", "seconds", "t")
STATE, LORA, LOG = "training.state", "lora.safetensors", "log.csv"


def run_pre_encode(args: argparse.Namespace) -> list[str]:
    """A folder of recordings to a folder of latents; one line per recording."""
    recordings = list_recordings(args.folder, CaptionRule(args.caption, args.trigger))
    path = find_model(args, args.model, "autoencoder")
    autoencoder = load_autoencoder(path, DTYPES.get(args.precision), pick_device(args.device))
    with Bars() as on_progress:
        outcomes = encode_folder(
            recordings,
            autoencoder,
            args.out,
            args.sample_size,
            args.pad,
            lambda done, total, name: on_progress("encode", done, total),
        )
    lines = [f"{o.status}\t{o.seconds:.2f} s\t{o.relative}\t{o.note}".rstrip() for o in outcomes]
    clips = sum(len(o.names) for o in outcomes)
    return [*lines, f"{args.out}: {clips} clips of {autoencoder_name(autoencoder)}"]


def run_train(args: argparse.Namespace) -> list[str]:
    """A LoRA from encoded clips; the paths written. Ctrl+C saves what was learnt."""
    adapter_settings = AdapterSettings(
        args.adapter_type,
        args.rank,
        args.alpha,
        args.dropout,
        tuple(args.include),
        tuple(args.exclude),
    )
    lora, state = args.out / LORA, args.out / STATE
    if state.exists() and not args.resume:
        raise InputError(f"{args.out} holds a run already. Give --resume, or another --out.")
    if args.resume and not state.exists():
        raise InputError(f"{args.out} holds no run to go on with. Leave --resume out.")
    path = find_model(args, args.model, "model")
    device = pick_device(args.device)
    if args.precision == "fp16":
        raise InputError("is 'fp16', which training does not scale for yet; take bf16.", "dtype")
    exact = torch.float32 if device.type == "cpu" else torch.bfloat16
    model = load_model(path, dtype=DTYPES.get(args.precision, exact), device=device)
    if model.objective != "rectified_flow" and not args.allow_post_trained:
        raise InputError(
            f"{model.name} is post-trained: training would pull it back towards many steps. Train "
            "on its -base model (the LoRA fits both), or give --allow-post-trained."
        )
    assert model.config.dit is not None
    clips = read_folder(args.data, "same-l" if model.config.dit.differential else "same-s")
    longest = max(clip.latents.shape[1] for clip in clips)
    frames = frames_covering(samples_of(args.crop)) if args.crop else longest
    settings = TrainSettings(
        steps=args.steps,
        batch=args.batch,
        frames=min(frames, model.max_frames),
        rate=args.rate,
        schedule=args.schedule,
        clip_norm=args.clip_norm,
        accumulate=args.accumulate,
        seed=args.seed,
        recompute=args.recompute,
    )
    prompts = prompts_of(clips)
    encoder = load_t5gemma(find_text_encoder(args, path), device=device)
    texts = {prompt: encoder.encode([prompt]).to("cpu") for prompt in prompts}
    del encoder
    adapter = TrainedAdapter(model, adapter_settings, args.seed)
    trainer = Trainer(model, adapter, clips, texts, settings, read_silence(args.data))
    if args.resume:
        trainer.load_state(state)
    if not (args.resume and (args.out / LOG).exists()):
        _claim(args.out)
    notes = {"base_model": model.name, "trained_with": PACKAGE}
    try:
        _loop(args, trainer, adapter, notes)
    finally:
        _save(args.out, trainer, adapter, notes)
    return [str(lora)]


def _claim(out: Path) -> None:
    """Make the run's log, which only one of two programs can do."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / LOG).open("x", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(_COLUMNS)
    except FileExistsError as error:
        raise InputError(f"{out} holds a run already. Give another --out.") from error
    except OSError as error:
        raise InputError(write_failure(out / LOG, error)) from error


def _loop(
    args: argparse.Namespace, trainer: Trainer, adapter: TrainedAdapter, notes: dict[str, str]
) -> None:
    with Bars() as on_progress, adapter.attached():
        while trainer.step < args.steps:
            began = time.perf_counter()
            report = trainer.run_step()
            _log(args.out / LOG, report, time.perf_counter() - began)
            on_progress("train", report.step, args.steps)
            if report.step % args.save_every == 0:
                _save(args.out, trainer, adapter, notes)


def _save(out: Path, trainer: Trainer, adapter: TrainedAdapter, notes: dict[str, str]) -> None:
    """The LoRA first: a run that ends between the two does the last steps again, alike."""
    write_adapter(out / LORA, adapter, {**notes, "step": trainer.step})
    trainer.save_state(out / STATE)


def _log(path: Path, report: StepReport, seconds: float) -> None:
    row = [report.step, report.loss, report.made, report.given, report.rate, f"{seconds:.3f}"]
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([*row, " ".join(f"{level:.4f}" for level in report.levels)])
    except OSError as error:
        raise InputError(write_failure(path, error)) from error
