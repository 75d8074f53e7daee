"""Audio files through PyAV: exact where the container can be, whole or not there at all."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from torch import Tensor

from ..errors import AudioError
from ..files.names import name_fault, short_name
from ..files.whole_file import Place, WholeFile, name_of, whole_file, write_failure
from .carried import CONTAINERS, carry
from .checksum import differs_from_checksum
from .downmix import LAYOUTS, to_stereo
from .formats import AudioFormat
from .short import check_whole
from .sink import output_container
from .waveform import as_batch, check_rate, peak, resample

_log = logging.getLogger(__name__)

MAX_DECODED_BYTES = 4e9  # of one file: 3.1 h of stereo at 44.1 kHz
_BLOCK = 65536  # samples handed to the encoder at once
_MOST_PER_CHANNEL = {"libopus": 256_000}  # bit/s; the encoder refuses more
_ESTIMATE = 0.5  # seconds by which a length may be off that is an estimate
_WAV_BYTES = 2**32 - 2**20  # lengths in a WAV have 32 bits
# Containers that state their length: slack in seconds.
_EXACT_LENGTH = {"flac": 0.0, "ogg": 0.1, "aiff": 0.0, "au": 0.0}


@dataclass(frozen=True)
class WriteReport:
    """What became of a waveform.

    Attributes:
        path: the file.
        clipped: how many samples were beyond what the format holds and cut off there.
        peak: largest absolute sample that was given.
        samples: length of the file in samples per channel, at `sample_rate`.
        sample_rate: of the file; differs from the waveform's where the format demands it.
    """

    path: Path
    clipped: int
    peak: float
    samples: int
    sample_rate: int


def read_audio(path: Path, most: float = MAX_DECODED_BYTES) -> tuple[Tensor, int]:
    """Decode the first audio stream of any file FFmpeg knows (video too).

    Args:
        path: the file.
        most: bytes that its samples may take; a small file can hold hours of silence.

    Returns:
        ([A, N] float32, sample rate in Hz); integer samples are divided by their full scale.

    Raises:
        AudioError: the file is missing, unreadable, damaged, too long or has no sound in it.
    """
    audio, rate, _ = _read(path, most)
    return audio, rate


def read_source(path: Path) -> tuple[Tensor, int, str]:
    """Decode a file as `read_audio` does, mixed down to stereo by the file's own layout.

    Returns:
        [1 or 2, N] float32, sample rate in Hz, and what was done to the channels ("" = nothing).
    """
    audio, rate, layout = _read(path, MAX_DECODED_BYTES)
    mixed, note = to_stereo(audio, layout)
    return mixed, rate, note


def _read(path: Path, most: float) -> tuple[Tensor, int, tuple[str, ...]]:
    """Samples [A, N], sample rate in Hz and names of the channels."""
    if fault := name_fault(path):
        raise AudioError(f"The path {short_name(path)!r} {fault}. Check it.")
    if not path.is_file():
        raise AudioError(f"There is no audio file {str(path)!r}. Check the path.")
    try:
        check_whole(path)
    except OSError as error:
        raise _damaged(path, str(error)) from error
    try:
        # Tags in another alphabet than UTF-8 are nobody's reason not to hear the sound.
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.audio:
                raise AudioError(f"{path.name} holds no audio. Choose a file with sound in it.")
            stream = container.streams.audio[0]
            stated = float(stream.duration * stream.time_base) if stream.duration else 0.0
            if 4 * stated * stream.rate * stream.channels > most:
                raise _too_long(path, stated, most)
            blocks, bad_packets = _decode(container, stream, path, most)
            rate, layout = stream.rate, tuple(channel.name for channel in stream.layout.channels)
            kind = container.format.name
    except (FFmpegError, OSError) as error:
        raise _damaged(path, str(error)) from error
    if not blocks:
        raise AudioError(f"{path.name} holds no audio samples. Choose a file with sound in it.")
    if len({len(block) for block in blocks}) > 1:
        raise AudioError(
            f"{path.name} changes its number of channels midway. Convert it to WAV or FLAC first."
        )
    audio = np.concatenate(blocks, axis=1)
    found, slack = audio.shape[1] / rate, _EXACT_LENGTH.get(kind)
    if slack is not None and stated - found > slack + 0.5 / rate:
        raise _damaged(path, f"only {found:.2f} of its {stated:.2f} s can be decoded")
    if kind == "flac" and differs_from_checksum(path, audio):
        raise _damaged(path, "its sound differs from the checksum in it")
    if stated - found > _ESTIMATE + 0.02 * stated:
        _log.warning(
            "%s says that it lasts %.2f s, but only %.2f s of sound are in it; is it cut short?",
            path.name,
            stated,
            found,
        )
    elif bad_packets:  # what other containers state is often an estimate
        _log.warning("%s: parts of it cannot be decoded; %.2f s were read.", path.name, found)
    return torch.from_numpy(audio), rate, layout


def _decode(
    container: InputContainer, stream: av.AudioStream, path: Path, most: float
) -> tuple[list[np.ndarray], int]:
    """All decodable frames [A, n], and how many packets were not (tags after an MP3, damage).

    Raises:
        AudioError: the frames take more than `most` bytes, whatever the file says of its length.
    """
    blocks: list[np.ndarray] = []
    bad_packets = size = 0
    for packet in container.demux(stream):
        try:
            for frame in packet.decode():
                blocks.append(_samples(frame))
                size += blocks[-1].nbytes
        except InvalidDataError:
            bad_packets += 1
        if size > most:
            seconds = sum(block.shape[1] for block in blocks) / stream.rate
            raise _too_long(path, seconds, most)
    return blocks, bad_packets


def _too_long(path: Path, seconds: float, most: float) -> AudioError:
    return AudioError(
        f"{path.name} lasts {seconds:.0f} s or more; its samples would take more than "
        f"{most / 1e9:g} GB, the most that is decoded at once. Cut it into shorter files."
    )


def _damaged(path: Path, detail: str) -> AudioError:
    return AudioError(
        f"{path.name} cannot be read: {detail}. The file is damaged or of an unknown kind; try to "
        "open it in a player or convert it to WAV or FLAC."
    )


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """One decoded frame as float32 [A, n]."""
    channels = frame.layout.nb_channels
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T  # (1, n A) -> (A, n)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":  # exact up to 24 bits, correctly rounded beyond
        return (samples / 2.0 ** (8 * samples.dtype.itemsize - 1)).astype(np.float32)
    return samples.astype(np.float32)


def write_audio(
    place: Place,
    waveform: Tensor,
    sample_rate: int,
    audio_format: AudioFormat,
    tags: Mapping[str, str] | None = None,
) -> WriteReport:
    """Write one waveform; a failure leaves nothing behind.

    Integer formats hold round(x * 2^(bits - 1)), clamped, without dither. Float WAV holds the
    samples bit for bit. MP3 and Opus get the samples up to 64 times full scale, which is more than
    any sound has and less than what ends the encoder, resampled where they must be.

    Args:
        place: the file, in an existing folder, which is replaced; or a name to be claimed.
        waveform: [A, N], full scale at 1.0.
        sample_rate: of the waveform, in Hz.
        audio_format: one of FORMATS.
        tags: name -> text, e.g. prompt and workflow. In WAV and M4A they lie behind the sound, see
            `carried`; the usual ones (title, ...) are where players look for them, too.

    Raises:
        AudioError: samples that are no numbers, too many channels, or the file cannot be written.
    """
    if waveform.ndim != 2:
        raise AudioError(
            f"The audio to save has the shape {list(waveform.shape)}; it must be [channels, "
            "samples]. Save the items of a batch one by one."
        )
    audio = as_batch(waveform.detach().cpu())[0]
    rate = _check_fits(audio, check_rate(sample_rate), audio_format)
    level, limit = peak(audio), audio_format.max_peak
    clipped = 0 if limit is None else int((audio.abs() > limit).sum())
    if clipped and limit is not None:
        audio = audio.clamp(-limit, limit)
    audio = resample(audio, sample_rate, rate)
    embedded = _embeddable(name_of(place), audio_format, tags or {})
    with _whole_file(place) as whole:
        _encode(whole.file, audio, rate, audio_format, embedded)
        if embedded and audio_format.container in CONTAINERS:
            carry(whole.file, audio_format.container, embedded)
    return WriteReport(whole.path, clipped, level, audio.shape[-1], rate)


def _check_fits(audio: Tensor, sample_rate: int, audio_format: AudioFormat) -> int:
    """The file's sample rate, once the format is known to hold audio [A, N]."""
    channels, samples = audio.shape
    if channels > audio_format.max_channels:
        raise AudioError(
            f"The audio has {channels} channels; {audio_format.label} holds at most "
            f"{audio_format.max_channels}. Mix it down, or save it as WAV or FLAC (up to 8 "
            "channels)."
        )
    rate = audio_format.rate_for(sample_rate)
    if rate > audio_format.max_rate:
        raise AudioError(
            f"The audio's sample rate is {rate} Hz; {audio_format.label} holds at most "
            f"{audio_format.max_rate} Hz. Resample it, or save it as WAV."
        )
    size = channels * samples * (audio_format.bits or 32) // 8
    if audio_format.container == "wav" and size > _WAV_BYTES:
        raise AudioError(
            f"The audio needs {size / 1e9:.1f} GB; a WAV file holds at most 4.2 GB. Save it as "
            "FLAC, or cut it into pieces."
        )
    return rate


