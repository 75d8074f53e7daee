"""How rows of a job are made with the host's nets: LoRAs and models by name, progress over all."""

from argparse import Namespace as Values
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management as mm
import comfy.utils

from ....sa3_core.adapters.use import AdapterUse
from ....sa3_core.jobs.outcome import Outcome
from ....sa3_core.jobs.request import extension_of, read_source, request_of
from ....sa3_core.pieces import Take, make_extended, make_pieces
from ..host.progress import Whole
from ..host.running import check_interrupted
from .host_nets import HostNets
from .loading import ModelChoice, load_all
from .loras import apply_lora

NODE = "Job from Manifest"
_DOING = {"encode": "encoding", "sample": "sampling", "decode": "decoding"}
_SHARES = {"encode": (0.0, 0.1), "sample": (0.1, 0.7), "decode": (0.8, 0.2)}  # of a row's time
_SCALE = 1000  # steps of the progress bar per row


class JobInterruptedError(BaseException):
    """The user's cancel on its way through a worker, which takes exceptions for faults of rows."""


class JobReport:
    """One progress bar over all rows that are left to be made."""

    def __init__(self) -> None:
        self._total = self._done = 0
        self._bar: Any = None
        self._whole = Whole()

    def start(self, total: int) -> None:
        """So many rows are to be made."""
        self._total = total

    def ended(self, done: int, total: int, outcome: Outcome) -> None:
        """A row has ended."""
        self._done = done
        self._show(float(done), f"row {done} of {total}")

    def begin(self, rows: int) -> Callable[[str, int, int], None]:
        """An `on_progress` for the next batch of rows."""

        def report(stage: str, done: int, total: int) -> None:
            part = stage.rpartition(": ")[2].split()[0]
            offset, share = _SHARES[part]
            first = self._done + 1
            which = f"row {first}" if rows == 1 else f"rows {first}-{first + rows - 1}"
            fraction = rows * (offset + share * done / max(total, 1))
            self._show(self._done + fraction, f"{which} of {self._total}, {_DOING[part]}")

        return report

    def _show(self, rows: float, text: str) -> None:
        check_interrupted()
        whole = max(self._total, 1) * _SCALE
        self._bar = self._bar or comfy.utils.ProgressBar(whole)
        self._bar.update_absolute(min(round(rows * _SCALE), whole), whole)
        self._whole.update(text, min(rows / max(self._total, 1), 1.0))


class HostStudio:
    """Makes takes with the nets of the sockets, or those that a row names."""

    def __init__(self, given: HostNets, report: "JobReport") -> None:
        self._given, self._report = given, report
        self._named: tuple[str, HostNets] | None = None
        self._adapted: tuple[tuple[str | None, Sequence[AdapterUse[str]]], HostNets] | None = None

    def takes(self, values: Values) -> Sequence[Take]:
        """What one row, or a batch of rows put together, asks for."""
        try:
            nets, request = self._nets(values), request_of(values)
            on_progress = self._report.begin(request.batch)
            if values.extend_audio:
                source, extension = read_source(values.extend_audio), extension_of(values)
                return make_extended(nets, request, source, extension, on_progress)
            return make_pieces(nets, request, on_progress).takes
        except mm.InterruptProcessingException as error:
            raise JobInterruptedError from error

    def close(self) -> None:
        """LoRAs lie on clones, which go with this object."""

    def _nets(self, values: Values) -> HostNets:
        uses = tuple(values.lora or ())
        key = (values.model, uses)
        if self._adapted is None or self._adapted[0] != key:
            self._adapted = None
            nets = self._model(values.model)
            patcher = nets.patcher
            for use in uses:
                patcher, _ = apply_lora(patcher, use, NODE)
            self._adapted = key, HostNets(patcher, nets.clip, nets.vae, nets.say)
        return self._adapted[1]

    def _model(self, name: str | None) -> HostNets:
        if name is None:
            return self._given
        if self._named is None or self._named[0] != name:
            self._named = None  # frees the memory before the next takes some
            self._named = name, HostNets(*load_all(ModelChoice(name)), self._given.say)
        return self._named[1]
