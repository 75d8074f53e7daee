"""What Measure Audio tells: the measures of each item, in words, numbers and one picture."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....sa3_core.errors import AudioError
from ....sa3_core.files.whole_file import whole_file, write_failure
from ....sa3_core.measures.clip import ClipMeasures, Request, bpm_of, measure_clip
from ....sa3_core.measures.summary import picture, table
from ..host.running import check_interrupted, chunk_reporter, intermediate
from ..sockets.riding import audio_batch
from .compare import region_seconds

NODE = "Measure Audio"
_SILENT_LUFS, _SILENT_PEAK = -70.0, -120.0


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        table: Markdown, over all items.
        lines: JSON of each item.
        lufs: of each item, as the three after it.
        true_peak: dBTP.
        bpm: 0 = no tempo.
        sound_end: seconds.
        image: the distributions, ComfyUI's IMAGE.
        file: the same as the node shows it.
        notes: sentences for the node.
    """

    table: str
    lines: list[str]
    lufs: list[float]
    true_peak: list[float]
    bpm: list[float]
    sound_end: list[float]
    image: Tensor
    file: dict[str, str]
    notes: list[str]


def measure_audio(
    audio: Any, regions: Any, prompt: str, seconds: float | None, bpm: float | None, loop: bool
) -> Measured:
    """Measure each item of an AUDIO.

    Args:
        audio: AUDIO, or None (a video without sound): an error.
        regions: SA3_REGIONS or None; their edges inside the sound are its seams.
        prompt: what was asked for.
        seconds: duration that was asked for; None = not told.
        bpm: tempo that was asked for; None = the prompt's.
        loop: the sound is to repeat.

    Raises:
        AudioError: no sound, or the picture cannot be written.
    """
    batch = audio_batch(audio, NODE)
    asked = bpm if bpm is not None else bpm_of(prompt)
    report = chunk_reporter()
    clips: list[ClipMeasures] = []
    for index in range(len(batch.waveform)):
        check_interrupted()
        item = batch.item(index).cpu()
        length = item.shape[-1] / batch.rate
        edges = {edge for pair in region_seconds(regions, index) for edge in pair}
        seams = tuple(sorted(edge for edge in edges if 0 < edge < length))
        request = Request(seconds, asked, seams, loop)
        clips.append(measure_clip(item, batch.rate, request))
        report(index + 1, len(batch.waveform))
    drawn = picture(clips)
    pixels = torch.from_numpy(np.asarray(drawn, dtype=np.float32) / 255)[None]
    return Measured(
        table=table(clips),
        lines=[json.dumps({"item": n, **clip.as_dict()}) for n, clip in enumerate(clips)],
        lufs=[_finite(clip.lufs, _SILENT_LUFS) for clip in clips],
        true_peak=[_finite(clip.true_peak, _SILENT_PEAK) for clip in clips],
        bpm=[_finite(clip.bpm, 0.0) for clip in clips],
        sound_end=[_finite(clip.sound_end, 0.0) for clip in clips],
        image=intermediate(pixels),
        file=_save(drawn),
        notes=[*batch.notes, *_told(clips)],
    )


def _finite(value: float | None, otherwise: float) -> float:
    """A number that stock nodes can compute with."""
    return value if value is not None and np.isfinite(value) else otherwise


def _told(clips: list[ClipMeasures]) -> list[str]:
    """A line for each item."""
    names = [f"item {number + 1}: " if len(clips) > 1 else "" for number in range(len(clips))]
    return [f"{name}{describe(clip)}" for name, clip in zip(names, clips, strict=True)]


def describe(clip: ClipMeasures) -> str:
    """What is worth reading of a clip, in a line."""
    parts = [f"{clip.seconds:.2f} s"]
    if clip.duration_error is not None:
        parts.append(f"{clip.duration_error:+.2f} s against what was asked")
    if clip.not_finite:
        return ", ".join([*parts, f"{clip.not_finite} samples are NaN or infinite"])
    if clip.sound_end == 0:
        return ", ".join([*parts, "silence"])
    if clip.trailing_silence:
        parts.append(f"sound ends at {clip.sound_end:.2f} s")
    for value, text in (
        (clip.lufs, "{:.1f} LUFS"),
        (clip.true_peak, "true peak {:.1f} dBTP"),
        (clip.clipped or None, "{} samples clipped"),
        (clip.correlation if clip.channels > 1 else None, "stereo correlation {:.2f}"),
        (clip.bpm, "{:.1f} BPM"),
        (clip.tempo_error, "tempo {:+.1%} against what was asked"),
        (clip.key, "{}"),
        (clip.seam_jump, "seam jump {:.2f}"),
        (clip.loop_jump, "loop jump {:.2f}"),
        (clip.bandwidth, "bandwidth {:.0f} Hz"),
    ):
        if value is not None:
            parts.append(text.format(value))
    return ", ".join(parts)


def _save(drawn: Image.Image) -> dict[str, str]:
    """Write the picture where the page finds it."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"sa3_measures_{uuid.uuid4().hex}.png"
    try:
        with whole_file(place) as whole:
            drawn.save(whole.file, format="PNG", compress_level=4)
    except OSError as error:
        raise AudioError(write_failure(place, error)) from error
    return {"filename": whole.path.name, "subfolder": "", "type": "temp"}
