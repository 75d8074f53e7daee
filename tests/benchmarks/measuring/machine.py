"""What a process knows about its memory, its processor time and the machine around it."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

import torch

PROC = Path("/proc")  # Linux only; elsewhere less is known
_RESET_PEAK = "5"  # proc(5), clear_refs


def _status(field: str) -> float | None:
    """A field of /proc/self/status in bytes."""
    try:
        lines = (PROC / "self/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(field + ":"):
            return float(line.split()[1]) * 1024
    return None


def give_back_free_memory() -> None:
    """Make glibc return freed memory to the kernel, so that every run starts alike."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda keep: None)(0)


def resident() -> float | None:
    """Bytes of this process in memory, None where that cannot be told."""
    return _status("VmRSS")


def reset_peak() -> None:
    """Start a new measurement of the peak, where the system can."""
    try:
        (PROC / "self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return


def peak_resident() -> float | None:
    """Highest `resident` since `reset_peak`, or of the whole life where there is no reset."""
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return None
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS: in bytes


def busy_seconds() -> float | None:
    """Processor seconds that all processes together have used since boot."""
    try:
        first = (PROC / "stat").read_text("ascii").splitlines()[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, soft, *stolen = map(float, first[1:])
    ticks = user + nice + system + irq + soft + (stolen[0] if stolen else 0.0)
    return ticks / os.sysconf("SC_CLK_TCK")


def processor() -> str:
    """The processor's name."""
    try:
        lines = (PROC / "cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def describe() -> str:
    """Machine and card in one line."""
    parts = [processor(), f"{os.cpu_count()} logical cores", platform.system()]
    parts.append(torch.backends.cpu.get_cpu_capability())
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)