def _encode(
    file: BinaryIO,
    audio: Tensor,
    rate: int,
    audio_format: AudioFormat,
    tags: Mapping[str, str],
) -> None:
    """Encode [A, N] into an open file."""
    layout = LAYOUTS[len(audio)][0]
    sample_format = audio_format.sample_format
    with output_container(file, audio_format.container) as container:
        container.metadata.update(tags)
        stream = container.add_stream(audio_format.codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.format = sample_format
        if audio_format.bit_rate is not None:
            most = _MOST_PER_CHANNEL.get(audio_format.codec, audio_format.bit_rate) * len(audio)
            stream.codec_context.bit_rate = min(audio_format.bit_rate, most)
        elif audio_format.bits is None:
            stream.codec_context.qscale = True  # variable bit rate; LAME's default then is V0
        start = 0
        for block in audio.split(_BLOCK, dim=-1):
            samples = _stored(block, audio_format.bits)
            if not sample_format.endswith("p"):
                samples = samples.T.reshape(1, -1)  # (A, n) -> (1, n A), channels interleaved
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples.numpy()), format=sample_format, layout=layout
            )
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
            start += block.shape[-1]
        container.mux(stream.encode(None))


def _stored(block: Tensor, bits: int | None) -> Tensor:
    """Samples as the encoder takes them: 24 bits are the upper ones of 32."""
    if bits is None:
        return block
    full = 2.0 ** (bits - 1)
    whole = (block * full).round().clamp(-full, full - 1)  # all exact in float32
    return whole.to(torch.int16) if bits == 16 else whole.to(torch.int32) << (32 - bits)


