"""What the note in each example workflow says, by the workflow's name."""

_MODELS = (
    "**Model**: `small-music` is downloaded when the graph first runs (its licence must be "
    "accepted on Hugging Face first; see the README), or choose a model you have."
)

NOTES = {
    "text_to_audio": (
        "# Text to audio\n\n"
        "1. Choose a model in **Load SA3 Model**; below the choice stands whether it is on disk.\n"
        "2. Write a prompt: genre, instruments, mood, tempo.\n"
        "3. Set the duration in **Empty Latent by Duration**, in seconds or bars.\n"
        "4. Press **Run**. Play the result in **Save Audio**.\n\n"
        f"{_MODELS}\n\n"
        "Steps, sampler and cfg are on *auto*: they follow the model. Drop a saved file on the "
        "canvas to get its graph back."
    ),
}
