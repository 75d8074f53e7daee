"""Train SA3 LoRA and Save LoRA."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sa3_core.adapters.layer_filter import LayerFilter
from ..sa3_core.adapters.rules import ADAPTER_TYPES
from ..sa3_core.files.published import DTYPES
from ..sa3_core.registry import AUTO
from ..sa3_core.text.prompts import split_prompts
from ..sa3_core.training.adapter import AdapterSettings
from ..sa3_core.training.presets import PRESETS, with_preset
from ..sa3_core.training.settings import SCHEDULES, TrainSettings
from .bridge.host.running import show
from .bridge.sockets.vae import require_same
from .bridge.work import loras, training
from .bridge.work.names import prefix_error
from .bridge.work.training_view import Previews
from .inputs import (
    AUTO_AT_ZERO,
    OFF_AT_ZERO,
    SEED_MAX,
    TRAINING,
    EncodedDataset,
    LoraModel,
    model_input,
    naming_inputs,
    prefix_input,
)

LossMap = io.Custom("LOSS_MAP")  # of ComfyUI's own training nodes
_RARE: dict[str, Any] = {"optional": True, "advanced": True}


def _whole(name: str, default: int, most: int, tooltip: str, auto: bool = False) -> Any:
    low, more = (0, AUTO_AT_ZERO) if auto else (1 if default else 0, {})
    return io.Int.Input(
        name, default=default, min=low, max=most, tooltip=tooltip, extra_dict=more, **_RARE
    )


def _choice(name: str, options: list[str], tooltip: str) -> Any:
    return io.Combo.Input(name, options=options, default=options[0], tooltip=tooltip, **_RARE)


def _train_inputs() -> list[Any]:
    return [
        model_input(" of a -base model, without LoRAs"),
        io.Clip.Input("clip", tooltip="CLIP of Load SA3 Model; encodes the captions."),
        EncodedDataset.Input("encoded", tooltip="Of Encode Dataset, with the same model's VAE."),
        io.String.Input(
            "name",
            default="my_lora",
            tooltip=(
                "Of the run's folder in output/sa3_training. The same name and settings go on "
                "where a run was stopped; others begin anew."
            ),
        ),
        io.Combo.Input(
            "preset",
            options=list(PRESETS),
            default="standard",
            tooltip=(
                "What auto means below. standard: dora-rows of rank 16, whole clips. low-memory: "
                "lora of rank 8 on crops of 12 s. long: twice the steps, falling slowly. quick: 60 "
                "steps at a high rate, to try it out."
            ),
        ),
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=1_000_000,
            optional=True,
            extra_dict=AUTO_AT_ZERO,
            tooltip="Steps of the whole run; raise it to go on with a finished one.",
        ),
        io.Vae.Input("vae", optional=True, tooltip="VAE to hear previews with."),
        io.String.Input(
            "preview_prompts",
            default="",
            multiline=True,
            optional=True,
            tooltip="A prompt per line, made with every checkpoint from the same noise.",
        ),
        _choice("type", [AUTO, *ADAPTER_TYPES], "Kind of LoRA. dora-rows learns best per step."),
        _whole("rank", 0, 1024, "Size of the LoRA.", auto=True),
        io.Float.Input(
            "rate",
            default=0.0,
            min=0.0,
            max=1.0,
            step=1e-6,
            extra_dict=AUTO_AT_ZERO,
            tooltip="Learning rate; auto is 0.0001.",
            **_RARE,
        ),
        _choice(
            "schedule", [AUTO, *SCHEDULES], "Of the learning rate: constant, warmed up, falling."
        ),
        _whole("batch", 0, 1024, "Clips of a step.", auto=True),
        _whole("accumulate", 1, 1024, "Parts a batch is computed in, for less memory."),
        io.Float.Input(
            "crop_seconds",
            default=0.0,
            min=0.0,
            max=380.0,
            step=0.1,
            extra_dict=AUTO_AT_ZERO,
            tooltip="Random parts of this length are learnt; auto is the preset's or whole clips.",
            **_RARE,
        ),
        io.Int.Input(
            "seed",
            default=42,
            min=0,
            max=SEED_MAX,
            control_after_generate=False,  # another seed would begin another run
            tooltip="Of everything random.",
            **_RARE,
        ),
        _whole("save_every", 500, 100_000, "Steps between checkpoints, validations and previews."),
        _whole("hold_out", 0, 1000, "Clips that are never learnt, to validate on."),
        _whole("tag_orders", 1, 64, "Orders in which the tags of a caption are shown."),
        io.Float.Input(
            "preview_seconds",
            default=10.0,
            min=1.0,
            max=380.0,
            step=1.0,
            tooltip="Length of each preview.",
            **_RARE,
        ),
        io.Float.Input(
            "alpha",
            default=0.0,
            min=0.0,
            max=4096.0,
            step=0.5,
            extra_dict=AUTO_AT_ZERO,
            tooltip="Strength over rank that the LoRA is trained at; auto is the rank.",
            **_RARE,
        ),
        io.Float.Input(
            "dropout",
            default=0.0,
            min=0.0,
            max=0.9,
            step=0.05,
            tooltip="Share of channels left out in a step, against copying.",
            **_RARE,
        ),
        io.Float.Input(
            "clip_norm",
            default=0.0,
            min=0.0,
            max=1000.0,
            step=0.1,
            extra_dict=OFF_AT_ZERO,
            tooltip="Most length of a step's gradient.",
            **_RARE,
        ),
        io.String.Input(
            "layer_filter",
            default="",
            tooltip="Only layers that hold one of these parts; - leaves out. Empty = all.",
            **_RARE,
        ),
        _choice(
            "recompute",
            [AUTO, "on", "off"],
            "Compute blocks again on the way back: less memory, a third more time. auto: where "
            "memory needs it.",
        ),
        _choice(
            "precision",
            [AUTO, *DTYPES],
            "Of the computation: auto is bf16 on cards, fp32 on processors.",
        ),
        io.Boolean.Input(
            "allow_post_trained",
            default=False,
            tooltip="Train a post-trained model all the same.",
            **_RARE,
        ),
    ]


class SA3TrainLora(io.ComfyNode):
    """Trains a LoRA; stopped, the next run goes on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3TrainLora",
            display_name="Train SA3 LoRA",
            category=TRAINING,
            description=(
                "Trains a LoRA on encoded recordings, with the loss as a curve and previews to "
                "hear while it runs. Cancel saves, and the next run goes on. The MODEL itself is "
                "not changed. Logs, checkpoints and previews lie in output/sa3_training."
            ),
            search_aliases=["train lora", "fine-tune", "finetune", "dreambooth"],
            inputs=_train_inputs(),
            outputs=[
                LoraModel.Output(display_name="lora"),
                LossMap.Output(display_name="loss_map"),
                io.Int.Output(display_name="steps"),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """A name that makes a valid folder."""
        return prefix_error(name, "name")

    @classmethod
    @naming_inputs()
    def execute(
        cls,
        model: Any,
        clip: Any,
        encoded: Any,
        name: str,
        preset: str,
        steps: int = 0,
        vae: Any = None,
        preview_prompts: str = "",
        type: str = AUTO,
        rank: int = 0,
        rate: float = 0.0,
        schedule: str = AUTO,
        batch: int = 0,
        accumulate: int = 1,
        crop_seconds: float = 0.0,
        seed: int = 42,
        save_every: int = 500,
        hold_out: int = 0,
        tag_orders: int = 1,
        preview_seconds: float = 10.0,
        alpha: float = 0.0,
        dropout: float = 0.0,
        clip_norm: float = 0.0,
        layer_filter: str = "",
        recompute: str = AUTO,
        precision: str = AUTO,
        allow_post_trained: bool = False,
    ) -> io.NodeOutput:
        """Train until the last step, or until it is cancelled."""
        given = {
            "adapter_type": None if type == AUTO else type,
            "rank": rank or None,
            "steps": steps or None,
            "rate": rate or None,
            "schedule": None if schedule == AUTO else schedule,
            "batch": batch or None,
            "accumulate": accumulate,
            "crop": crop_seconds or None,
            "recompute": None if recompute == AUTO else recompute,
        }
        chosen = with_preset(preset, given)
        settings = TrainSettings(
            steps=chosen["steps"],
            batch=chosen["batch"],
            rate=chosen["rate"],
            schedule=chosen["schedule"],
            clip_norm=clip_norm,
            accumulate=accumulate,
            seed=seed,
            tag_orders=tag_orders,
        )
        layers = LayerFilter(layer_filter)
        adapter = AdapterSettings(
            chosen["adapter_type"],
            chosen["rank"],
            alpha or None,
            dropout,
            layers.include,
            layers.exclude,
        )
        wanted = training.Wanted(
            settings,
            adapter,
            chosen["crop"],
            chosen["recompute"],
            precision,
            hold_out,
            save_every,
            allow_post_trained,
        )
        prompts = tuple(filter(None, split_prompts(preview_prompts)))
        previews = None
        if vae is not None and prompts:
            previews = Previews(require_same(vae, "Train SA3 LoRA"), prompts, preview_seconds)
        made = training.train(model, clip, encoded, wanted, name, previews)
        ui = {**made.ui, **show(cls, made.notes)}
        return io.NodeOutput(made.lora, training.loss_map(made.losses), made.steps, ui=ui)


class SA3SaveLora(io.ComfyNode):
    """Writes a trained LoRA into models/loras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="SA3SaveLora",
            display_name="Save LoRA",
            category=TRAINING,
            description=(
                "Writes a trained LoRA into models/loras, where LoRA Loader finds it, in the "
                "published format; never over an existing file. A LoRA of ComfyUI's own Train LoRA "
                "is written as it is."
            ),
            search_aliases=["export lora", "save lora weights"],
            inputs=[
                LoraModel.Input("lora", tooltip="Of Train SA3 LoRA."),
                prefix_input("sa3_lora", "Folder and name inside models/loras."),
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
    def execute(cls, lora: Any, filename_prefix: str = "sa3_lora") -> io.NodeOutput:
        """Copy the file under a name of its own."""
        name = loras.save_trained(lora, filename_prefix, cls.hidden)
        return io.NodeOutput(ui=show(cls, [f"written to models/loras/{name}"]))


NODES = [SA3TrainLora, SA3SaveLora]