@contextmanager
def _whole_file(place: Place) -> Iterator[WholeFile]:
    """A file that appears under its name only when the block ends well; says why it did not."""
    try:
        with whole_file(place) as whole:
            yield whole
    except (OSError, FFmpegError) as error:
        raise AudioError(write_failure(place, error)) from error


def sidecar_needed(audio_format: AudioFormat, tags: Mapping[str, str]) -> bool:
    """Tell whether a file of this format would not give all tags back to ComfyUI's frontend."""
    return bool(tags) and _size(tags) > audio_format.tag_bytes


def write_sidecar(path: Path, tags: Mapping[str, str]) -> Path:
    """Write the tags of an audio file beside it, as `<file>.json`.

    Dropped on ComfyUI's canvas it restores the graph, as the audio file itself would: it is the
    workflow with the other tags under extra.sa3_tags, or the prompt alone where there is no
    workflow (the others then under _meta of its first node), or else plain tags.

    Args:
        path: the audio file.
        tags: as given to write_audio; JSON texts are stored as JSON, others as strings.

    Returns:
        The path of the JSON file.

    Raises:
        AudioError: the file cannot be written.
    """
    values = {name: _parsed(text) for name, text in tags.items()}
    text = json.dumps(_droppable(values), indent=1)
    sidecar = path.with_name(path.name + ".json")
    with _whole_file(sidecar) as whole:
        whole.file.write(text.encode())
    return sidecar


def _droppable(values: dict[str, Any]) -> dict[str, Any]:
    """Arrange tags so that the whole is a graph that the frontend opens."""
    workflow, prompt = values.get("workflow"), values.get("prompt")
    if isinstance(workflow, dict):
        others = {name: value for name, value in values.items() if name != "workflow"}
        extra = workflow.get("extra") or {}
        return {**workflow, "extra": {**extra, "sa3_tags": others}} if others else workflow
    if isinstance(prompt, dict) and prompt and all(isinstance(n, dict) for n in prompt.values()):
        others = {name: value for name, value in values.items() if name != "prompt"}
        first, node = next(iter(prompt.items()))
        meta = {**(node.get("_meta") or {}), "sa3_tags": others}
        return {**prompt, first: {**node, "_meta": meta}} if others else prompt
    return values


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _size(tags: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(text.encode()) for name, text in tags.items())


def _embeddable(
    path: Path, audio_format: AudioFormat, tags: Mapping[str, str]
) -> Mapping[str, str]:
    """The tags, but none where the file cannot hold them (FLAC would come out broken)."""
    strict = audio_format.container in ("flac", *CONTAINERS)
    if strict and _size(tags) > audio_format.tag_bytes:
        kind = audio_format.label
        _log.warning("%s: %d bytes of tags do not fit into %s.", path.name, _size(tags), kind)
        return {}
    return tags
