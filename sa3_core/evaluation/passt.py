"""PaSST's logits of AudioSet's 527 classes, by the published package hear21passt."""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .extractor import EXTRACTORS, MissingExtractorError

_ARCHITECTURE = "passt_s_swa_p16_128_ap476"
_WEIGHTS = "passt-s-f128-p16-s10-ap.476-swa.pt"
_RELEASE = "https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset"
_IN_HUB = "checkpoints"  # where torch's hub keeps what packages load by its help


class PasstExtractor:
    """PaSST as an extractor: one row of logits for a window of up to 10 s.

    Attributes:
        sample_rate: 32000 Hz.
    """

    sample_rate = 32000

    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        self._model, self._device = model.eval().to(device), device

    @torch.no_grad()
    def embed(self, audio: np.ndarray) -> np.ndarray:
        """Logits [1, 527]."""
        with _quiet():
            logits = self._model(torch.from_numpy(audio)[None].to(self._device))
        return logits.reshape(1, -1).float().cpu().numpy()


@EXTRACTORS.add("passt")
def load_passt(folder: Path | None, device: torch.device) -> PasstExtractor:
    """Weights in the folder, or in torch's hub where the package keeps them.

    Raises:
        MissingExtractorError: the weights or the package are not there.
    """
    hub = Path(torch.hub.get_dir()) / _IN_HUB
    weights = (hub if folder is None else folder) / _WEIGHTS
    if not weights.is_file():
        raise MissingExtractorError(
            f"KL-passt needs PaSST's weights. Download {_RELEASE}/{_WEIGHTS} (Apache-2.0) into "
            f"{f'{hub}, or into a folder and name it' if folder is None else folder}."
        )
    try:
        with _quiet():
            from hear21passt.base import get_basic_model  # pyright: ignore[reportMissingImports]
            from hear21passt.models.passt import (  # pyright: ignore[reportMissingImports]
                default_cfgs,
            )
    except ImportError as error:
        raise MissingExtractorError(
            f"KL-passt needs the package hear21passt (Apache-2.0; {error}). Install the extra with "
            "pip install '.[evaluate]'."
        ) from error
    if not default_cfgs[_ARCHITECTURE]["url"].endswith(f"/{_WEIGHTS}"):
        raise MissingExtractorError(
            f"This hear21passt loads other weights than {_WEIGHTS}. Install 0.0.26."
        )
    with _quiet(), _hub_with(weights):
        model: Any = get_basic_model(arch=_ARCHITECTURE, mode="logits")
    return PasstExtractor(model, device)


@contextlib.contextmanager
def _hub_with(weights: Path) -> Iterator[None]:
    """Torch's hub holds the weights meanwhile, so that the package finds them and fetches none."""
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / _IN_HUB / weights.name
        place.parent.mkdir()
        try:
            os.link(weights, place)
        except OSError:  # on another disk
            shutil.copyfile(weights, place)
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The package prints the shapes of what it does; stdout is for results."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
