"""Noise levels on both sides: on the CPU, where a run decides by them, and on its device."""

import torch
from torch import Tensor


class Levels:
    """Noise levels of a run on its device; those of its schedule are brought there together.

    A run that asked its device which level it is at would wait for all that was queued before.
    """

    def __init__(self, device: torch.device, sigmas: Tensor | None = None) -> None:
        """Bring a schedule to the device.

        Args:
            device: where the net computes.
            sigmas: [B, n + 1] on the CPU, or None. The middles between its levels come along:
                there are solvers that ask in between.
        """
        self._device = device
        self._placed: dict[tuple[float, ...], Tensor] = {}
        if sigmas is not None and device.type != "cpu":
            middles = sigmas[:, :-1] + (sigmas[:, 1:] - sigmas[:, :-1]) / 2
            levels = torch.cat([sigmas, middles], dim=1).T.contiguous()
            placed = levels.to(device).unbind()
            self._placed = dict(zip(map(tuple, levels.tolist()), placed, strict=True))

    def placed(self, t: Tensor) -> Tensor:
        """Levels [B] on the CPU -> the same on the device."""
        if t.device == self._device:
            return t
        key = tuple(t.tolist())
        if key not in self._placed:
            self._placed[key] = t.to(self._device)
        return self._placed[key]
