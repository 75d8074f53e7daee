"""What tests of the command line share."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from tests.helpers.support import GOLDEN, load_golden, rel_l2

PROMPT = "warm analog synth pad slow attack lush reverb 120 BPM"
LORA = GOLDEN / "tiny-s" / "adapter_stack0_lora.safetensors"
DORA = GOLDEN / "tiny-s" / "adapter_stack1_dora-rows.safetensors"
GENERATE = ("generate", "--model", "tiny-s", "--prompt", "x", "--out", "o.wav")


def close_to(frames: Tensor, mode: str, tolerance: float = 1e-5) -> bool:
    """Whether latents equal those of a golden file."""
    golden = load_golden(f"tiny-s/{mode}")
    valid = golden.settings["valid"][0]
    return rel_l2(frames[0, :, :valid], golden["latents.0"]) < tolerance


def read_path(name: str) -> Path:
    """A file of the folder that `sa3` runs in."""
    return Path.cwd() / name
