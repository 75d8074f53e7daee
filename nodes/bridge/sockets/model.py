"""MODEL: our diffusion transformer inside a subclass of ComfyUI's BaseModel.

KSampler, SamplerCustomAdvanced, guiders, hooks, weight patches and compile nodes work on it as on
any native model; SA3 Sampler reaches the nets behind it through `core_model`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_sampling
import comfy.ops
import comfy.supported_models_base
import torch
from torch import Tensor

from ....sa3_core.checkpoints.load import (
    find_objective,
    find_sample_size,
    load_conditioner,
    load_dit,
)
from ....sa3_core.checkpoints.reader import open_checkpoint
from ....sa3_core.checks import broadcast
from ....sa3_core.errors import InputError
from ....sa3_core.files.published import CONDITIONER_PREFIX, DIT_PREFIX, SAME_PREFIX
from ....sa3_core.files.states import FileStates
from ....sa3_core.geometry import (
    HOP,
    LATENT_CHANNELS,
    padding_mask,
    seconds_of_frames,
    valid_frames,
)
from ....sa3_core.networks.conditioning import Conditioner, local_condition
from ....sa3_core.networks.config import DiTConfig, ModelConfig
from ....sa3_core.networks.dit import DiffusionTransformer
from ....sa3_core.networks.model import SA3Model
from ....sa3_core.networks.placement import dit_memory
from ....sa3_core.networks.quantised import STORAGES
from ....sa3_core.sampling.schedule import Shift, shift_from_options
from ..host.dtypes import SUPPORTED_DTYPES, transformer_dtypes
from ..host.folders import read_tensors
from ..host.ops import faster_on_cpu, layer_classes
from ..host.running import make_patcher
from .compiling import compiled_net
from .quantised import quantise_tensors, quantised_classes, refuse_saving
from .stock_run import RIDING_SECONDS, add_run_wrapper
from .values import text_of


class SA3Latent(comfy.latent_formats.LatentFormat):
    """256 channels, one frame per 4096 samples, no scaling."""

    latent_channels = LATENT_CHANNELS
    latent_dimensions = 1
    temporal_downscale_ratio = HOP


class SA3Config(comfy.supported_models_base.BASE):
    """What ComfyUI wants to know about a model family."""

    unet_config: dict[str, Any] = {}  # noqa: RUF012  (the host's class attribute)
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012
    sampling_settings = {"shift": 1.0, "multiplier": 1.0}  # noqa: RUF012
    latent_format = SA3Latent
    memory_usage_factor = 1.0
    supported_inference_dtypes = SUPPORTED_DTYPES
    schedule: tuple[Shift, int]  # the model's own, and its longest latent in frames
    # CheckpointSave then writes the published layout, which Load SA3 Model reads back.
    vae_key_prefix = [SAME_PREFIX]  # noqa: RUF012
    text_encoder_key_prefix = ["text_encoders.t5gemma."]  # noqa: RUF012

    def process_unet_state_dict_for_saving(
        self, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Published prefix of the diffusion transformer."""
        return {f"{DIT_PREFIX}{key}": value for key, value in state_dict.items()}


class SA3ModelSampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """Flow sampling whose time axis is bent by the model's own schedule shift.

    KSampler's `simple` scheduler then runs the published schedule. ModelSamplingSD3 replaces it.
    """

    def __init__(self, config: SA3Config) -> None:
        """The host's contract: ModelNoiseScale makes another one of the same config."""
        self._bend, self._length = config.schedule
        super().__init__(config)

    def sigma(self, timestep: Any) -> Any:
        """Noise level of a timestep in 0..1."""
        t = torch.as_tensor(timestep, dtype=torch.float32)
        return self._bend.apply(t.reshape(-1), self._length).reshape(t.shape)

    def percent_to_sigma(self, percent: float) -> float:
        """Noise level after `percent` (0-1) of the steps."""
        if percent <= 0.0:
            return 1.0
        return 0.0 if percent >= 1.0 else float(self.sigma(1.0 - percent))


class ContextCond(comfy.conds.CONDRegular):
    """Context tokens with, as a last channel, how many equal tokens each stands for.

    Contexts of different lengths are joined by appending absent tokens (count 0), so positive and
    negative run in one batch. Counts up to 256 are exact in every float dtype.
    """

    def can_concat(self, other: Any) -> bool:
        """Any two contexts of one width fit."""
        return isinstance(other, ContextCond) and self.cond.shape[2] == other.cond.shape[2]

    def concat(self, others: list[Any]) -> Tensor:
        """Join along the batch."""
        rows = [self.cond, *(other.cond for other in others)]
        length = max(row.shape[1] for row in rows)
        pad = torch.nn.functional.pad
        return torch.cat([pad(row, (0, 0, 0, length - row.shape[1])) for row in rows])


