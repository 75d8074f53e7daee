"""Where each example workflow has its nodes: columns of steps, as the page's groups show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NOTE = "MarkdownNote"
BARS = ("SA3SAMEEncode", "SA3SAMEDecode", "SA3SplitAudioBatch")  # plumbing: a title bar each


@dataclass(frozen=True)
class Part:
    """A step, or what of it stands in one column.

    Attributes:
        title: of the group; parts of one title share a group.
        types: node types from top to bottom; of several nodes of a type the first one by id.
        bars: further types that are folded to their title here.
    """

    title: str
    types: tuple[str, ...]
    bars: tuple[str, ...] = ()


Column = tuple[int, tuple[Part, ...]]  # width, from top to bottom

_SIDE, _WIDE, _MIDDLE, _PICTURE, _TWO_PICTURES = 252, 280, 300, 384, 340  # px
_LISTEN = Part("Listen", ("SA3SaveAudio",))
_LOAD, _SOURCE, _TEXT = "SA3LoadModel", "LoadAudio", "SA3TextEncode"
_SOUNDS, _ENCODE, _TRAIN = "SA3AudioDataset", "SA3EncodeDataset", "SA3TrainLora"
_LORA, _KEEP, _SAVE = "SA3LoraLoader", "SA3SaveLora", "SA3SaveAudio"
_SAMPLER, _DECODE, _MASK = "SA3Sampler", "SA3SAMEDecode", "SA3InpaintMask"
_EMPTY = "SA3EmptyLatent"

_ALL_SOUNDS = (_SOUNDS, _ENCODE)
_THREE = (_SAMPLER,) * 3


def _four(
    model: tuple[str, ...], prompt: tuple[str, ...], make: tuple[str, ...], listen: Part = _LISTEN
) -> tuple[Column, ...]:
    """Model, what to make, make it, listen: a column each."""
    title = "Model and source" if _SOURCE in model else "Model"
    return (
        (_SIDE, (Part(title, model),)),
        (_MIDDLE, (Part("What to make", prompt),)),
        (_SIDE, (Part("Make it", make),)),
        (_SIDE, (listen,)),
    )


# By the workflow's name. Save Audio is the last of its column, because its cards need room, and
# begins in the upper half of the screen where titles stay readable so: the page's map lies over
# the lower right corner.
COLUMNS: dict[str, tuple[Column, ...]] = {
    "text_to_audio": _four((_LOAD, NOTE), (_TEXT, "SA3EmptyLatent"), (_SAMPLER, _DECODE)),
    "batch_of_prompts": _four(
        (_LOAD, NOTE),
        (_TEXT, "SA3EmptyLatent"),
        (_SAMPLER,),
        Part("Listen", (_DECODE, "SA3SplitAudioBatch", "SA3SaveAudio")),
    ),
    "audio_to_audio": _four((_LOAD, _SOURCE), (_TEXT, NOTE), ("SA3SAMEEncode", _SAMPLER, _DECODE)),
    "continue_audio": _four(
        (_LOAD, _SOURCE), (_TEXT, "SA3ContinueAudio"), (_SAMPLER, _DECODE, NOTE)
    ),
    "extend_long": _four((_LOAD, _SOURCE), (_TEXT, NOTE), ("SA3ExtendAudio",)),
    "loop": _four((_LOAD, _SOURCE), (_TEXT, "SA3Loop"), (_SAMPLER, _DECODE, NOTE)),
    "inpaint_one_region": (
        (_SIDE, (Part("Model and source", (_LOAD, _SOURCE, "SA3SAMEEncode")),)),
        (_PICTURE, (Part("Where", (_MASK, NOTE)),)),
        (288, (Part("What to make", (_TEXT, _SAMPLER, _DECODE)),)),
        (_SIDE, (_LISTEN,)),
    ),
    "inpaint_several_regions": (
        (_SIDE, (Part("Model and source", (_LOAD, _SOURCE, NOTE)),)),
        (
            _TWO_PICTURES,
            (Part("Where", (_MASK,)), Part("Make it", (_SAMPLER, _DECODE), (_SAMPLER,))),
        ),
        (_TWO_PICTURES, (Part("And where", (_MASK,)),)),
        (_SIDE, (Part("What to make", (_TEXT,)), _LISTEN)),
    ),
    "two_loras": (
        (_WIDE, (Part("Model and LoRAs", (_LOAD, NOTE)),)),
        (_WIDE, (Part("Model and LoRAs", ("SA3LoraLoader", "SA3LoraLoader")),)),
        (_MIDDLE, (Part("What to make", (_TEXT, "SA3EmptyLatent")),)),
        (_WIDE, (Part("Make it", (_SAMPLER, _DECODE), bars=(_SAMPLER,)), _LISTEN)),
    ),
    "train_lora": (
        (216, (Part("Model", (_LOAD, NOTE)),)),
        (256, (Part("Recordings", (_SOUNDS, _ENCODE), bars=(_ENCODE,)),)),
        (244, (Part("Learn", (_KEEP, _TRAIN), bars=(_KEEP,)),)),
        (216, (Part("What to make", (_EMPTY, _LORA, _TEXT), (_EMPTY,)),)),
        (216, (Part("Make it", (_SAMPLER, _DECODE), (_SAMPLER,)), _LISTEN)),
    ),
    "compare_lora": (
        (216, (Part("Model and clips", (_LOAD, _SOUNDS, _ENCODE, NOTE), _ALL_SOUNDS),)),
        (254, (Part("Learn", (_TRAIN,)),)),
        (216, (Part("Settings", (_EMPTY, _LORA, _LORA), (_EMPTY,)),)),
        (216, (Part("Make it", (_TEXT, *_THREE, *[_DECODE] * 3), _THREE),)),
        (246, (Part("Listen", (_SAVE, "SA3CompareAudio"), (_SAVE,)),)),
    ),
}


def columns_of(name: str) -> list[dict[str, Any]]:
    """A workflow's columns as the page's script takes them."""
    return [
        {
            "width": width,
            "parts": [
                {
                    "title": part.title,
                    "members": [[kind, kind in (*BARS, *part.bars)] for kind in part.types],
                }
                for part in parts
            ],
        }
        for width, parts in COLUMNS[name]
    ]
