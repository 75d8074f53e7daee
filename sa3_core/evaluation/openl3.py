"""OpenL3's audio network (mel256, 512 numbers) in torch, from the weights that OpenL3 publishes.

Source:
    openl3 0.4.2 (marl/openl3): openl3/models.py, openl3/core.py; resampy 0.2 (kaiser_best) and
    kapre 0.3.5 (mel spectrogram) as it calls them.
"""

import gzip
import importlib.util
import io
import itertools
import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor, nn

from .extractor import EXTRACTORS, MissingExtractorError

INPUT_RATE = 44100  # to which the papers' tool brings sounds first
_RATE, _WINDOW, _HOP = 48000, 48000, 24000  # samples; half a second apart
_FFT, _STEP, _MELS = 2048, 242, 256
_FLOOR, _RANGE_DB = 1e-10, 80.0
_CHANNELS = (64, 64, 128, 128, 256, 256, 512, 512)
_BATCH = 16
_ZEROS, _TABLE, _BETA, _ROLLOFF = 64, 512, 14.769656459379492, 0.9475937167399596
_RELEASE = "https://github.com/marl/openl3/raw/models"


class OpenL3(nn.Module):
    """The network from windows of one second to rows of 512 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.mel: Tensor
        self.shape: Tensor
        self.register_buffer("mel", torch.from_numpy(mel_bank()).float(), persistent=False)
        self.register_buffer("shape", torch.hann_window(_FFT), persistent=False)
        widths = (1, *_CHANNELS)
        pairs = itertools.pairwise(widths)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, eps=1e-3) for width in widths[:-1])

    def forward(self, audio: Tensor) -> Tensor:
        """[B, 48000] at 48 kHz -> [B, 512]."""
        x = self.norms[0](self.spectrogram(audio)[:, None])  # [B, 1, 256 mels, 199 frames]
        for place, conv in enumerate(self.convs):
            x = conv(x)
            if place + 1 < len(self.norms):
                x = torch.relu(self.norms[place + 1](x))
            if place in (1, 3, 5):
                x = nn.functional.max_pool2d(x, 2)
        return x.amax(dim=(2, 3))  # [B, 512, 32, 24] -> [B, 512]

    def spectrogram(self, audio: Tensor) -> Tensor:
        """[B, 48000] -> dB below the window's loudest, [B, mels, frames], down to -80."""
        frames = math.ceil(audio.shape[-1] / _STEP)
        padded = nn.functional.pad(audio, (0, (frames - 1) * _STEP + _FFT - audio.shape[-1]))
        pieces = padded.unfold(-1, _FFT, _STEP) * self.shape
        mels = torch.fft.rfft(pieces).abs() @ self.mel.T  # [B, frames, mels]
        levels = 10 * torch.log10(mels.clamp(min=_FLOOR))
        levels = levels - levels.amax(dim=(1, 2), keepdim=True)
        return levels.clamp(min=-_RANGE_DB).transpose(1, 2)


