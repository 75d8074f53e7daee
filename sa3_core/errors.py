"""Errors that sa3_core raises on purpose: what was given, what is allowed, what to do."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches


class SA3Error(Exception):
    """Base of every error that sa3_core raises on purpose."""


class NotFiniteError(SA3Error):
    """A result with NaN or infinite values."""


class UnknownNameError(SA3Error, ValueError):
    """A sampler, shift, adapter or variant name that its registry does not hold."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        near = get_close_matches(name, self.known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"Unknown {kind} {name!r}; known: {', '.join(self.known)}.{hint}")


class InputError(SA3Error, ValueError):
    """A value given by the user that is out of range or does not fit the other values.

    Attributes:
        name: the value at fault as the core has it (`noise_level`); None = several, or another.
    """

    def __init__(self, sentence: str, name: str | None = None) -> None:
        """Say what is wrong.

        Args:
            sentence: goes on after the name where there is one ("is 2; it must be ...").
            name: of the value at fault.
        """
        self.name, self._sentence = name, sentence
        super().__init__(sentence if name is None else f"{name} {sentence}")

    def named(self, shown: Callable[[str], str]) -> "InputError":
        """The same error with the value called as a face calls it: its widget, its flag."""
        return self if self.name is None else InputError(self._sentence, shown(self.name))


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
