"""Text Encode T5Gemma."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.text.conditioning import TEXT_TOKENS
from ..sa3_core.text.prompts import length_report, split_prompts
from .bridge.host.running import show
from .bridge.sockets.clip import encode_prompts
from .bridge.sockets.values import conditioning_value
from .inputs import CATEGORY


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
                ),
            ],
            outputs=[io.Conditioning.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, clip: Any, text: str, one_prompt_per_line: bool = False) -> io.NodeOutput:
        """Encode and say how many tokens each prompt has."""
        prompts = split_prompts(text) if one_prompt_per_line else [text]
        encoded, totals = encode_prompts(clip, prompts)
        ui = show(cls, length_report(totals))
        return io.NodeOutput(conditioning_value(encoded), ui=ui)


NODES = [SA3TextEncode]
