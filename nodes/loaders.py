"""Load SA3 Model and Load SAME."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.files.published import OPEN_SOURCE, Source
from ..sa3_core.networks.config import OBJECTIVES
from ..sa3_core.registry import AUTO
from .bridge.host.running import show
from .bridge.sockets.quantised import quantised_formats
from .bridge.work import loading
from .bridge.work.loading import WITH_MODEL
from .inputs import CATEGORY, download_input, precision_input


class SA3LoadModel(io.ComfyNode):
    """MODEL, CLIP and VAE of one Stable Audio 3 model, downloaded first if need be."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3LoadModel",
            display_name="Load SA3 Model",
            category=CATEGORY,
            description=(
                "Loads a Stable Audio 3 model with its text encoder and autoencoder. Lists every "
                "model found in models/stable_audio_3, checkpoints and diffusion_models, and the "
                "published variants, which are downloaded when they are not there yet."
            ),
            search_aliases=["stable audio 3 loader", "sa3 checkpoint", "text to music"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=loading.model_names(),
                    tooltip=(
                        "A model folder (small-music), a single file (checkpoints/...), or a "
                        "published variant to download."
                    ),
                ),
                io.Combo.Input(
                    "text_encoder",
                    options=[WITH_MODEL, *loading.text_encoder_names()],
                    default=WITH_MODEL,
                    tooltip=(
                        "T5Gemma to encode prompts with. 'with the model' takes the one in the "
                        "model's folder, else any T5Gemma in models/text_encoders."
                    ),
                    optional=True,
                    advanced=True,
                ),
                io.Combo.Input(
                    "autoencoder",
                    options=[WITH_MODEL, *loading.autoencoder_names()],
                    default=WITH_MODEL,
                    tooltip=(
                        "SAME autoencoder. 'with the model' takes the one inside the model's file."
                    ),
                    optional=True,
                    advanced=True,
                ),
                precision_input(
                    "Dtype of the weights; auto takes what suits the device and the file. "
                    "int8 and fp8_e4m3 store the transformer's large weights in 8 bits and "
                    "compute as auto does: less memory, slightly less exact.",
                    quantised_formats(),
                ),
                io.Combo.Input(
                    "objective",
                    options=[AUTO, *OBJECTIVES],
                    default=AUTO,
                    tooltip=(
                        "How the model was trained: rf_denoiser (post-trained, 8 steps) or "
                        "rectified_flow (base, 50 steps with cfg). It decides what the sampler's "
                        "auto values mean; auto reads the config, else the file's name."
                    ),
                    optional=True,
                    advanced=True,
                ),
                download_input(
                    "Where a missing variant is downloaded from: a mirror (bf16, no login) or "
                    "stabilityai's own repositories (upstream: fp32, twice the size; the licence "
                    "of post-trained models must be accepted there first)."
                ),
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(
        cls,
        model: str,
        text_encoder: str = WITH_MODEL,
        autoencoder: str = WITH_MODEL,
        **_others: Any,
    ) -> str:
        """Changes when any file is replaced that is read."""
        return loading.model_fingerprint(model, _chosen(text_encoder), _chosen(autoencoder))

    @classmethod
    def execute(
        cls,
        model: str,
        text_encoder: str = WITH_MODEL,
        autoencoder: str = WITH_MODEL,
        precision: str = AUTO,
        objective: str = AUTO,
        download_from: Source = OPEN_SOURCE,
    ) -> io.NodeOutput:
        """Download if missing, then load."""
        choice = loading.ModelChoice(
            model,
            _chosen(text_encoder),
            _chosen(autoencoder),
            precision,
            objective,
        )
        notes = loading.ensure_downloaded(cls, model, download_from)
        patcher, clip, vae = loading.load_all(choice)
        ui = show(cls, [*notes, *loading.describe(patcher)])
        return io.NodeOutput(patcher, clip, vae, ui=ui)


class SA3LoadSAME(io.ComfyNode):
    """The SAME autoencoder alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3LoadSAME",
            display_name="Load SAME",
            category=CATEGORY,
            description=(
                "Loads a SAME autoencoder, from its own file or out of a full model (only the "
                "autoencoder's tensors are read)."
            ),
            search_aliases=["stable audio vae", "audio autoencoder"],
            inputs=[
                io.Combo.Input(
                    "autoencoder",
                    options=loading.autoencoder_names(published=True),
                    tooltip="A SAME-S or SAME-L file or folder, or a full Stable Audio 3 model.",
                ),
                precision_input("Dtype of the weights; auto takes what suits the device."),
                download_input("Where a missing same-s or same-l is downloaded from."),
            ],
            outputs=[io.Vae.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, autoencoder: str, **_others: Any) -> str:
        """Changes when the file is replaced."""
        return loading.fingerprint(autoencoder, "autoencoder")

    @classmethod
    def execute(
        cls,
        autoencoder: str,
        precision: str = AUTO,
        download_from: Source = OPEN_SOURCE,
    ) -> io.NodeOutput:
        """Download if missing, then load."""
        notes = loading.ensure_downloaded(cls, autoencoder, download_from)
        vae = loading.load_autoencoder(autoencoder, precision)
        return io.NodeOutput(vae, ui=show(cls, notes))


def _chosen(name: str) -> str | None:
    """A choice of a combo; None = with the model."""
    return None if name == WITH_MODEL else name


NODES = [SA3LoadModel, SA3LoadSAME]
