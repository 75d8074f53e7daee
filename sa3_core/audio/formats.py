"""The audio file formats that results can be saved in."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import AudioError
from ..registry import Registry
from .carried import MOST_BYTES

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATES = (48000,)
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_CARRIED = MOST_BYTES // 2  # of tags; JSON escapes make them longer
_LOSSY_PEAK = 64.0  # 36 dB above full scale; LAME ends the process at about 1e5


@dataclass(frozen=True)
class AudioFormat:
    """How samples and tags are stored.

    Attributes:
        label: the format's name in messages.
        suffix: of the file name, with the dot.
        container: FFmpeg's name of the file format.
        codec: FFmpeg's name of the encoder.
        sample_format: FFmpeg's name of the samples that the encoder is given.
        max_channels: most channels the container holds.
        tag_bytes: most bytes of tags that the page still finds in such a file.
        bits: of integer samples; None for float samples and lossy codecs, which do not clip.
        bit_rate: bits per second of a lossy codec; None for lossless ones and variable bit rate.
        rates: sample rates that the codec takes; empty: any up to `max_rate`.
        max_rate: highest sample rate in Hz that the container states.
    """

    label: str
    suffix: str
    container: str
    codec: str
    sample_format: str
    max_channels: int
    tag_bytes: int
    bits: int | None = None
    bit_rate: int | None = None
    rates: tuple[int, ...] = ()
    max_rate: int = 2**31 - 1

    @property
    def max_peak(self) -> float | None:
        """Largest absolute sample that can be encoded; what is beyond is clipped. None = any."""
        if self.bits is not None:
            return 1.0
        return _LOSSY_PEAK if self.rates else None

    def rate_for(self, sample_rate: int) -> int:
        """The file's sample rate: the given one, else the next higher (or the highest) allowed."""
        if not self.rates or sample_rate in self.rates:
            return sample_rate
        return min((rate for rate in self.rates if rate > sample_rate), default=self.rates[-1])


FORMATS: Registry[AudioFormat] = Registry("audio format")


def _add_lossless(name: str, label: str, codec: str, sample_format: str, bits: int | None) -> None:
    container = name.split("-")[0]
    # FLAC: a metadata block's length has 24 bits.
    tag_bytes = 2**24 - 2**16 if container == "flac" else _CARRIED
    max_rate = 2**20 - 1 if container == "flac" else 2**31 - 1
    FORMATS.add(name)(
        AudioFormat(
            label,
            f".{container}",
            container,
            codec,
            sample_format,
            8,
            tag_bytes,
            bits,
            max_rate=max_rate,
        )
    )


def _add_lossy(name: str, label: str, bit_rate: int | None) -> None:
    container = name.split("-")[0]
    if container == "mp3":
        codec, samples, rates, tag_bytes = "libmp3lame", "fltp", _MP3_RATES, 2**27
    elif container == "m4a":
        codec, samples, rates, tag_bytes = "aac", "fltp", _AAC_RATES, _CARRIED
    else:  # the frontend reads the first Ogg pages only, and page headers break long tags
        codec, samples, rates, tag_bytes = "libopus", "flt", _OPUS_RATES, 40_000
    FORMATS.add(name)(
        AudioFormat(
            label,
            f".{container}",
            "ipod" if container == "m4a" else container,  # FFmpeg's name of M4A
            codec,
            samples,
            2,
            tag_bytes,
            bit_rate=bit_rate,
            rates=rates,
        )
    )


_add_lossless("flac-16", "FLAC 16 bit", "flac", "s16", 16)
_add_lossless("flac-24", "FLAC 24 bit", "flac", "s32", 24)
_add_lossless("wav-16", "WAV 16 bit", "pcm_s16le", "s16", 16)
_add_lossless("wav-24", "WAV 24 bit", "pcm_s24le", "s32", 24)
_add_lossless("wav-32f", "WAV 32 bit float", "pcm_f32le", "flt", None)
_add_lossy("mp3-V0", "MP3 V0", None)
for _kbit in (128, 192, 320):
    _add_lossy(f"mp3-{_kbit}k", f"MP3 {_kbit} kbit/s", _kbit * 1000)
for _kbit in (64, 96, 128, 192, 320):
    _add_lossy(f"opus-{_kbit}k", f"Opus {_kbit} kbit/s", _kbit * 1000)

for _kbit in (128, 192, 256):
    _add_lossy(f"m4a-{_kbit}k", f"M4A (AAC) {_kbit} kbit/s", _kbit * 1000)

_BY_SUFFIX = {
    (".wav", None): "wav-32f",
    (".wav", 16): "wav-16",
    (".wav", 24): "wav-24",
    (".flac", None): "flac-24",
    (".flac", 16): "flac-16",
    (".flac", 24): "flac-24",
    (".mp3", None): "mp3-V0",
    (".opus", None): "opus-128k",
    (".m4a", None): "m4a-192k",
}


def format_for(path: Path, bits: int | None = None) -> AudioFormat:
    """Choose a format by a file name's suffix.

    Args:
        path: the file to write.
        bits: 16 or 24 for integer samples; None: float for WAV, 24 for FLAC.

    Raises:
        AudioError: an unknown suffix, or bits that the format does not have.
    """
    name = _BY_SUFFIX.get((path.suffix.lower(), bits))
    if name is not None:
        return FORMATS[name]
    if (path.suffix.lower(), None) not in _BY_SUFFIX:
        raise AudioError(
            f"{path.name} ends in {path.suffix!r}; audio is saved as .wav, .flac, .mp3, .opus or "
            ".m4a."
        )
    allowed = [str(b) for s, b in _BY_SUFFIX if s == path.suffix.lower() and b is not None]
    choice = f"{' or '.join(allowed)} bits" if allowed else "no bit depth (leave it out)"
    raise AudioError(f"{path.suffix} files cannot be saved with {bits} bits; allowed: {choice}.")
