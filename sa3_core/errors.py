"""Errors that sa3_core raises on purpose: what was given, what is allowed, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class SA3Error(Exception):
    """Base of every error that sa3_core raises on purpose."""


class UnknownNameError(SA3Error, ValueError):
    """A sampler, shift, adapter or variant name that its registry does not hold."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        near = get_close_matches(name, self.known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"Unknown {kind} {name!r}; known: {', '.join(self.known)}.{hint}")


class InputError(SA3Error, ValueError):
    """A value given by the user that is out of range or does not fit the other values."""


class ConfigError(SA3Error):
    """A model_config.json that asks for something unknown here or contradicts the tensors."""


class CheckpointError(SA3Error):
    """A weights file that is missing, damaged or holds other tensors than the model needs."""


class AdapterError(SA3Error):
    """A LoRA file that cannot be read or does not fit the model."""


class RegionError(SA3Error, ValueError):
    """A region that is empty, reversed, unreadable or outside the audio."""


class AudioError(SA3Error, ValueError):
    """Audio that cannot be read, written or used as a source."""


class DownloadError(SA3Error):
    """A download that could not be made or finished."""


class CompileError(SA3Error):
    """A compiler that was asked for and does not work here."""


class LatentFileError(SA3Error):
    """A latent file that cannot be read or written, or holds something else."""
