"""LoRA Loader, LoRA Stack and Save SA3 Model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.adapters.layer_filter import LayerFilter
from ..sa3_core.adapters.use import AdapterUse
from ..sa3_core.networks.quantised import STORAGES
from ..sa3_core.registry import AUTO
from .bridge.host.running import show
from .bridge.work import loras
from .bridge.work.names import prefix_error
from .inputs import (
    CATEGORY,
    LoraModel,
    model_input,
    naming_inputs,
    precision_input,
    prefix_input,
    problem_of,
)

NONE = "none"
SLOTS = 6


def _strength(name: str, what: str, advanced: bool = False) -> Any:
    return io.Float.Input(
        name,
        default=1.0,
        min=-10.0,
        max=10.0,
        step=0.05,
        tooltip=f"Strength for {what}; 0 leaves it untouched, negative turns the effect around.",
        optional=True,
        advanced=advanced,
    )


class SA3LoraLoader(io.ComfyNode):
    """One LoRA with every control, chainable without limit."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3LoraLoader",
            display_name="LoRA Loader",
            category=CATEGORY,
            description=(
                "Puts a Stable Audio 3 LoRA on the model: every adapter type (LoRA, DoRA, BoRA and "
                "their -XS forms), and LoRA, LoHa, LoKr, GLoRA, OFT, BOFT, differences and biases "
                "of PEFT, diffusers, kohya, LyCORIS and ComfyUI. Tensors that are not used are "
                "named. A LoRA that does not fit is an error that says what does not."
            ),
            search_aliases=["lora", "dora", "sa3 lora"],
            inputs=[
                model_input(", or of a LoRA Loader"),
                io.Combo.Input(
                    "lora",
                    options=[*loras.lora_names(), NONE],
                    tooltip="A file from models/loras; none for a trained one, or no LoRA.",
                ),
                _strength("strength", "the diffusion transformer"),
                _strength("strength_conditioner", "the duration embedding", advanced=True),
                io.Float.Input(
                    "interval_start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Lowest noise level at which it acts (0 = finished sound).",
                    optional=True,
                    advanced=True,
                ),
                io.Float.Input(
                    "interval_end",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Highest noise level at which it acts (1 = pure noise).",
                    optional=True,
                    advanced=True,
                ),
                io.String.Input(
                    "layer_filter",
                    default="",
                    tooltip=(
                        "Only layers whose name holds one of these parts, e.g. layers[0-5], "
                        "self_attn; a leading - leaves layers out. Empty = all."
                    ),
                    optional=True,
                    advanced=True,
                ),
                io.Boolean.Input(
                    "partial",
                    default=False,
                    tooltip="Apply the layers that fit even when others of the file do not.",
                    optional=True,
                    advanced=True,
                ),
                LoraModel.Input(
                    "trained",
                    optional=True,
                    tooltip="Of Train SA3 LoRA or ComfyUI's Train LoRA; used in place of the file.",
                ),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, lora: str, **_others: Any) -> str:
        """Changes when the file is replaced."""
        return loras.lora_fingerprint(lora)

    @classmethod
    def validate_inputs(cls, layer_filter: str | None = None) -> bool | str:
        """Refuse an unreadable filter before anything is loaded."""
        return problem_of(LayerFilter, layer_filter)

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        model: Any,
        lora: str,
        strength: float = 1.0,
        strength_conditioner: float = 1.0,
        interval_start: float = 0.0,
        interval_end: float = 1.0,
        layer_filter: str = "",
        partial: bool = False,
        trained: Any = None,
    ) -> io.NodeOutput:
        """Patch a clone of the model."""
        if trained is not None:
            lora = loras.FileName.of(trained)
        elif lora == NONE:
            return io.NodeOutput(model, ui=show(cls, ["No LoRA is chosen."]))
        interval = (interval_start, interval_end)
        layers = LayerFilter(layer_filter)
        use = AdapterUse(lora, strength, interval, layers, strength_conditioner, partial)
        patched, notes = loras.apply_lora(model, use, "LoRA Loader")
        return io.NodeOutput(patched, ui=show(cls, notes))


class SA3LoraStack(io.ComfyNode):
    """Several LoRAs at once, in order."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        slots: list[Any] = []
        for number in range(1, SLOTS + 1):
            slots += [
                io.Combo.Input(
                    f"lora_{number}",
                    options=[NONE, *loras.lora_names()],
                    default=NONE,
                    tooltip=f"LoRA number {number} of the stack, applied after those above.",
                    optional=True,
                ),
                _strength(f"strength_{number}", f"LoRA {number} on the diffusion transformer"),
                _strength(
                    f"conditioner_{number}", f"LoRA {number} on the duration embedding", True
                ),
            ]
        return io.Schema(
            node_id="SA3LoraStack",
            display_name="LoRA Stack",
            category=CATEGORY,
            description="Puts up to six LoRAs on the model; chain another stack for more.",
            search_aliases=["lora stack", "multi lora"],
            inputs=[
                model_input(", or of a LoRA Loader"),
                *slots,
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> str:
        """Changes when one of the files is replaced."""
        names = (inputs.get(f"lora_{number}", NONE) for number in range(1, SLOTS + 1))
        return ",".join(loras.lora_fingerprint(name) for name in names if name != NONE)

    @classmethod
    def execute(cls, model: Any, **slots: Any) -> io.NodeOutput:
        """Patch a clone of the model with every slot that is set."""
        notes: list[str] = []
        for number in range(1, SLOTS + 1):
            name = slots.get(f"lora_{number}", NONE)
            if name == NONE:
                continue
            use = AdapterUse(
                name,
                slots.get(f"strength_{number}", 1.0),
                strength_conditioner=slots.get(f"conditioner_{number}", 1.0),
            )
            model, lines = loras.apply_lora(model, use, "LoRA Stack")
            notes += lines
        return io.NodeOutput(model, ui=show(cls, notes or ["No LoRA is chosen."]))


class SA3SaveModel(io.ComfyNode):
    """A checkpoint in the published layout with the LoRAs merged in."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3SaveModel",
            display_name="Save SA3 Model",
            category=CATEGORY,
            description=(
                "Writes the model's file again with the LoRAs of LoRA Loader merged in: same keys "
                "and shapes, readable by Load SA3 Model and by ComfyUI's own loader."
            ),
            search_aliases=["merge lora", "save checkpoint"],
            inputs=[
                model_input(" with LoRAs on it"),
                prefix_input(
                    "checkpoints/sa3_merged",
                    "Folder and name inside the output folder; never overwrites.",
                ),
                precision_input(
                    "Dtype of the written weights; auto keeps the source's.", [*STORAGES]
                ),
                io.Boolean.Input(
                    "with_text_encoder",
                    default=False,
                    tooltip="Copy the model folder's text encoder beside it.",
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """A prefix that makes valid names."""
        return prefix_error(filename_prefix)

    @classmethod
    def execute(
        cls,
        model: Any,
        filename_prefix: str = "checkpoints/sa3_merged",
        precision: str = AUTO,
        with_text_encoder: bool = False,
    ) -> io.NodeOutput:
        """Merge and write."""
        path = loras.save_merged(model, filename_prefix, precision, with_text_encoder, cls.hidden)
        return io.NodeOutput(ui=show(cls, [f"written to {path}"]))


NODES = [SA3LoraLoader, SA3LoraStack, SA3SaveModel]
