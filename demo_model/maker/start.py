"""The demo's transformer before training: small branches, and the latents straight through.

The numbers of the codec pass from `project_in` through the residual stream to `project_out`, so
training begins near "the velocity is what is seen". Fast Fourier features, which look random at
this size, are turned down; the learned padding starts at zero.
"""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sa3_core.networks.conditioning import Conditioner
from sa3_core.networks.config import DiTConfig, ModelConfig
from sa3_core.networks.dit import DiffusionTransformer

from . import layout
from .codec import CHANNELS, NUMBERS, LinearCodec
from .sounds import BEATS

WIDTH, DEPTH, MEMORY_TOKENS, FF_MULT = 192, 3, 8, 2
_BRANCHES = ("to_out.weight", "ff.ff.2.weight", "to_local_embed.2.weight")


def write_start(folder: Path, codec: LinearCodec, same: dict[str, Tensor], seed: int = 0) -> None:
    """Write the model folder (without the text encoder) that training starts from, float32.

    Args:
        folder: made if it is not there.
        codec: what `same` computes.
        same: weights of the autoencoder.
        seed: of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    net = DiTConfig(
        width=WIDTH,
        depth=DEPTH,
        heads=WIDTH // 64,
        differential=False,
        memory_tokens=MEMORY_TOKENS,
        ff_mult=FF_MULT,
    )
    dit, conditioner = DiffusionTransformer(net), Conditioner(ModelConfig(dit=net, same=None))
    _initialise(dit, conditioner, codec, torch.Generator().manual_seed(seed))
    weights = {f"model.model.{name}": value for name, value in dit.state_dict().items()}
    weights |= {f"conditioner.{name}": value for name, value in conditioner.state_dict().items()}
    weights |= {f"pretransform.model.{name}": value for name, value in same.items()}
    whole = {name: value.detach().float().contiguous() for name, value in weights.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    config = layout.model_config(WIDTH, DEPTH, MEMORY_TOKENS, layout.BASE)
    (folder / "model_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def rotary_frequencies() -> Tensor:
    """[16] turns a frame: the beats and bars of every tempo, their octaves, and slow ones.

    A frame sees the memory tokens at a fixed place. With these its attention to them is a clock of
    the beat, and tempo is learnt in minutes; with the usual powers it was not in an hour.
    """
    beats = {Fraction(part, frames) for frames in BEATS.values() for part in (1, 2)}
    bars = {Fraction(1, 2 * frames) for frames in BEATS.values()}
    turns = sorted(map(float, beats | bars), reverse=True)
    slow = torch.logspace(math.log10(turns[-1] / 2), math.log10(1 / 400), 16 - len(turns))
    return 2 * math.pi * torch.cat([torch.tensor(turns), slow])


@torch.no_grad()
def _initialise(
    dit: DiffusionTransformer,
    conditioner: Conditioner,
    codec: LinearCodec,
    generator: torch.Generator,
) -> None:
    for module in (dit, conditioner):
        for name, parameter in module.named_parameters():
            _first_value(name, parameter, generator)
    net = dit.transformer
    straight = codec.spread * (NUMBERS / CHANNELS) ** 0.5  # [256, NUMBERS], orthonormal
    net.project_in.weight[:NUMBERS] = straight.T
    net.project_out.weight.mul_(0.1)
    net.project_out.weight[:, :NUMBERS] = straight
    dit.preprocess_conv.weight.zero_()
    dit.postprocess_conv.weight.zero_()
    net.memory_tokens.normal_(std=0.5, generator=generator)
    net.global_cond_embedder[2].weight.mul_(0.3)
    net.rotary_pos_emb.inv_freq.copy_(rotary_frequencies())
    features = torch.exp(torch.linspace(math.log(0.5), math.log(10000), 128)).repeat(2)
    dit.to_timestep_embed[0].weight.mul_(6 / (1 + features / 3))
    seconds = conditioner.conditioners["seconds_total"].embedder["embedding"][1]
    seconds.weight.mul_(3 / (1 + features / 100))
    conditioner.conditioners["prompt"].padding_embedding.zero_()


def _first_value(name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
    if parameter.dim() < 2:
        gamma = name.endswith("gamma")
        parameter.fill_(1.5 if gamma and "attn" in name and "_norm" in name else float(gamma))
        return
    scale = 0.3 if name.endswith(_BRANCHES) else 1.0
    parameter.normal_(std=scale / math.sqrt(parameter[0].numel()), generator=generator)
