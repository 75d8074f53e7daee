"""Audio from the latent files that the rows of a manifest name."""

from argparse import Namespace as Values
from collections.abc import Sequence

from ..checkpoints.load import load_autoencoder
from ..checks import check_seconds
from ..codec.autoencode import decode
from ..codec.latent_file import Latents, read_latents
from ..errors import InputError
from ..geometry import SAMPLE_RATE, seconds_of_frames
from ..networks.same import SAMEAutoencoder
from ..pieces import Take
from .spec import JobSpec


class Decoding:
    """Decodes one item of a latent file per row."""

    def __init__(self, spec: JobSpec) -> None:
        """Nothing is loaded yet."""
        self._spec = spec
        self._loaded: tuple[str, SAMEAutoencoder] | None = None

    def takes(self, values: Values) -> Sequence[Take]:
        """What a row asks for.

        Raises:
            LatentFileError: the file cannot be read.
            InputError: an item that it does not hold, or a duration that it is too short for.
        """
        computing = self._spec.computing
        latents = _item(read_latents(values.latents), values)
        made = decode(self._net(values.model), latents, computing.chunk, computing.noise_seed)
        return [Take(audio, SAMPLE_RATE) for audio in made]

    def close(self) -> None:
        """Nothing is to be undone."""

    def _net(self, name: str) -> SAMEAutoencoder:
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # frees the memory before the next takes some
            files, computing = self._spec.models[name], self._spec.computing
            net = load_autoencoder(files.model, computing.dtype, computing.device)
            self._loaded = (name, net)
        return self._loaded[1]


def _item(latents: Latents, values: Values) -> Latents:
    """The item of a file that a row is about, at the duration that it asks for."""
    name, count = values.latents.name, len(latents.seconds)
    if values.item is None and count > 1:
        raise InputError(f"{name} holds {count} items; say which one in the column item.")
    index = (values.item or 1) - 1
    if index >= count:
        held = "1 item" if count == 1 else f"{count} items"
        raise InputError(f"{name} holds {held}; there is no item {index + 1}.")
    seconds = latents.seconds[index]
    if values.seconds is not None:
        longest = seconds_of_frames(latents.frames.shape[-1])
        seconds = check_seconds(values.seconds, longest)
    return Latents(latents.frames[index : index + 1], (seconds,))
