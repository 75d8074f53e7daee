"""Words that several nodes share."""

CATEGORY = "audio/stable audio 3"
WITH_MODEL = "with the model"
PRECISIONS = ["auto", "fp32", "bf16", "fp16"]
