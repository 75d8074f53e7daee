"""What a run starts from: the latent, how long its items last and what of them is given."""

from dataclasses import dataclass

from torch import Tensor

from ..checks import check_number, check_sound
from ..errors import InputError
from ..geometry import HEADROOM_SECONDS, LATENT_CHANNELS, MAX_HEADROOM

# What can be done about a source that is longer than the model's maximum.
LONGER_SOURCE = (
    "Of a longer source, context_seconds takes only what lies around the part that is made, and "
    "the rest is kept; extend adds to it in windows."
)


@dataclass(frozen=True)
class StartLatent:
    """What sampling starts from; it also says the mode.

    Attributes:
        frames: [B, C, T]: zeros for text-to-audio, an encoded source otherwise.
        seconds: one duration per item, or None: the whole latent is the piece.
        keep: [B, 1, T], 1 = given, 0 = to be made; None = everything is made.
        batch_index: index of each item in the batch it was taken from; None = 0, 1, ...
        headroom: seconds after each piece that take part, as far as the frames reach.
    """

    frames: Tensor
    seconds: tuple[float, ...] | None = None
    keep: Tensor | None = None
    batch_index: tuple[int, ...] | None = None
    headroom: float = HEADROOM_SECONDS

    @property
    def has_source(self) -> bool:
        """Whether anything but noise goes into the run."""
        return self.keep is not None or bool(self.frames.any())

    def checked(self) -> "StartLatent":
        """Itself, once its shapes are those that the models take.

        Raises:
            InputError: not [B, 256, T], a mask that does not lie on its frames, or a headroom
                out of range, or values that are not finite.
        """
        check_number("headroom", self.headroom, 0.0, MAX_HEADROOM)
        frames, keep = self.frames, self.keep
        if frames.ndim != 3 or frames.shape[1] != LATENT_CHANNELS or 0 in frames.shape:
            raise InputError(
                f"The latent has shape {tuple(frames.shape)}; Stable Audio 3 needs "
                f"[batch, {LATENT_CHANNELS}, frames]. Latents of other models do not fit."
            )
        if keep is not None and keep.shape[1:] != (1, frames.shape[-1]):
            raise InputError(
                f"The mask has shape {tuple(keep.shape)}, the latent {tuple(frames.shape)}; the "
                f"mask must be [batch, 1, {frames.shape[-1]}], one value per frame of the latent."
            )
        check_sound(frames, "The latent to start from", "Check the step that made it.")
        return self
