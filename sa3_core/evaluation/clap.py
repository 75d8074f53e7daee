"""LAION's CLAP, fused, by transformers: the model 630k-audioset-fusion-best of the papers' tool."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .extractor import EXTRACTORS, MissingExtractorError

_PUBLISHED = "laion/clap-htsat-fused"
_FOLDER = "clap-htsat-fused"
_TEXT_TOKENS = 77  # the rest of a prompt is cut off, as LAION's own code does
_SEED = 0  # of the three 10 s pieces that it hears of longer sounds


class ClapExtractor:
    """CLAP as an extractor of sounds and texts.

    Attributes:
        sample_rate: 48000 Hz.
    """

    sample_rate = 48000

    def __init__(self, folder: str, device: torch.device) -> None:
        """Read model, tokenizer and the sounds' preparation; never from the network.

        Raises:
            OSError: something is not there.
        """
        from transformers import AutoFeatureExtractor, AutoTokenizer, ClapModel

        self._device = device
        self._model: Any = ClapModel.from_pretrained(folder, local_files_only=True)
        self._model.eval().to(device)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._features: Any = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)

    @torch.inference_mode()
    def embed(self, audio: np.ndarray) -> np.ndarray:
        """[1, D] of one channel; the same each time."""
        before = np.random.get_state()
        np.random.seed(_SEED)
        try:
            inputs = self._features(audio, sampling_rate=self.sample_rate, return_tensors="pt")
        finally:
            np.random.set_state(before)
        return _rows(self._model.get_audio_features(**inputs.to(self._device)))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """[n, D]."""
        rows = []
        for text in texts:
            inputs = self._tokenizer(
                [text],
                padding="max_length",
                truncation=True,
                max_length=_TEXT_TOKENS,
                return_tensors="pt",
            )
            rows.append(_rows(self._model.get_text_features(**inputs.to(self._device))))
        return np.concatenate(rows)


def _rows(output: Any) -> np.ndarray:
    """Embeddings, which newer transformers wrap."""
    found = output if isinstance(output, torch.Tensor) else output.pooler_output
    return found.float().cpu().numpy()


@EXTRACTORS.add("clap")
def load_clap(folder: Path | None, device: torch.device) -> ClapExtractor:
    """The model in the folder, or in Hugging Face's cache if it is there.

    Raises:
        MissingExtractorError: it is in neither.
    """
    place = _PUBLISHED if folder is None else str(folder / _FOLDER)
    try:
        return ClapExtractor(place, device)
    except (OSError, ValueError) as error:
        where = "the cache" if folder is None else place
        to = "" if folder is None else f" --local-dir {place}"
        raise MissingExtractorError(
            f"The CLAP score needs {_PUBLISHED} (Apache-2.0), which is not whole in {where}. Get "
            f"it with: hf download {_PUBLISHED}{to}"
        ) from error
