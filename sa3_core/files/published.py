"""What published files are called: folders, files, the parts inside them, and number types."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch

OWN_FOLDER = "stable_audio_3"  # of models, below the models folder
MODEL_FOLDERS = (OWN_FOLDER, "checkpoints", "diffusion_models", "vae", "text_encoders")

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "model_config.json"
TEXT_ENCODER_FOLDER = "t5gemma-b-b-ul2"  # inside a model's folder
TEXT_ENCODER_FILE = "t5gemma_b_b_ul2.safetensors"  # the same repackaged, with its tokenizer
TEXT_ENCODER_FILES = (  # that may lie beside its weights and are read with them
    "config.json",
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
TEXT_ENCODER_URL = (
    "https://huggingface.co/Comfy-Org/stable-audio-3/resolve/main/text_encoders/"
    + TEXT_ENCODER_FILE
)

DIT_PREFIX, SAME_PREFIX = "model.model.", "pretransform.model."
CONDITIONER_PREFIX = "conditioner."

# Types of weights, as users choose them and as the header of a safetensors file names them.
DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
HEADER_DTYPES: Mapping[str, torch.dtype] = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}

Source = Literal["upstream", "mirror"]
SOURCES: tuple[Source, ...] = get_args(Source)  # of downloads
SOURCE_DTYPES: Mapping[Source, str] = {"upstream": "fp32", "mirror": "bf16"}  # names of DTYPES
OPEN_SOURCE: Source = "mirror"  # the smallest one that nobody has to log in for
MIRROR_REPO = "AEmotionStudio/stable-audio-3-mirrors"  # bf16, one sub-folder per variant