class ComfyDiT(DiffusionTransformer):
    """The core's net behind the call that ComfyUI's BaseModel makes."""

    def __init__(
        self, config: DiTConfig, dtype: Any = None, device: Any = None, operations: Any = None
    ) -> None:
        super().__init__(config, operations, device, dtype)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        duration: Tensor,
        seconds: Sequence[float],
        local_add_cond: Tensor | None = None,
        **_host: Any,
    ) -> Tensor:
        """Velocity for stock samplers; constants are computed anew at each call.

        Args:
            x: [B, C, T].
            t: [B] float32.
            context: [B, S, 768 + 1], the last channel counts equal tokens.
            duration: [B, 768].
            seconds: durations, one for all or of each item in turn; frames past a piece and its
                headroom are masked out.
            local_add_cond: [B, 1 + C, T] or None.
            _host: control, transformer_options and the like, which this model does not use.
        """
        frames = x.shape[-1]
        valid = [valid_frames(s, frames) for s in seconds]
        if len(valid) > 1:
            valid *= len(x) // len(valid)
        constants = self.prepare(
            context=context[..., :-1].to(x.dtype),
            context_bias=context[..., -1].float().log(),
            global_cond=duration,
            local_cond=local_add_cond,
            padding_mask=padding_mask(valid, frames) if min(valid) < frames else None,
            frames=frames,
            per_block=torch.is_grad_enabled(),  # the host's own trainer
        )
        return self.velocity(x, t, constants)


@dataclass(frozen=True)
class ModelInfo:
    """What is known about a loaded MODEL beside its nets."""

    name: str
    path: str
    config: ModelConfig
    objective: str
    objective_source: str
    sample_size: int
    precision: str
    files: FileStates = field(default_factory=FileStates)


