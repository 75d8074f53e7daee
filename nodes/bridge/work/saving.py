"""Saving audio into ComfyUI's output folder."""

import json
from typing import Any

from comfy.cli_args import args

from ....sa3_core.audio.downmix import to_stereo
from ....sa3_core.audio.file import WriteReport, sidecar_needed, write_audio, write_sidecar
from ....sa3_core.audio.formats import FORMATS
from ....sa3_core.audio.levels import Levels, set_levels
from ..sockets.riding import audio_batch
from .names import output_names

NODE = "Save Audio"
_AS_IT_IS = Levels()


def save(
    audio: Any, prefix: str, format_name: str, hidden: Any, levels: Levels = _AS_IT_IS
) -> tuple[list[dict[str, str]], list[str]]:
    """Write every item of an AUDIO.

    Args:
        audio: AUDIO, or None (a video without sound): an error.
        prefix: folder and name inside the output folder.
        format_name: a name of FORMATS.
        hidden: the node's hidden inputs (prompt and workflow).
        levels: what every item's loudness and peaks are brought to.

    Returns:
        The saved files as ComfyUI shows them, and sentences for the node.
    """
    batch = audio_batch(audio, NODE)
    form = FORMATS[format_name]
    tags = graph_tags(hidden)
    names = output_names(prefix, hidden)
    files, notes = [], batch.notes
    for index in range(len(batch.waveform)):
        samples, mixed = batch.item(index), ""
        if len(samples) > form.max_channels:
            samples, mixed = to_stereo(samples)
        samples, said = set_levels(samples, batch.rate, levels, form.max_peak is not None)
        report = write_audio(names.item(index, form.suffix), samples, batch.rate, form, tags)
        notes += [", ".join([_note(report), *said]), *([mixed] if mixed else [])]
        if tags and sidecar_needed(form, tags):
            beside = write_sidecar(report.path, tags)
            notes.append(f"{form.label} cannot carry the graph: it is in {beside.name}.")
        files.append({"filename": report.path.name, "subfolder": names.subfolder, "type": "output"})
    return files, notes


def graph_tags(hidden: Any) -> dict[str, str]:
    """`prompt` and `workflow` as JSON, unless the host was started with --disable-metadata."""
    if args.disable_metadata:
        return {}
    tags = {}
    if hidden.prompt is not None:
        tags["prompt"] = json.dumps(hidden.prompt)
    for key, value in (hidden.extra_pnginfo or {}).items():
        tags[key] = json.dumps(value)
    return tags


def _note(report: WriteReport) -> str:
    text = f"{report.path.name}: peak {report.peak:.3f}"
    if not report.clipped:
        return text
    samples = "1 sample" if report.clipped == 1 else f"{report.clipped} samples"
    return f"{text}, {samples} clipped"
