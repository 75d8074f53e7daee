"""What a node can do, the command line can: every input has a flag, or a reason for having none."""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any

from sa3_core.cli.arguments import build_parser
from tests.helpers.in_process import node_classes
from tests.helpers.support import assert_none

SOCKETS = ("MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "AUDIO", "SA3_REGIONS", "*")
COMMANDS = {  # node -> command that does the same
    "SA3LoadModel": "generate",
    "SA3TextEncode": "generate",
    "SA3EmptyLatent": "generate",
    "SA3Sampler": "generate",
    "SA3InpaintMask": "generate",
    "SA3ContinueAudio": "generate",
    "SA3ExtendAudio": "generate",
    "SA3Loop": "generate",
    "SA3PasteBack": "generate",
    "SA3LoraLoader": "generate",
    "SA3SaveAudio": "generate",
    "SA3LoadSAME": "encode",
    "SA3SAMEEncode": "encode",
    "SA3SAMEDecode": "decode",
    "SA3SaveModel": "merge",
    "SA3JobFromManifest": "generate",
}
NO_COMMAND = {
    "SA3Scheduler": "a part of SA3 Sampler, for SamplerCustomAdvanced",
    "SA3SamplerSelect": "a part of SA3 Sampler, for SamplerCustomAdvanced",
    "SA3PromptBuilder": "writes a text; --prompt takes any",
    "SA3LoraStack": "six LoRA Loaders in one; --lora may be repeated",
    "SA3SaveLatents": "--latents-out and `encode` write latent files",
    "SA3LoadLatents": "`decode` reads latent files",
    "SA3SplitAudioBatch": "items are files of their own",
    "SA3LookAudio": "draws a picture in the page",
    "SA3CompareAudio": "plays in the page",
    "SA3MeasureAudio": "`measure`, whose flags are about files: --seam for regions",
    "SA3AudioDataset": "`pre-encode` reads a folder, with flags of its own",
    "SA3EncodeDataset": "`pre-encode` writes the folder",
    "SA3TrainLora": "`train`, with the reference's names of flags",
    "SA3SaveLora": "`train` writes the file",
}
NAMES = {  # input -> flag, where the flag cannot be called as the input
    "SA3TextEncode.text": "--prompt",
    "SA3EmptyLatent.durations": "--seconds",
    "SA3ContinueAudio.seconds": "--add",
    "SA3ExtendAudio.seconds": "--add",
    "SA3LoraLoader.interval_start": "--lora-interval",
    "SA3LoraLoader.interval_end": "--lora-interval",
    "SA3InpaintMask.feather_ms": "--crossfade-ms",
    "SA3SaveAudio.filename_prefix": "--out",
    "SA3SaveAudio.format": "--bits",
    "SA3SaveModel.filename_prefix": "--out",
    "SA3LoadSAME.autoencoder": "--model",
    "SA3JobFromManifest.manifest": "--from",
    "SA3JobFromManifest.folder": "--out",
    "SA3JobFromManifest.format": "--format",
}
NO_FLAG = {
    "SA3LoadModel.download_from": "`sa3 download` gets models; generating never downloads",
    "SA3LoadSAME.download_from": "`sa3 download` gets models; encoding never downloads",
    "SA3TextEncode.one_prompt_per_line": "--prompt takes several",
    "SA3EmptyLatent.batch_size": "as many --seed as items",
    "SA3EmptyLatent.length_in": "--bars or --seconds is given",
    "SA3Loop.length_in": "--bars or --seconds is given",
    "SA3InpaintMask.earlier_regions": "one command has one mask",
    "SA3SAMEEncode.headroom": "`encode` writes the piece alone; `generate` has --headroom",
    "SA3SAMEDecode.keep_source_exactly": "a latent file carries no source; `generate` pastes",
    "SA3SAMEDecode.crossfade_ms": "a latent file carries no source; `generate` pastes",
    "SA3Sampler.live_preview": "a picture in the page",
    "SA3LoraLoader.trained": "trained in the same graph; `train` writes a file for --lora",
}


def flags_of(command: str) -> set[str]:
    """Every option string of a command."""
    parser = build_parser()
    (choices,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {flag for action in choices.choices[command]._actions for flag in action.option_strings}


def inputs_of(pack: ModuleType) -> list[tuple[str, Any]]:
    return [
        (schema.node_id, entry)
        for schema in (node.define_schema() for node in node_classes(pack))
        for entry in schema.inputs
    ]


def test_every_node_has_a_command_or_a_reason(pack):
    ids = {node for node, _ in inputs_of(pack)}
    assert ids == {*COMMANDS, *NO_COMMAND}


def test_every_input_has_a_flag_or_a_reason(pack):
    problems, named = [], set()
    for node, entry in inputs_of(pack):
        where = f"{node}.{entry.id}"
        if node not in COMMANDS or entry.io_type in SOCKETS or where in NO_FLAG:
            named.add(where)
            continue
        named.add(where)
        flag = NAMES.get(where, f"--{entry.id.replace('_', '-')}")
        if flag not in flags_of(COMMANDS[node]):
            problems.append(f"{where}: {COMMANDS[node]} has no {flag}")
    assert_none(problems)
    assert {*NAMES, *NO_FLAG} <= named, "an entry of the tables is no input"


def test_a_flags_choices_are_the_inputs(pack):
    parser = build_parser()
    (choices,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    actions = {
        (command, flag): action
        for command, sub in choices.choices.items()
        for action in sub._actions
        for flag in action.option_strings
    }
    problems = []
    for node, entry in inputs_of(pack):
        if f"{node}.{entry.id}" in NAMES:  # a flag of that name is something else
            continue
        action = actions.get((COMMANDS.get(node, ""), f"--{entry.id.replace('_', '-')}"))
        options = getattr(entry, "options", None)
        if action is None or action.choices is None or options is None:
            continue
        words = {"end": "at the end", "start": "before the start"}
        allowed = {words.get(choice, choice) for choice in action.choices}
        if allowed != set(options):
            problems.append(f"{node}.{entry.id}: {sorted(allowed ^ set(options))}")
    assert_none(problems)