class SA3BaseModel(comfy.model_base.BaseModel):
    """BaseModel with our conditioner; `info` holds what SA3 Sampler needs beside the nets."""

    diffusion_model: Any  # a ComfyDiT, or what a compiler made of it

    def __init__(self, config: SA3Config, info: ModelInfo, device: Any) -> None:
        config.schedule = shift_from_options(info.config.shift), info.sample_size // HOP
        super().__init__(
            config,
            model_type=comfy.model_base.ModelType.FLOW,
            device=device,
            unet_model=cast("Any", ComfyDiT),  # the host declares its own net
        )
        self.info = info
        self.model_sampling = SA3ModelSampling(config)
        operations = faster_on_cpu(comfy.ops.manual_cast)
        self.conditioner = Conditioner(info.config, operations, device, torch.float32)

    def check_files(self) -> None:
        """Raise CheckpointError where the weights' file is no longer what was loaded."""
        self.info.files.check()

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Turn a conditioning of a stock sampler into the net's inputs.

        ComfyUI passes `noise`, `device`, `latent_image`, `denoise_mask`, `prompt_type`, the tokens
        as `cross_attn` and every value that nodes set on the conditioning: the duration counts
        that ConditioningStableAudio sets, else those that ride on the latent, else all frames.
        """
        noise, device = kwargs["noise"], kwargs["device"]
        longest = self.conditioner.config.max_seconds
        seconds = tuple(min(max(s, 0.0), longest) for s in _told_seconds(kwargs, noise))
        duration = self.conditioner.duration(seconds, device)
        out: dict[str, Any] = {
            "seconds": comfy.conds.CONDConstant(seconds),
            "duration": comfy.conds.CONDRegular(duration),
        }
        tokens = kwargs.get("cross_attn")
        if tokens is not None:
            text = text_of(tokens, kwargs.get("attention_mask")).to(device)
            negative = kwargs.get("prompt_type") == "negative"
            batch = max(text.batch, len(seconds))
            text = text.select(broadcast(text.batch, batch, "prompts"))
            rows = duration[broadcast(len(seconds), batch, "durations")]
            context = self.conditioner.context(text, rows, negative)
            counts = context.bias.exp()[..., None].round()
            out["c_crossattn"] = ContextCond(torch.cat([context.tokens, counts], dim=-1))
        local = _local_condition(kwargs, noise, device)
        if local is not None:
            out["local_add_cond"] = comfy.conds.CONDNoiseShape(local)
        return out

    def memory_required(self, input_shape: list[int], cond_shapes: Any = None) -> float:
        """Bytes of activations for one call on `input_shape` [B, C, T].

        Args:
            input_shape: all frames of it are computed, masked or not.
            cond_shapes: shapes of the conditions by name; without them a mask is assumed.
        """
        rows = input_shape[0]
        if cond_shapes:
            rows = sum(shape[0] for shape in cond_shapes.get("local_add_cond", ()))
        return self.sampling_memory(input_shape[0], input_shape[-1], rows)

    def sampling_memory(self, batch: int, frames: int, local_rows: int) -> float:
        """Bytes of activations and constants of a generation; see `dit_memory`."""
        config, dtype = self.diffusion_model.config, self.get_dtype_inference()
        narrow = self.info.precision in STORAGES
        return dit_memory(config, batch, frames, dtype, mm.get_torch_device(), local_rows, narrow)

    def state_dict_for_saving(self, unet_state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        """The published layout: our conditioner goes along."""
        out = super().state_dict_for_saving(unet_state_dict, *args, **kwargs)
        conditioner = self.conditioner.state_dict()
        return {
            **out,
            **{f"{CONDITIONER_PREFIX}{key}": value for key, value in conditioner.items()},
        }


def _told_seconds(kwargs: dict[str, Any], noise: Tensor) -> tuple[float, ...]:
    """Durations that a condition brings: one for all items, or one for each."""
    said, riding = kwargs.get("seconds_total"), kwargs.get(RIDING_SECONDS)
    if said is not None:
        return (float(said),)
    if riding is None:
        return (seconds_of_frames(noise.shape[-1]),)
    return tuple(riding) if len(set(riding)) > 1 else (riding[0],)


def _local_condition(kwargs: dict[str, Any], noise: Tensor, device: Any) -> Tensor | None:
    """[B, 1 + C, T]: keep mask and masked source (spec: source * keep), or None."""
    mask = kwargs.get("concat_mask", kwargs.get("denoise_mask"))
    source = kwargs.get("concat_latent_image", kwargs.get("latent_image"))
    if mask is None or source is None:
        return None
    frames = noise.shape[-1]
    if mask.shape[-1] != frames or source.shape[-1] != frames:
        raise InputError(
            f"The mask has {mask.shape[-1]} frames and its source {source.shape[-1]}, but the "
            f"latent has {frames}. Make the mask with Inpaint Mask on this latent."
        )
    keep = (1 - mask.reshape(mask.shape[0], -1, frames)[:, :1]).round().to(device)
    return local_condition(source.to(keep), keep)


def load_patcher(
    path: str, name: str, precision: str, objective: str, disable_dynamic: bool = False
) -> Any:
    """Load a checkpoint's DiT and conditioner as a ModelPatcher.

    Args:
        path: model folder or .safetensors file.
        name: the combo value, for messages.
        precision: auto, fp32, bf16, fp16, or a name of STORAGES: 8-bit block weights, all else
            and the computation as with auto.
        objective: auto, rf_denoiser or rectified_flow.
        disable_dynamic: asked for by the host when it needs a classic patcher of the same model.
    """
    checkpoint = open_checkpoint(Path(path), need=("dit", "conditioner"), read=read_tensors())
    config = checkpoint.config
    count = sum(math.prod(shape) for shape in checkpoint.shapes["dit"].values())
    found, source = find_objective(config, name, objective)
    dtype, cast = transformer_dtypes(checkpoint, precision, found, count)
    host = SA3Config({"config": config.dit})
    store = None
    if precision in STORAGES:
        # Both, so that the host reserves memory for widened weights.
        dtype = cast = cast or dtype
        store = partial(quantise_tensors, name=precision, compute=dtype)
    host.set_inference_dtype(dtype, cast)
    host.custom_operations = quantised_classes(dtype) if store else layer_classes(dtype, cast)
    info = ModelInfo(
        name, path, config, found, source, find_sample_size(config), precision, checkpoint.files
    )
    model = SA3BaseModel(host, info, torch.device("meta"))
    load_dit(checkpoint, model.diffusion_model, dtype, store)
    if store:
        model.diffusion_model.register_state_dict_pre_hook(refuse_saving)
    load_conditioner(checkpoint, model.conditioner)
    model.device = mm.unet_offload_device()
    mm.archive_model_dtypes(model)
    patcher = make_patcher(
        model, mm.get_torch_device(), mm.unet_offload_device(), classic=disable_dynamic
    )
    add_run_wrapper(patcher)
    patcher.cached_patcher_init = (load_patcher, (path, name, precision, objective))
    return patcher


def require_sa3(patcher: Any, node: str) -> SA3BaseModel:
    """The SA3BaseModel behind a MODEL.

    Raises:
        InputError: the MODEL is another family's, or was loaded by a stock loader.
    """
    model = getattr(patcher, "model", None)
    if isinstance(model, SA3BaseModel):
        return model
    raise InputError(
        f"{node} needs a MODEL from Load SA3 Model; this one is a {type(model).__name__}. "
        "Open the same file in Load SA3 Model."
    )


def core_model(patcher: Any, model: SA3BaseModel) -> SA3Model:
    """The core's view of a loaded MODEL; valid until the host moves its weights again."""
    info = model.info
    return SA3Model(
        dit=model.diffusion_model,
        conditioner=model.conditioner,
        config=info.config,
        objective=info.objective,
        name=info.name,
        sample_size=info.sample_size,
        device=patcher.load_device,
        dtype=model.get_dtype_inference(),
        compiled=compiled_net(patcher, info.sample_size // HOP),
        check_files=info.files.check,
        storage=info.precision if info.precision in STORAGES else None,
    )
