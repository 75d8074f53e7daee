"""What every face of the trainer decides before the first step."""

from collections.abc import Sequence

from ..datasets.encoded import EncodedClip
from ..errors import InputError
from ..geometry import frames_covering, samples_of
from ..networks.model import SA3Model


def kind_of(model: SA3Model) -> str:
    """The autoencoder whose latents a model learns from: `same-l` or `same-s`."""
    assert model.config.dit is not None
    return "same-l" if model.config.dit.differential else "same-s"


def require_base(objective: str, name: str, consent: str) -> None:
    """Refuse a post-trained model.

    Args:
        objective: of the model.
        name: of the model.
        consent: what a user does to train it all the same.

    Raises:
        InputError: it is one.
    """
    if objective != "rectified_flow":
        raise InputError(
            f"{name} is post-trained: training would pull it back towards many steps. Train "
            f"on its -base model (the LoRA fits both), or {consent}."
        )


def crop_frames(seconds: float, clips: Sequence[EncodedClip], model: SA3Model) -> int:
    """Latent frames of a step's clips.

    Args:
        seconds: of a crop; 0 = the longest clip.
        clips: all there are.
        model: that is trained; its longest piece is the limit.
    """
    longest = max(clip.latents.shape[1] for clip in clips)
    frames = frames_covering(samples_of(seconds)) if seconds else longest
    return min(frames, model.max_frames)
