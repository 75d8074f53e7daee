"""What the example workflows ask in the page's app mode: a form of a few inputs, and one result."""

from __future__ import annotations

from typing import Any

RESULT = "SA3SaveAudio"
_SOURCE = ("LoadAudio", "audio")
_PROMPT = ("SA3TextEncode", "text")
_SEED = ("SA3Sampler", "seed")
_MODEL = ("SA3LoadModel", "model")
_LEARN = (
    ("SA3AudioDataset", "folder"),
    ("SA3TrainLora", "name"),
    ("SA3TrainLora", "preset"),
    ("SA3TrainLora", "steps"),
)

# Inputs by the workflow's name: (node type, widget), in the order of the form.
FORMS: dict[str, tuple[tuple[str, str], ...]] = {
    "text_to_audio": (_PROMPT, ("SA3EmptyLatent", "seconds"), _SEED, _MODEL),
    "batch_of_prompts": (
        _PROMPT,
        ("SA3EmptyLatent", "durations"),
        ("SA3Sampler", "seeds"),
        _MODEL,
    ),
    "audio_to_audio": (_SOURCE, _PROMPT, ("SA3Sampler", "denoise"), _SEED, _MODEL),
    "inpaint_one_region": (_SOURCE, ("SA3InpaintMask", "regions"), _PROMPT, _SEED, _MODEL),
    "inpaint_several_regions": (
        _SOURCE,
        ("SA3InpaintMask", "regions"),
        ("SA3InpaintMask", "bpm"),
        _PROMPT,
        _SEED,
        _MODEL,
    ),
    "continue_audio": (
        _SOURCE,
        _PROMPT,
        ("SA3ContinueAudio", "seconds"),
        ("SA3ContinueAudio", "where"),
        _SEED,
        _MODEL,
    ),
    "extend_long": (
        _SOURCE,
        _PROMPT,
        ("SA3ExtendAudio", "seconds"),
        ("SA3ExtendAudio", "seed"),
        _MODEL,
    ),
    "loop": (_SOURCE, _PROMPT, ("SA3Loop", "bars"), ("SA3Loop", "bpm"), _SEED, _MODEL),
    "two_loras": (
        _PROMPT,
        ("SA3LoraLoader", "lora"),
        ("SA3LoraLoader", "strength"),
        ("SA3EmptyLatent", "seconds"),
        _SEED,
        _MODEL,
    ),
    "train_lora": (*_LEARN, _PROMPT, _SEED, _MODEL),
    "compare_lora": (*_LEARN, _PROMPT, ("SA3LoraLoader", "strength"), _SEED, _MODEL),
}


def form_of(name: str, workflow: dict[str, Any]) -> dict[str, Any]:
    """The form as the page keeps it: pairs of node id and widget, and ids of nodes with results.

    A type that stands several times in a workflow is asked for each of its nodes.
    """
    nodes = sorted(workflow["nodes"], key=lambda node: node["id"])
    asked = [
        [node["id"], widget]
        for kind, widget in FORMS[name]
        for node in nodes
        if node["type"] == kind
    ]
    return {
        "inputs": asked,
        "outputs": [node["id"] for node in nodes if node["type"] == RESULT],
    }
