"""What hostile prompts take: peak memory and time of each, in a process of its own.

    python -m tests.tools.hostile

ComfyUI, the pack and a tiny model are loaded once; every case runs in a fork of that, which may
take 14 GB at most, and says how far its memory rose above the start.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from tests.helpers import editing_support, in_process, support
from tests.helpers.loops import finish

LIMIT = 14_000_000_000  # bytes of address space above the start
TIME = 120  # seconds
RATE = 44100
SILENT_SECONDS = 1134  # 400 MB of samples
MANY = 100_000


def silent_flac(path: Path, seconds: int) -> Path:
    """A small file that decodes to much."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("flac", rate=RATE, layout="stereo")
        block = np.zeros((1, 2 * RATE), dtype=np.int16)
        for _ in range(seconds):
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="stereo")
            frame.rate = RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cases(loaded: editing_support.Loaded, folder: Path) -> dict[str, Callable[[], Any]]:
    """Name -> a hostile prompt or request."""
    latent = loaded.module("nodes.latent")
    editing = loaded.module("nodes.editing")
    peaks = loaded.module("nodes.bridge.web.peaks")
    schedule = loaded.module("sa3_core.sampling.schedule")
    filters = loaded.module("sa3_core.adapters.layer_filter")
    seeds = loaded.module("sa3_core.sampling.noise").parse_seeds
    sound = editing_support.music(1.0)
    short, long = (silent_flac(folder / f"{s}.flac", s) for s in (SILENT_SECONDS, 4 * 3600))
    pairs = [[0.1, 0.2]] * (10 * MANY)

    def ask(route: str, files: list[Path]) -> None:
        cache = peaks.AnswerCache()

        async def every() -> None:
            await asyncio.gather(*(cache.get(route, file) for file in files))

        finish(every())

    def many_copies() -> list[Path]:
        copies = [folder / f"copy{n}.flac" for n in range(10)]
        for copy in copies:
            copy.write_bytes(short.read_bytes())
        return copies

    mask = lambda **given: editing.SA3InpaintMask.execute(  # noqa: E731
        audio=sound, vae=loaded.vae, **given
    )
    empty = latent.SA3EmptyLatent.execute
    return {
        "durations: 100,000 entries": lambda: empty(1.0, durations="30 " * MANY),
        "durations: one of 1,000,000 digits": lambda: empty(1.0, durations="1" * 10 * MANY),
        "batch_size 4096 of 100,000 s": lambda: empty(100_000.0, 4096),
        "seeds: 10,000 ranges of 1000": lambda: seeds("1-1000 " * (MANY // 10)),
        "shift_options: 100,000 entries": lambda: schedule.parse_shift_options(
            " ".join(f"a{n}=1" for n in range(MANY))
        ),
        "layer_filter: 100,000 terms": lambda: filters.LayerFilter("a[0-5], " * MANY),
        "regions: 100,000": lambda: mask(regions="0.1-0.2 " * MANY),
        "regions: 100,000 lines": lambda: mask(regions="0.1-0.2\n" * MANY, one_list_per_line=True),
        "region_list: 1,000,000 pairs": lambda: mask(region_list=pairs),
        "region to 99,999 s": lambda: mask(regions="0.5-99999"),
        "region to 99,999 s of a latent": lambda: editing.SA3InpaintMask.execute(
            latent=loaded.encode(sound), regions="0.5-9999999"
        ),
        "SAME Encode of 100,000 s": lambda: loaded.encode(sound, 100_000.0),
        "Continue Audio by 100,000 s": lambda: editing.SA3ContinueAudio.execute(
            sound, loaded.vae, 100_000.0
        ),
        "Continue Audio by 100,000 s before": lambda: editing.SA3ContinueAudio.execute(
            sound, loaded.vae, 100_000.0, "before the start"
        ),
        "decoding 100,000 s": lambda: loaded.decode(empty(100_000.0).args[0]),
        "prompts: 100,000 lines": lambda: loaded.prompt(*["pad"] * MANY),
        "prompts: 1000 of 256 tokens": lambda: loaded.prompt(*["warm pad " * 300] * 1000),
        "peaks: 400 MB FLAC, 50 at once": lambda: ask(peaks.PEAKS_ROUTE, [short] * 50),
        "peaks: 10 such files at once": lambda: ask(peaks.PEAKS_ROUTE, many_copies()),
        "spectrogram: 50 at once": lambda: ask(peaks.SPECTROGRAM_ROUTE, [short] * 50),
        "peaks: a FLAC of 4 hours": lambda: ask(peaks.PEAKS_ROUTE, [long]),
    }


def peak() -> int:
    """Largest resident memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(run: Callable[[], Any]) -> str:
    """Run a case in a fork and describe what it took."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT, used + LIMIT))
        resource.setrlimit(resource.RLIMIT_CPU, (TIME, TIME))
        before, start = peak(), time.perf_counter()
        try:
            run()
            said = "made"
        except BaseException as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:110]}"
        text = f"{(peak() - before) / 1e6:8.0f} MB {time.perf_counter() - start:7.2f} s  {said}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return text or f"    ended by signal {status & 127} (over {TIME} s, or no memory left)"


def main() -> None:
    """Print a line per case; names given as arguments choose."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "comfyui"
        base.mkdir()
        in_process.import_comfyui(base)
        pack = in_process.import_pack()
        with torch.inference_mode():
            loaded = editing_support.load(pack, support.tiny_checkpoint("tiny-s"))
            for case, run in cases(loaded, Path(name)).items():
                if not sys.argv[1:] or any(word in case for word in sys.argv[1:]):
                    sys.stdout.write(f"{case:38} {measure(run)}\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