class OpenL3Extractor:
    """OpenL3 as an extractor: a row every half second.

    Attributes:
        sample_rate: 44100 Hz.
    """

    sample_rate = INPUT_RATE

    def __init__(self, network: OpenL3, device: torch.device) -> None:
        self._network, self._device = network.eval().to(device), device

    @torch.inference_mode()
    def embed(self, audio: np.ndarray) -> np.ndarray:
        """[frames, 512] of one channel; the first row is centred on its first sample."""
        sound = np.pad(upsampled(audio), (_WINDOW // 2, 0))
        count = 1 + max(0, math.ceil((len(sound) - _WINDOW) / _HOP))
        sound = np.pad(sound, (0, (count - 1) * _HOP + _WINDOW - len(sound)))
        pieces = torch.from_numpy(sound).unfold(0, _WINDOW, _HOP).split(_BATCH)
        rows = [self._network(piece.to(self._device)).cpu() for piece in pieces]
        return torch.cat(rows).numpy()


def upsampled(audio: np.ndarray) -> np.ndarray:
    """[N] from 44.1 to 48 kHz by resampy's kaiser_best of before 0.3."""
    up, down = _RATE // math.gcd(_RATE, INPUT_RATE), INPUT_RATE // math.gcd(_RATE, INPUT_RATE)
    made = resample_poly(audio.astype(np.float64), up, down, window=_kaiser_best(up) / up)
    return made[: int(len(audio) * (_RATE / INPUT_RATE))].astype(np.float32)


@cache
def _kaiser_best(up: int) -> np.ndarray:
    """The filter at `up` places per input sample, between the places of resampy's table."""
    places = np.linspace(0, _ZEROS, _ZEROS * _TABLE + 1)
    taper = np.kaiser(2 * _ZEROS * _TABLE + 1, _BETA)[_ZEROS * _TABLE :]
    table = _ROLLOFF * np.sinc(_ROLLOFF * places) * taper
    wanted = np.arange(_ZEROS * up) / up
    half = np.interp(wanted, places, table)
    return np.concatenate([[0.0], half[:0:-1], half, [0.0]])


@cache
def mel_bank() -> np.ndarray:
    """Triangles of Slaney's scale, each of area 1: [mels, bins]."""
    edges = _hertz(np.linspace(0, _mel(_RATE / 2), _MELS + 2))
    bins = np.linspace(0, _RATE / 2, _FFT // 2 + 1)
    ramps = edges[:, None] - bins
    widths = np.diff(edges)[:, None]
    rising, falling = -ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]
    area = 2 / (edges[2:] - edges[:-2])
    return np.maximum(0, np.minimum(rising, falling)) * area[:, None]


def _mel(hertz: float) -> float:
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + math.log(hertz / 1000) * 27 / math.log(6.4)


def _hertz(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * math.log(6.4) / 27))


def read_openl3(path: Path) -> OpenL3:
    """The network with the weights of a published file, `.h5` or `.h5.gz`.

    Raises:
        MissingExtractorError: h5py is not installed, or the file holds other weights.
    """
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtractorError(
            "Reading OpenL3's weights needs h5py. Install the extra with pip install '.[evaluate]'."
        ) from None
    network = OpenL3()
    try:
        packed = path.suffix == ".gz"
        with h5py.File(io.BytesIO(gzip.decompress(path.read_bytes())) if packed else path) as file:
            _fill(network, file)
    except (OSError, LookupError, ValueError, RuntimeError) as error:
        raise MissingExtractorError(
            f"{path.name} does not hold the weights of OpenL3's mel256 network ({error})."
        ) from error
    return network


def _fill(network: OpenL3, file: Any) -> None:
    """Weights in the order of their layers: a norm, then convolutions with norms between them."""
    found: dict[str, list[np.ndarray]] = {}
    for layer in _texts(file.attrs["layer_names"]):
        for name in _texts(file[layer].attrs["weight_names"]):
            kind = name.rpartition("/")[2].partition(":")[0]
            found.setdefault(kind, []).append(np.asarray(file[layer][name], np.float32))
    for place, conv in enumerate(network.convs):
        _copy(conv.weight, found["kernel"][place].transpose(3, 2, 0, 1))
        _copy(conv.bias, found["bias"][place])
    for place, norm in enumerate(network.norms):
        kinds = ("gamma", "beta", "moving_mean", "moving_variance")
        places = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        for kind, tensor in zip(kinds, places, strict=True):
            _copy(tensor, found[kind][place])
    if any(len(arrays) != len(network.convs) for arrays in found.values()):
        raise ValueError("another number of layers")


def _texts(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _copy(tensor: Any, values: np.ndarray) -> None:
    if tuple(tensor.shape) != values.shape:
        raise ValueError(f"a weight of {list(values.shape)}, not {list(tensor.shape)}")
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def _load(content: str, folder: Path | None, device: torch.device) -> OpenL3Extractor:
    """Weights in the folder, or beside an installed package openl3."""
    name = f"openl3_audio_mel256_{content}"
    published = f"{name}-v0_4_0.h5.gz"
    if folder is None:
        spec = importlib.util.find_spec("openl3")
        places = [Path(place) for place in spec.submodule_search_locations or ()] if spec else []
    else:
        places = [folder]
    for place in places:
        for path in (place / f"{name}.h5", place / f"{name}-v0_4_0.h5", place / published):
            if path.is_file():
                return OpenL3Extractor(read_openl3(path), device)
    raise MissingExtractorError(
        f"FD-openl3 needs OpenL3's weights. Download {_RELEASE}/{published} (CC BY 4.0) "
        f"into {'a folder, and name that' if folder is None else folder}."
    )


for _content in ("music", "env"):
    EXTRACTORS.add(f"openl3-{_content}")(partial(_load, _content))
