"""Makes the demo model from nothing: `python -m demo_model.maker [--out FOLDER] [--share S]`.

Stopped and started again it goes on where it was. The result is written to FOLDER/stored: the model
as the program brings it along (demo.safetensors), its LoRA, and how good they are (quality.json).
`--install` puts them into demo_model/.
"""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import time
from pathlib import Path

import torch

from sa3_core.files.published import TEXT_ENCODER_FOLDER

from . import layout, make, train
from .lora import LORA_NAME, train_lora
from .quality import write_quality
from .store import store

ROOT = Path(__file__).resolve().parents[2]
BEGIN = time.monotonic()


def say(text: str) -> None:
    """A line with the time since the start."""
    print(f"{time.monotonic() - BEGIN:7.0f} s  {text}", flush=True)


def main() -> None:
    """Run all stages; see the top of this file."""
    parser = argparse.ArgumentParser(prog="dev.py make-demo-model", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / ".dev" / "demo-model", metavar="FOLDER")
    share = "of the steps and clips, for a try (default: 1, about an hour on one core)"
    parser.add_argument("--share", type=float, default=1.0, metavar="S", help=share)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--install", action="store_true", help="put the result into demo_model/")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    count = max(200, round(make.CLIPS * args.share))
    phases = [
        dataclasses.replace(phase, steps=max(1, round(phase.steps * args.share)))
        for phase in train.PHASES
    ]
    codec = make.codec_in(args.out)
    say("codec and autoencoder are there")
    start = make.start_in(args.out, codec)
    say(f"the untrained model is in {start}, its words in {start / TEXT_ENCODER_FOLDER}")
    clips = train.encoded_clips(codec, count)
    say(f"{len(clips)} clips, {sum(clip.seconds for clip in clips) / 60:.0f} minutes")

    def on_step(phase: str, done: int, steps: int, loss: float) -> None:
        say(f"{phase}: {done} of {steps} steps, loss {loss:.4f}")

    trained = train.train(start, args.out / "training", codec, clips, phases, on_step)
    published = make.publish(trained, start, args.out / "demo")
    result = args.out / "stored"
    (result / "loras").mkdir(parents=True, exist_ok=True)
    store(published, result / "demo.safetensors")
    say("a LoRA is trained, the model is listened to")
    base = make.publish(trained, start, args.out / "demo-base", layout.BASE)
    train_lora(base, codec, result / "loras" / LORA_NAME)
    found = write_quality(published, result / "quality.json")
    if args.install:
        shutil.copytree(result, ROOT / "demo_model", dirs_exist_ok=True)
    say(f"done: {result}: {found}")


if __name__ == "__main__":
    main()
