"""What `dev.py demo` runs in .venv: graphs in a real server, their sounds kept as files."""

# ruff: noqa: T201 - a command, it prints

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.client import TEXT_EVENT, Event, Graph, PromptRejectedError
from tests.helpers.harness import ROOT, ComfyServer

from .demo_set import PIECES, Piece, graph_of, plot

BASE = ROOT / ".dev" / "demo"
OUTPUT = ROOT / "output"
DEMO_MODEL = "demo"
MODEL_FOLDERS = ("checkpoints", "diffusion_models", "vae", "text_encoders", "loras")
RUN_TIMEOUT = 24 * 3600.0  # a real model on a slow CPU, or a download


def prepare(models_dir: Path) -> Path:
    """Make the base folder; returns the model paths file for ComfyUI."""
    folders: dict[str, Any] = {name: name for name in MODEL_FOLDERS}
    # is_default: downloads go there. Each path is put first, so the last one is the target.
    folders |= {"stable_audio_3": ".\nstable_audio_3", "is_default": True}
    BASE.mkdir(parents=True, exist_ok=True)
    paths = BASE / "extra_model_paths.yaml"  # JSON is YAML too
    paths.write_text(json.dumps({"demo": {"base_path": str(models_dir), **folders}}), "utf-8")
    return paths


def device_flags() -> list[str]:
    """--cpu where there is neither CUDA nor Apple's MPS."""
    import torch

    has_device = torch.cuda.is_available() or torch.backends.mps.is_available()
    return [] if has_device else ["--cpu"]


class Progress:
    """Shows which node runs and how far it is: on one line in a terminal, else a line per node."""

    def __init__(self, graph: Graph) -> None:
        self.names = {node_id: node["class_type"] for node_id, node in graph.items()}
        self.live = sys.stdout.isatty()

    def __call__(self, event: Event) -> None:
        if event.type == "executing" and event.data["node"]:
            self._show(event.data["node"], "")
        elif event.type == "progress_state" and self.live:
            for node_id, state in event.data["nodes"].items():
                if state["state"] == "running":
                    self._show(node_id, f"{state['value']:g}/{state['max']:g}")
        elif event.type == TEXT_EVENT:
            self._show(event.data["node"], event.data["text"].replace("\n", " | "), keep=True)

    def _show(self, node_id: str, text: str, keep: bool = False) -> None:
        line = f"  {event_time()} {self.names.get(node_id, node_id)} {text}".rstrip()
        if self.live:
            print(f"\r\033[K{line}", end="\n" if keep else "", flush=True)
        else:
            print(line, flush=True)


def event_time() -> str:
    return time.strftime("%H:%M:%S")


def demo(settings: dict[str, Any]) -> None:
    """Run the graphs and print where their sounds are and how long each part took."""
    times: dict[str, float] = {"setup": settings["setup_seconds"]}

    @contextmanager
    def part(label: str) -> Iterator[None]:
        print(f"{label} ...", flush=True)
        begin = time.monotonic()
        yield
        times[label] = time.monotonic() - begin

    with part("start ComfyUI"):
        paths = prepare(Path(settings["models_dir"]))
        flags = [*device_flags(), "--extra-model-paths-config", str(paths)]
        server = ComfyServer(Path(settings["comfyui"]), BASE, flags)
        try:
            server.start()
        except RuntimeError as error:
            raise SystemExit(str(error)) from None
    made: list[tuple[Piece, Path]] = []
    OUTPUT.mkdir(exist_ok=True)
    try:
        for piece in [asked_piece(settings)] if asked(settings) else PIECES:
            with part(piece.name):
                source = next((path for other, path in made if other.name == piece.source), None)
                target = run_piece(server, piece, settings, source)
            made.append((piece, target))
    except PromptRejectedError as error:
        raise SystemExit(f"ComfyUI refused the graph:\n{error.messages()}") from None
    finally:
        with part("stop ComfyUI"):
            server.stop()
    picture = OUTPUT / "demo.png"
    with part("draw the sounds"):
        plot([(f"{piece.name}: {piece.prompt}", path) for piece, path in made], picture)
    report(times)
    for piece, path in made:
        print(f"{piece.name:<22} {path}")
    print(f"{'picture':<22} {picture}")
    if settings["model"] == DEMO_MODEL:
        print("The demo model is a toy of 3 million values; try --model small-music.")


def asked(settings: Mapping[str, Any]) -> bool:
    """Whether one piece was asked for rather than the set."""
    own = (settings[name] is not None for name in ("prompt", "seconds", "seed"))
    return settings["model"] != DEMO_MODEL or any(own)


def asked_piece(settings: Mapping[str, Any]) -> Piece:
    """What the command line names; None leaves the graph's own."""
    changes = {
        ("SA3EmptyLatent", "seconds"): settings["seconds"],
        ("SA3Sampler", "seed"): settings["seed"],
    }
    return Piece("demo", "text_to_audio", settings["prompt"], changes)


def run_piece(
    server: ComfyServer, piece: Piece, settings: Mapping[str, Any], source: Path | None
) -> Path:
    """Run one graph and keep its sound in OUTPUT."""
    if source is not None:
        (BASE / "input").mkdir(exist_ok=True)
        shutil.copy(source, BASE / "input" / source.name)
    graph = graph_of(piece, settings["model"], source)
    run = server.client.run(graph, timeout=RUN_TIMEOUT, on_event=Progress(graph))
    print()
    if run.status != "success":
        raise SystemExit(f"the graph ended with {run.status}: {describe(run.error)}")
    (saved, *_) = (f for output in run.outputs.values() for f in output.get("audio", ()))
    target = OUTPUT / f"{piece.file_name}{Path(saved['filename']).suffix}"
    target.write_bytes(server.client.view(saved))
    return target


def describe(error: Mapping[str, Any]) -> str:
    return f"{error.get('node_type', '')}: {error.get('exception_message', 'see above')}".strip()


def report(times: Mapping[str, float]) -> None:
    print("\ntook, in seconds")
    for label, seconds in times.items():
        print(f"  {seconds:7.1f}  {label}")
    print(f"  {sum(times.values()):7.1f}  together\n")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        demo(json.loads(sys.argv[1]))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
