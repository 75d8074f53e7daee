"""Encoded clips for tests of training."""

from __future__ import annotations

from sa3_core.datasets.encoded import EncodedClip
from tests.helpers.support import load_golden


def encoded_clips() -> list[EncodedClip]:
    """Three clips of 10 and 14 frames with two prompts."""
    golden = load_golden("training/pre_encode_tiny-s")
    return [
        EncodedClip("a", golden["nopad.a"], 14, 1.3, "warm pad"),
        EncodedClip("b", golden["pad.b"], 10, 0.9, "drum loop"),
        EncodedClip("c", golden["nopad.b"], 10, 0.9, "warm pad"),
    ]
