"""What the note in each example workflow says, by the workflow's name.

Short enough to be read whole where the workflow opens: see LOWEST in layout.py.
"""

_MODELS = (
    "**Model**: `small-music`, downloaded at the first run (1.7 GB, no login needed), or one you "
    "have."
)

NOTES = {
    "text_to_audio": (
        "# Text to audio\n\n"
        "1. Press **Run**, then play the result in **Save Audio**. The small *demo* model comes "
        "with the pack.\n"
        "2. For music choose `small-music` in **Load SA3 Model** (1.7 GB, no login needed), or a "
        "model you have.\n"
        "3. Write a prompt: genre, instruments, mood, tempo. Set the duration below it.\n\n"
        "Drop a saved file on the canvas to get its graph back."
    ),
    "two_loras": (
        "# Two LoRAs\n\n"
        "1. Put LoRA files into `models/loras`, press **R**, choose them in both **LoRA Loader** "
        "nodes and press **Run**.\n"
        "2. They apply in order. The second acts at noise levels from 0.3 to 1 only: it shapes "
        "the form, and leaves the detail to the first.\n\n"
        "A LoRA fits the size of model it was trained on.\n\n"
        f"{_MODELS}"
    ),
    "audio_to_audio": (
        "# Audio to audio\n\n"
        "1. Choose a sound in **Load Audio**, and say in the prompt what it should become.\n"
        "2. *denoise* in **SA3 Sampler** is the noise level to start from: 0.3 stays close to the "
        "source, 0.9 keeps little more than its shape.\n"
        "3. Press **Run**.\n\n"
        f"{_MODELS}"
    ),
    "batch_of_prompts": (
        "# A batch of prompts\n\n"
        "One run, three pieces: each line of the prompt is one, with its own duration "
        "(*durations*) and its own seed (*seeds*), and equals the same piece made alone.\n\n"
        "**Split Audio Batch** trims each to its length; **Save Audio** shows a card for each.\n\n"
        f"{_MODELS}"
    ),
    "continue_audio": (
        "# Continue a sound\n\n"
        "1. Choose a sound in **Load Audio**.\n"
        "2. **Continue Audio**: how many seconds to add, and at which end.\n"
        "3. Press **Run**: the source's own samples stay as they are.\n\n"
        "For more than the model's maximum (small 120 s, medium 380 s): *Extend Past the "
        "Maximum*.\n\n"
        f"{_MODELS}"
    ),
    "extend_long": (
        "# Longer than the model's maximum\n\n"
        "1. Choose a sound in **Load Audio**.\n"
        "2. **Extend Audio**: *seconds* to add in all. Each window hears the last "
        "*context_seconds*; neighbours are crossfaded over *overlap_seconds*.\n"
        "3. Press **Run**; the node says how many windows it makes.\n\n"
        f"{_MODELS}"
    ),
    "inpaint_one_region": (
        "# Make a part anew\n\n"
        "1. Choose a sound, and draw on its waveform what is to be made anew, or write it: `4-8`, "
        "`90%-100%`.\n"
        "2. Say in the prompt what should be there, and press **Run**. The rest comes back bit "
        "for bit.\n\n"
        f"{_MODELS}"
    ),
    "inpaint_several_regions": (
        "# Several regions\n\n"
        "A list in one **Inpaint Mask**, or several masks in a row: the regions add up, and one "
        "**Run** makes them all.\n\n"
        f"{_MODELS}"
    ),
    "loop": (
        "# A seamless loop\n\n"
        "1. Choose a sound in **Load Audio** and write its tempo into *bpm* of **Loop**.\n"
        "2. *bars*: the length; *seam_seconds*: how much around the seam is made anew.\n"
        "3. Press **Run**: the end of the saved file leads into its start.\n\n"
        f"{_MODELS}"
    ),
    "train_lora": (
        "# Train a LoRA\n\n"
        "1. Press **Run**: the *demo* model learns in a minute, from four short clips, that a "
        "*flute* sounds as bells. **Save Audio** plays it.\n"
        "2. Your own sound: a folder of recordings and captions (`kick.wav`, `kick.txt`) in "
        "`input`, chosen in **Audio Dataset**, and a `-base` model.\n\n"
        "Cancel saves; the next run goes on."
    ),
    "compare_lora": (
        "# Train and compare strengths\n\n"
        "**Compare Audio** plays the same noise without the LoRA (A), at half (B) and full "
        "strength (C). Does C sound as A? Then train on. Is B better than C? Then it begins to "
        "copy: take fewer steps.\n\n"
        "Recordings and model as in the workflow *Train a LoRA*."
    ),
}
