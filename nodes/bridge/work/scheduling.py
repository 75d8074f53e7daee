"""SIGMAS of our schedules for a MODEL of ours."""

from typing import Any

import torch
from torch import Tensor

from ....sa3_core.checks import check_seconds
from ....sa3_core.sampling.sample import schedule_for
from ....sa3_core.sampling.settings import SampleSettings
from ..sockets.model import require_sa3
from ..sockets.values import Latent, durations

NODE = "SA3 Scheduler"


def schedule(
    patcher: Any, settings: SampleSettings, latent: Latent | None, seconds: float
) -> Tensor:
    """[steps + 1] float32 on the CPU, for the longest item of the latent or for `seconds`."""
    info = require_sa3(patcher, NODE).info
    assert info is not None
    if settings.noise_level == 0:
        return torch.zeros(0)
    limit = info.sample_size / 44100
    longest = max(durations(latent)) if latent is not None else check_seconds(seconds, limit)
    resolved = settings.resolve(info.objective)
    return schedule_for(info.config, resolved, [longest])[0]
