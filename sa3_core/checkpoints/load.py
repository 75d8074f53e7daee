"""Loading nets out of checkpoints: a generator, an autoencoder, or one net at a time."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..checks import check_one_of
from ..errors import CheckpointError
from ..files.published import WEIGHTS_FILE
from ..files.tensor_file import check_dtype, fill
from ..networks.conditioning import Conditioner
from ..networks.config import OBJECTIVES, ModelConfig
from ..networks.dit import DiffusionTransformer
from ..networks.model import SA3Model
from ..networks.ops import Ops, TorchOps
from ..networks.placement import dit_dtype
from ..networks.quantised import check_storage, quantise_layers, quantise_tensors
from ..networks.same import SAMEAutoencoder
from ..registry import AUTO
from .reader import Checkpoint, open_checkpoint
from .variants import VARIANTS, variant_of

log = logging.getLogger(__name__)


def find_objective(config: ModelConfig, name: str, wanted: str = AUTO) -> tuple[str, str]:
    """Decide the objective and say where it comes from.

    Args:
        config: the checkpoint's.
        name: file or folder name; `base` in it means rectified_flow.
        wanted: `auto` or an objective that the user insists on.

    Returns:
        (objective, source), source being `chosen`, `model_config.json` or `the file's name`.
    """
    if wanted != AUTO:
        return check_one_of("objective", wanted, (AUTO, *OBJECTIVES)), "chosen"
    if config.objective is not None:
        return config.objective, "model_config.json"
    variant = variant_of(name)
    if variant is not None and variant.objective is not None:
        return variant.objective, "the file's name"
    base = "_base" in name or "-base" in name
    return ("rectified_flow" if base else "rf_denoiser"), "the file's name"


def find_sample_size(config: ModelConfig) -> int:
    """The config's sample_size, or that of the published model with the same architecture."""
    if config.sample_size is not None:
        return config.sample_size
    medium = config.dit is not None and config.dit.differential
    size = VARIANTS["medium" if medium else "small-music"].sample_size
    assert size is not None
    return size


def load_model(
    path: Path,
    objective: str = AUTO,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    ops: Ops = TorchOps,
    storage: str | None = None,
) -> SA3Model:
    """Load DiT and conditioner of a checkpoint, without a host.

    Args:
        path: model folder or .safetensors file.
        objective: `auto`, `rf_denoiser` or `rectified_flow`.
        dtype: of the weights and the computation; None = what `dit_dtype` chooses.
        device: where to put the weights.
        ops: layer classes.
        storage: `int8` or `fp8_e4m3`: the blocks' matrices lie in 8 bits and are widened at use;
            None = as everything else.

    Raises:
        CheckpointError, ConfigError: see `open_checkpoint`.
        InputError: a dtype or storage that is none, or that the device does not have.
    """
    checkpoint = open_checkpoint(path, need=("dit", "conditioner"))
    return model_from(checkpoint, objective, dtype, torch.device(device), ops, storage)


def model_from(
    checkpoint: Checkpoint,
    objective: str,
    dtype: torch.dtype | None,
    device: torch.device,
    ops: Ops = TorchOps,
    storage: str | None = None,
) -> SA3Model:
    """As `load_model`, from an opened checkpoint."""
    check_dtype(dtype)
    if storage is not None:
        check_storage(storage, device)
    config = checkpoint.config
    assert config.dit is not None
    name = checkpoint.path.parent.name
    name = name if checkpoint.path.name == WEIGHTS_FILE else checkpoint.path.stem
    found, source = find_objective(config, name, objective)
    dtype = dtype or dit_dtype(config.dit, found, checkpoint.dtypes["dit"], device)
    meta = torch.device("meta")
    dit = DiffusionTransformer(config.dit, ops, meta, dtype)
    store = None
    if storage is not None:
        quantise_layers(dit, storage)
        store = partial(quantise_tensors, storage=storage, compute=dtype)
    load_dit(checkpoint, dit, dtype, store)
    conditioner = Conditioner(config, ops, meta, torch.float32)
    load_conditioner(checkpoint, conditioner)
    kept = f", stored in {storage}" if storage else ""
    log.info("%s: objective %s (from %s), computed in %s%s", name, found, source, dtype, kept)
    return SA3Model(
        dit=dit.to(device),
        conditioner=conditioner.to(device),
        config=config,
        objective=found,
        name=name,
        sample_size=find_sample_size(config),
        device=device,
        dtype=dtype,
        check_files=checkpoint.files.check,
        storage=storage,
    )


def load_dit(
    checkpoint: Checkpoint,
    net: DiffusionTransformer,
    dtype: torch.dtype,
    store: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """Assign the checkpoint's tensors to a DiT that was built for its config.

    Args:
        checkpoint: opened with `dit` among the needed parts.
        net: built for the checkpoint's config.
        dtype: of the weights.
        store: instead of `dtype`: makes of the file's tensors what a host's layers load.
    """
    expected = DiffusionTransformer(net.config, TorchOps, torch.device("meta"))
    what = f"{checkpoint.path.name}, diffusion transformer"
    tensors = checkpoint.tensors("dit", None if store else dtype)
    fill(net, tensors, expected, what, store)


def load_conditioner(checkpoint: Checkpoint, net: Conditioner) -> None:
    """Assign the checkpoint's conditioner, always in float32 (it is tiny and sensitive)."""
    expected = Conditioner(net.config, TorchOps, torch.device("meta"))
    tensors = checkpoint.tensors("conditioner", torch.float32)
    fill(net, tensors, expected, f"{checkpoint.path.name}, conditioner")


def load_same(
    checkpoint: Checkpoint, dtype: torch.dtype | None = None, ops: Ops = TorchOps
) -> SAMEAutoencoder:
    """Build the checkpoint's autoencoder and assign its tensors.

    Args:
        checkpoint: opened with `same` among the needed parts.
        dtype: of the weights; None keeps the file's.
        ops: layer classes.
    """
    config, meta = checkpoint.config.same, torch.device("meta")
    if config is None:
        raise CheckpointError(f"{checkpoint.path.name} holds no autoencoder.")
    dtype = dtype or checkpoint.dtypes["same"]
    net = SAMEAutoencoder(config, ops, meta, dtype)
    expected = SAMEAutoencoder(config, TorchOps, meta)
    what = f"{checkpoint.path.name}, autoencoder"
    net.check_files = checkpoint.files.check
    return fill(net, checkpoint.tensors("same", dtype), expected, what)


def load_autoencoder(
    path: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> SAMEAutoencoder:
    """Load SAME alone, out of a standalone file or a full model.

    Args:
        path: folder or .safetensors file.
        dtype: None = float32 on a CPU, else the file's.
        device: where it goes.

    Raises:
        CheckpointError, ConfigError: see `open_checkpoint`.
        InputError: another dtype than float32, bfloat16 and float16.
    """
    check_dtype(dtype)
    device = torch.device(device)
    checkpoint = open_checkpoint(path, ("same",))
    if dtype is None and device.type == "cpu":
        dtype = torch.float32
    return load_same(checkpoint, dtype).to(device)
