"""Training all weights of a model, and writing it in the layout of the model it began with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.norms import relative_changes
from ..checkpoints.reader import Checkpoint
from ..checkpoints.rewrite import Rewrite
from ..errors import CheckpointError, InputError
from ..files.published import (
    CONDITIONER_PREFIX,
    CONFIG_FILE,
    DIT_PREFIX,
    TEXT_ENCODER_FOLDER,
    WEIGHTS_FILE,
)
from ..networks.model import SA3Model

_PARTS = (("dit", DIT_PREFIX), ("conditioner", CONDITIONER_PREFIX))


class TrainedModel:
    """All weights of a transformer and its conditioner, in float32, beside those it computes with.

    Attributes:
        stem: what its folders are called.
        suffix: none.
        scales_inputs: no.
        keeps_inputs: yes.
    """

    stem, suffix = "model", ""
    scales_inputs, keeps_inputs = False, True

    def __init__(self, model: SA3Model, source: Checkpoint) -> None:
        """Take over a model's weights; the file is never written to.

        Args:
            model: loaded from `source`; where it computes in half precision, the float32 weights
                come from the file.
            source: of a model folder.

        Raises:
            InputError: the model is a single file, whose layout tells too little, or is stored in
                8 bits.
        """
        if source.path.name != WEIGHTS_FILE or not (source.path.parent / CONFIG_FILE).is_file():
            raise InputError(
                f"{source.path.name} has no {CONFIG_FILE} beside it, and a trained model needs "
                "one. Train from a model folder."
            )
        if source.quantised.scales or model.storage is not None:
            raise InputError(
                f"{model.name} is stored in 8 bits, and a model is trained on weights as they are. "
                "Use the unquantised file, without storage."
            )
        self._source, self._model = source, model
        nets = {"dit": model.dit, "conditioner": model.conditioner}
        self._live: dict[str, nn.Parameter] = {}
        self._masters: dict[str, Tensor] = {}
        self._files: dict[str, str] = {}
        for part, prefix in _PARTS:
            half = any(p.dtype != torch.float32 for p in nets[part].parameters())
            wide = source.tensors(part, torch.float32) if half else {}
            for key, live in nets[part].named_parameters():
                name = prefix + key
                # Never the tensor that was read: its memory may be the file itself.
                live.data = live.data.clone()
                same = live.dtype == torch.float32
                master = live if same else nn.Parameter(wide[key].clone().to(live.device))
                self._live[name], self._masters[name] = live, master
                self._files[name] = source.parts[part][key]

    def tensors(self) -> dict[str, Tensor]:
        """Weights by checkpoint key, float32."""
        return dict(self._masters)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The model's weights ask for gradients inside of this block."""
        self.end_step()
        for live in self._live.values():
            live.requires_grad_(True)
        try:
            yield
        finally:
            for live in self._live.values():
                live.requires_grad_(False)

    def begin_step(self, seed: int | None = None) -> None:
        """Nothing is random here."""

    def end_backward(self) -> None:
        """Gradients in float32, where the weights that computed are not themselves."""
        for name, live in self._live.items():
            master = self._masters[name]
            if master is not live and live.grad is not None:
                grad = live.grad.float()
                master.grad = grad if master.grad is None else master.grad.add_(grad)
                live.grad = None

    @torch.no_grad()
    def end_step(self) -> None:
        """Round the float32 weights to those that compute."""
        for name, live in self._live.items():
            if self._masters[name] is not live:
                live.copy_(self._masters[name])

    def identity(self) -> dict[str, Any]:
        """All weights are trained: there is nothing to choose."""
        return {"adapter_type": "full"}

    @torch.no_grad()
    def changes(self) -> dict[str, float]:
        """Norm of the change of each block's weights since the source, relative to their own."""
        return relative_changes(self._squares())

    def write(self, path: Path, notes: Mapping[str, Any]) -> None:
        """Write a model folder like the source's: its types, its autoencoder, its config.

        Args:
            path: the folder; the text encoder is copied into one named `stem`, if there is one.
            notes: more entries for the header.

        Raises:
            CheckpointError: it cannot be written, or values do not fit the source's types.
        """
        beside = self._source.path.parent / TEXT_ENCODER_FOLDER
        rewrite = Rewrite(self._source.path, path, None, path.name == self.stem and beside.is_dir())
        changes = {self._files[name]: _Replaced(value) for name, value in self._masters.items()}
        texts = {key: str(value) for key, value in notes.items()}
        rewrite.write(changes, {**rewrite.metadata, **texts})

    def _squares(self) -> Iterator[tuple[str, float, float]]:
        """Squared norms of change and weight, a tensor at a time."""
        originals = self._source.originals()
        for name, master in self._masters.items():
            if name not in originals:
                raise CheckpointError(f"{self._source.path.name} no longer holds {name}.")
            before = originals[name]().to(master.device, torch.float32)
            change = (master.detach() - before).square().sum()
            yield name, float(change), float(before.square().sum())


class _Replaced:
    """Puts a weight in the place of a stored one."""

    def __init__(self, value: Tensor) -> None:
        self._value = value.detach()

    def __call__(self, stored: Tensor) -> Tensor:
        return self._value.reshape(stored.shape)
