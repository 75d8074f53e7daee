"""What the note in each example workflow says, by the workflow's name."""

_MODELS = (
    "**Model**: `small-music` is downloaded when the graph first runs (1.7 GB, no login "
    "needed), or choose a model you have."
)

NOTES = {
    "text_to_audio": (
        "# Text to audio\n\n"
        "1. Press **Run** and play the result in **Save Audio**: the small *demo* model comes with "
        "the pack and knows a few instruments (the prompt's node says which).\n"
        "2. For music choose `small-music` in **Load SA3 Model** (1.7 GB, downloaded when the "
        "graph runs, no login needed), or a model you have.\n"
        "3. Write a prompt: genre, instruments, mood, tempo.\n"
        "4. Set the duration in **Empty Latent by Duration**, in seconds or bars.\n\n"
        "Steps, sampler and cfg are on *auto*: they follow the model. Drop a saved file on the "
        "canvas to get its graph back."
    ),
    "two_loras": (
        "# Two LoRAs\n\n"
        "1. Put your LoRA files into `models/loras`, press **R** and choose them in the two "
        "**LoRA Loader** nodes.\n"
        "2. *strength* acts on the transformer, *strength_conditioner* on the duration embedding.\n"
        "3. Under *Show advanced inputs*: the second LoRA acts only at noise levels from 0.3 to 1, "
        "so it shapes the form and leaves the detail to the first.\n"
        "4. Press **Run**. Nodes behind one another apply in order, the first one first.\n\n"
        f"{_MODELS} A LoRA fits the size it was trained on (small or medium); one that does not "
        "fit is an error that says so."
    ),
    "audio_to_audio": (
        "# Audio to audio\n\n"
        "1. Choose a sound in **Load Audio** (any sample rate, mono or stereo).\n"
        "2. Say in the prompt what it should become.\n"
        "3. *denoise* in **SA3 Sampler** is the noise level to start from: 0.3 stays close to the "
        "source, 0.9 keeps little more than its shape, 0 returns it.\n"
        "4. Press **Run**.\n\n"
        "*seconds* in **SAME Encode** sets the length of the result; 0 is the source's own.\n\n"
        f"{_MODELS}"
    ),
    "batch_of_prompts": (
        "# A batch of prompts\n\n"
        "One run, three pieces: each line of the prompt is one item, with its own duration "
        "(*durations* in **Empty Latent by Duration**) and its own seed (*seeds* in "
        "**SA3 Sampler**, under *Show advanced inputs*).\n\n"
        "Every item equals the same item run alone. **Split Audio Batch** hands them on one by "
        "one, each trimmed to its own length; in **Save Audio** the *play* selector chooses "
        "which one you hear.\n\n"
        f"{_MODELS}"
    ),
    "continue_audio": (
        "# Continue a sound\n\n"
        "1. Choose a sound in **Load Audio**.\n"
        "2. **Continue Audio**: how many seconds to add, at the end or before the start.\n"
        "3. Press **Run**. The source's own samples stay as they are; only what is new is made, "
        "with a short crossfade at the seam.\n\n"
        "Source and addition together must not exceed the model's maximum (small 120 s, medium "
        "380 s); *context_seconds* lets the model hear less of a long source. For more, see the "
        "workflow *extend_long*.\n\n"
        f"{_MODELS}"
    ),
    "extend_long": (
        "# Longer than the model's maximum\n\n"
        "**Extend Audio** continues a sound window by window. Each window hears the last "
        "*context_seconds* of what there is, and neighbours are crossfaded over "
        "*overlap_seconds*.\n\n"
        "1. Choose a sound in **Load Audio**.\n"
        "2. Set *seconds*: how much to add in all.\n"
        "3. Press **Run**; the node says how many windows it makes.\n\n"
        f"{_MODELS}"
    ),
    "inpaint_one_region": (
        "# Make a part anew\n\n"
        "1. Choose a sound in **Load Audio**.\n"
        "2. Draw on the waveform in **Inpaint Mask** what is to be made anew, or write it into "
        "*regions*: `4-8` (seconds), `0:16.5-0:20`, `90%-100%`, or `bar 5-9` with *bpm* set.\n"
        "3. Say in the prompt what should be there, and press **Run**.\n\n"
        "The node's picture shows what was masked after rounding to latent frames (93 ms). "
        "Outside the regions you get the source's samples back, bit for bit "
        "(*keep_source_exactly* in **SAME Decode Chunked**).\n\n"
        f"{_MODELS}"
    ),
    "inpaint_several_regions": (
        "# Several regions\n\n"
        "All regions are made in one pass. A list in one **Inpaint Mask**, or several of them in a "
        "row: the regions add up. The first takes times and percentages, the second a bar of a "
        "piece at 120 BPM.\n\n"
        "Choose a sound in **Load Audio**, adapt the regions to its length and press **Run**. "
        "*invert* keeps only the regions and makes the rest anew.\n\n"
        f"{_MODELS}"
    ),
    "loop": (
        "# A seamless loop\n\n"
        "1. Choose a sound in **Load Audio** and write its tempo into *bpm* of **Loop**.\n"
        "2. *bars* is the length of the loop, *seam_seconds* how much around the seam is made "
        "anew.\n"
        "3. Press **Run**: the end of the saved file leads into its start.\n\n"
        "**Loop** turns the sound by half, so that the seam lies in the middle and the model "
        "hears both sides of it; **SAME Decode Chunked** turns it back.\n\n"
        f"{_MODELS}"
    ),
    "train_lora": (
        "# Train a LoRA\n\n"
        "1. Press **Run**: the *demo* model learns in a minute, from four short clips, that a "
        "*flute* sounds as bells. The curve is the loss; **Save Audio** plays the result.\n"
        "2. For your own sound: a folder of recordings with captions (`kick.wav`, `kick.txt`) in "
        "ComfyUI's `input`, **R**, and choose it in **Audio Dataset**. The table says what is used "
        "and why not.\n"
        "3. A `-base` model in **Load SA3 Model** (small-music-base), and *standard* in "
        "**Train SA3 LoRA**: each checkpoint is heard in its node.\n\n"
        "Cancel saves; the next run goes on. **Save LoRA** writes into `models/loras`."
    ),
    "compare_lora": (
        "# Train and compare strengths\n\n"
        "**Compare Audio** plays the same noise without the LoRA (A), at half (B) and full "
        "strength (C). Does C sound as A? Then train on. Is B better than C? Then it begins to "
        "copy: take fewer steps.\n\n"
        "Recordings and model as in the workflow *Train a LoRA*."
    ),
}
