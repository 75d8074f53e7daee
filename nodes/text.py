"""Prompt Builder and Text Encode T5Gemma."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.text.conditioning import TEXT_TOKENS
from ..sa3_core.text.prompts import (
    FORMS,
    KINDS,
    PromptParts,
    build_prompt,
    length_report,
    split_prompts,
)
from ..sa3_core.text.small_vocabulary import said_together
from .bridge.host.running import show
from .bridge.sockets.clip import encode_prompts
from .bridge.sockets.values import conditioning_value
from .inputs import CATEGORY, bpm_input

NO_KEY = "none"
_TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
KEYS = [NO_KEY, *(f"{tonic} {mode}" for mode in ("major", "minor") for tonic in _TONICS)]


class SA3PromptBuilder(io.ComfyNode):
    """A prompt in the form that the models know."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3PromptBuilder",
            display_name="Prompt Builder",
            category=CATEGORY,
            description=(
                "Writes a prompt in the form of the metadata that Stable Audio 3 was trained on: "
                "TrackType: Music, VocalType: Instrumental, Genre: ... Connect it to the text of "
                "Text Encode T5Gemma."
            ),
            search_aliases=["prompt helper", "stable audio prompt", "tags", "genre bpm key"],
            inputs=[
                io.Combo.Input(
                    "type",
                    options=list(KINDS),
                    default="music",
                    optional=True,
                    tooltip=(
                        "music = a whole piece, instrument = one instrument or stem (small-music "
                        "and medium), sound effect = samples and effects (small-sfx and medium), "
                        "one-shot = a single note or hit."
                    ),
                ),
                io.String.Input(
                    "genre",
                    default="",
                    optional=True,
                    placeholder="House, Jazz",
                    tooltip="One genre or several, separated by commas; they may be unrelated.",
                ),
                io.String.Input(
                    "instruments",
                    default="",
                    optional=True,
                    placeholder="warm Rhodes piano, upright bass",
                    tooltip="What plays, or what makes the sound; adjectives help.",
                ),
                io.String.Input(
                    "mood",
                    default="",
                    optional=True,
                    placeholder="dreamy, nostalgic",
                    tooltip="Mood, energy and atmosphere, separated by commas.",
                ),
                bpm_input(
                    default=0.0,
                    least=0.0,
                    most=400.0,
                    step=1.0,
                    tooltip="Tempo in beats per minute; 0 = not said.",
                ),
                io.Combo.Input(
                    "key",
                    options=KEYS,
                    default=NO_KEY,
                    optional=True,
                    tooltip="Key, said in words: a hint to the model, not a promise.",
                ),
                io.String.Input(
                    "details",
                    default="",
                    multiline=True,
                    optional=True,
                    placeholder="what happens, how it was recorded, era, room, effects",
                    tooltip="Anything else, in your own words; it stands at the end.",
                ),
                io.Combo.Input(
                    "form",
                    options=list(FORMS),
                    default=FORMS[0],
                    optional=True,
                    tooltip=(
                        "tags and words = tags, then sentences; catalogue = a field for each part: "
                        "Instruments: ... / Moods: ..."
                    ),
                    advanced=True,
                ),
            ],
            outputs=[io.String.Output(display_name="prompt")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        type: str = "music",
        genre: str = "",
        instruments: str = "",
        mood: str = "",
        bpm: float = 0.0,
        key: str = NO_KEY,
        details: str = "",
        form: str = FORMS[0],
    ) -> io.NodeOutput:
        """Write the prompt and show it."""
        spoken = "" if key == NO_KEY else key
        parts = PromptParts(type, genre, instruments, mood, bpm, spoken, details, form)
        prompt = build_prompt(parts)
        ui: dict[str, Any] = show(cls, [prompt])
        return io.NodeOutput(prompt, ui=ui)


class SA3TextEncode(io.ComfyNode):
    """A prompt, or one per line, as CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3TextEncode",
            display_name="Text Encode T5Gemma",
            category=CATEGORY,
            description=(
                "Encodes a prompt. The text is taken literally: no (word:1.2) weights. An empty "
                "prompt is valid and means unconditional generation."
            ),
            search_aliases=["prompt", "stable audio prompt", "clip text encode"],
            inputs=[
                io.Clip.Input("clip", tooltip="CLIP of Load SA3 Model, or a stock T5Gemma CLIP."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip=f"Prompt; its first {TEXT_TOKENS} tokens count.",
                ),
                io.Boolean.Input(
                    "one_prompt_per_line",
                    default=False,
                    tooltip="On: every line that is not blank is the prompt of one batch item.",
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[io.Conditioning.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, clip: Any, text: str, one_prompt_per_line: bool = False) -> io.NodeOutput:
        """Encode and say how many tokens each prompt has, and which words mean nothing."""
        prompts = split_prompts(text) if one_prompt_per_line else [text]
        encoded, tokenized = encode_prompts(clip, prompts)
        notes = said_together(prompt.note for prompt in tokenized)
        ui = show(cls, [*length_report([prompt.total for prompt in tokenized]), *notes])
        return io.NodeOutput(conditioning_value(encoded), ui=ui)


NODES = [SA3PromptBuilder, SA3TextEncode]
