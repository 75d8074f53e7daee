"""The table of a run, and its picture."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import machine
from tests.benchmarks.measuring.measure import Measured, Result
from tests.benchmarks.measuring.peak import Rates

HEADER = (
    *("part", "audio", "dtype", "implementation", "rounds", "seconds", "peer / ours"),
    *("of torch's limit", "of the best library's", "memory above weights"),
    *("difference to ours", "target"),
)
PACKAGES = ("torch", "transformers", "diffusers", "safetensors")


@dataclass(frozen=True)
class Report:
    """Everything that was measured.

    Attributes:
        threads: of every implementation.
        peaks: matmul rates by device and dtype.
        rows: what was measured.
        notes: sentences and further tables, as Markdown.
    """

    threads: int
    peaks: dict[tuple[str, str], Rates]
    rows: list[Measured]
    notes: list[str]

    @property
    def ok(self) -> bool:
        """Everyone agrees, and ours gave a result everywhere."""
        return all(not m.disagreeing and not m.ours.error for m in self.rows)

    def share(self, measured: Measured, seconds: float | None, best: bool = False) -> float | None:
        """Time of the necessary FLOPs at the machine's peak, over the `seconds` taken.

        Args:
            best: at the rate of the best library, instead of torch's own product.
        """
        row, limit = measured.row, 0.0
        for flops, dtype in ((row.flops, row.job.dtype), (row.fp32_flops, "fp32")):
            rates = self.peaks.get((row.job.device, dtype))
            if flops and rates:
                limit += flops / (rates.best if best else rates.matmul)
        return limit / seconds if limit and seconds else None

    def verdict(self, measured: Measured) -> str:
        """Whether our result is what it is to be."""
        target, ours = measured.row.target, measured.ours
        wanted: list[tuple[str, float | None, bool]] = []
        if target.limit is not None:
            share = self.share(measured, ours.fastest)
            wanted.append((f">= {target.limit:.0%}", share, (share or 0) >= target.limit))
        if target.ratio is not None:
            peer = measured.fastest_peer
            ratio = peer / ours.median if peer and ours.median else None
            wanted.append((f">= {target.ratio:g}x", ratio, (ratio or 0) >= target.ratio))
        if target.memory is not None:
            memory = ours.memory
            wanted.append((f"<= {size(target.memory)}", memory, (memory or 0) <= target.memory))
        words = [
            f"{text} " + ("unknown" if value is None else "yes" if met else "NO")
            for text, value, met in wanted
        ]
        return ", ".join(words)

    def lines(self) -> list[str]:
        """The table."""
        table = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
        for measured in self.rows:
            for name, result in measured.results.items():
                table.append("| " + " | ".join(self._cells(measured, name, result)) + " |")
        return table

    def _cells(self, measured: Measured, name: str, result: Result) -> list[str]:
        row, ours = measured.row, measured.ours
        first = [row.name, f"{row.length:g} s" if row.length else "", row.job.dtype, name]
        if result.error:
            return [*first, "", result.error.replace("|", "/"), "", "", "", "", "", ""]
        own = name == row.implementations[0]
        shares = [self._shares(measured, result, best) for best in (False, True)]
        seconds, mine = result.median, ours.median
        ratio = "" if own or not seconds or not mine else f"{seconds / mine:.2f}x"
        difference = "" if result.difference is None else f"{result.difference:.1e}"
        if name in measured.disagreeing:
            difference += " DISAGREES"
        rounds = str(len(result.seconds)) + (f" (+{result.repeats})" if result.repeats else "")
        spread = ""
        if len(result.seconds) > 1:
            spread = f" ({min(result.seconds):.2f} - {max(result.seconds):.2f})"
        return [
            *(*first, rounds, f"{seconds:.3g}{spread}", ratio),
            *shares,
            size(result.memory if result.vram is None else result.vram),
            difference,
            self.verdict(measured) if own else "",
        ]

    def _shares(self, measured: Measured, result: Result, best: bool) -> str:
        """Of the median and, with several rounds, of the fastest one."""
        median = self.share(measured, result.median, best)
        fastest = self.share(measured, result.fastest, best)
        if median is None or fastest is None:
            return ""
        return f"{median:.0%}" + (f" ({fastest:.0%})" if len(result.seconds) > 1 else "")

    def text(self) -> str:
        """The whole as Markdown."""
        rates = [
            f"{place} {dtype} {rate.matmul / 1e9:.0f} ({rate.best / 1e9:.0f}) GFLOP/s"
            for (place, dtype), rate in self.peaks.items()
        ]
        versions = [f"{name} {version_of(name)}" for name in PACKAGES]
        title = [
            *("# Speed", ""),
            f"{machine.describe()}; {self.threads} threads.",
            f"Python {platform.python_version()}, {', '.join(versions)}.",
            f"Matmul rates, each the best of the whole run: {', '.join(rates)}; in brackets those "
            "of the fastest library that torch brings, with operands laid out for it beforehand.",
            "",
            "Seconds are medians over rounds in which the implementations took turns (lowest - "
            "highest). A limit is the time of the necessary FLOPs at such a rate; shares of it are "
            "those of the median and, in brackets, of the fastest round, which targets are held "
            "against because the rates are those of the best moments too. `(+n)`: n runs were "
            "repeated because other processes took part of the machine. The difference is relative "
            "L2 to our fp32 result.",
            "",
        ]
        return "\n".join([*title, *self.lines(), "", *self.notes, ""])

    def picture(self, path: Path) -> None:
        """Seconds of every implementation, in units of the limit, as bars."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        rows = [m for m in self.rows if any(self.share(m, r.median) for r in m.results.values())]
        if not rows:
            return
        names = sorted({name for m in rows for name in m.results}, key=_position)
        figure, axes = plt.subplots(figsize=(9, 1.2 + 0.5 * len(rows)))
        height = 0.8 / len(names)
        for number, name in enumerate(names):
            shares = [
                self.share(m, m.results[name].median) if name in m.results else 0 for m in rows
            ]
            at = [place + (number + 0.5) * height - 0.4 for place in range(len(rows))]
            axes.barh(at, [100 * (share or 0) for share in shares], height, label=name)
        axes.set_yticks(range(len(rows)), [_label(m) for m in rows])
        axes.invert_yaxis()
        axes.axvline(100, color="black", linewidth=0.8)
        axes.set_xlabel("% of what torch's own matmul rate on this machine allows")
        axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.0), ncols=len(names))
        axes.margins(y=0.02)
        figure.tight_layout()
        figure.savefig(path, dpi=110)
        plt.close(figure)


def _label(measured: Measured) -> str:
    row = measured.row
    return f"{row.name}, {row.length:g} s, {row.job.dtype}"


def _position(name: str) -> tuple[bool, str]:
    return not name.startswith("ours"), name


def version_of(package: str) -> str:
    """Of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def size(count: float | None) -> str:
    """Bytes in MB or GB."""
    if count is None:
        return "n/a"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
