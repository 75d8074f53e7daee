"""Pieces that `sa3 train` makes with each checkpoint: the same prompts and seeds every time."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..adapters.build import build_adapter, match, require_fit
from ..adapters.changes import WeightChange
from ..adapters.file import read_adapter
from ..adapters.switch import AdapterSwitch
from ..adapters.use import AdapterUse
from ..audio.file import write_audio
from ..audio.formats import FORMATS
from ..audio.pictures import FLOOR_DB, coloured, spectrogram
from ..checkpoints.load import load_model
from ..checkpoints.reader import open_checkpoint
from ..codec.autoencode import SAMEAutoencoder, decode
from ..codec.latent_file import Latents
from ..files.whole_file import whole_file
from ..geometry import SAMPLE_RATE
from ..networks.model import SA3Model
from ..sampling.predictor import WeightSwitch
from ..text.conditioning import TextConditioning
from ..training.previews import preview_latents

FOLDER = "demos"
_PICTURE = (800, 256)
_SHOWN_DB = 72.0  # below full scale


@dataclass(frozen=True, eq=False)
class Demos:
    """What is made each time.

    Attributes:
        folder: of the run.
        texts: encoded prompts.
        seconds: of each piece.
        autoencoder: that decodes.
        post_trained: a model that the LoRA is heard on too; None = only on the one it learns on.
    """

    folder: Path
    texts: Mapping[str, TextConditioning]
    seconds: float
    autoencoder: SAMEAutoencoder
    post_trained: Path | None = None

    def make(self, model: SA3Model, lora: Path, step: int) -> list[Path]:
        """Make all pieces of a step.

        Args:
            model: that is trained, with what it has learnt attached.
            lora: the checkpoint, for the post-trained model.
            step: for the names.

        Returns:
            The sound files; a picture of each lies beside it.

        Raises:
            AdapterError: the LoRA does not fit the post-trained model.
            AudioError: a file cannot be written.
        """
        made = self._pieces(model, f"step-{step:06}")
        if self.post_trained is None:
            return made
        checkpoint = open_checkpoint(self.post_trained, ("dit", "conditioner"))
        file = read_adapter(lora)
        keys = require_fit(match(file, checkpoint.adaptable_shapes()))
        built: Mapping[str, WeightChange] = build_adapter(file, checkpoint.originals(), keys)
        use: AdapterUse[Mapping[str, WeightChange]] = AdapterUse(built)
        other = load_model(self.post_trained, dtype=model.dtype, device=model.device)
        with AdapterSwitch(other, [use]) as switch:
            return made + self._pieces(other, f"step-{step:06}-{other.name}", switch)

    def _pieces(self, model: SA3Model, name: str, switch: WeightSwitch | None = None) -> list[Path]:
        place = self.folder / FOLDER
        place.mkdir(parents=True, exist_ok=True)
        latents = preview_latents(model, self.texts.values(), self.seconds, switch)
        made = []
        for number, latent in enumerate(latents, start=1):
            audio = decode(self.autoencoder, Latents(latent, (self.seconds,)))[0]
            path = place / f"{name}-{number}.wav"
            write_audio(path, audio, SAMPLE_RATE, FORMATS["wav-32f"])
            _picture(path.with_suffix(".png"), audio)
            made.append(path)
        return made


def _picture(path: Path, audio: Tensor) -> None:
    """The spectrogram of a piece."""
    levels = spectrogram(audio, SAMPLE_RATE, *_PICTURE)
    shown = (levels + _SHOWN_DB) / min(_SHOWN_DB, -FLOOR_DB)
    data = BytesIO()
    Image.fromarray(coloured(shown).numpy()).save(data, "PNG")
    with whole_file(path) as whole:
        whole.file.write(data.getvalue())
