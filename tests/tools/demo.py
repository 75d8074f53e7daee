"""What `dev.py demo` runs in .venv: the text-to-audio graph in a real server, kept as a file."""

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
from tests.helpers.support import tiny_checkpoint

GRAPH = ROOT / "example_workflows" / "api" / "text_to_audio.json"
BASE = ROOT / ".dev" / "demo"
OUTPUT = ROOT / "output"
DEMO_MODEL = "demo"
MODEL_FOLDERS = ("checkpoints", "diffusion_models", "vae", "text_encoders", "loras")
RUN_TIMEOUT = 24 * 3600.0  # a real model on a slow CPU, or a download


def fill_in(graph: Graph, settings: Mapping[tuple[str, str], Any]) -> Graph:
    """A copy of the graph with inputs set by (class_type, input); None leaves one as it is.

    Raises:
        KeyError: no node of that class has that input.
    """
    filled = json.loads(json.dumps(graph))
    for (class_type, name), value in settings.items():
        inputs = [node["inputs"] for node in filled.values() if node["class_type"] == class_type]
        if not any(name in own for own in inputs):
            raise KeyError(f"the graph has no {class_type} with an input {name}")
        if value is not None:
            for own in inputs:
                own[name] = value
    return filled


def prepare(models_dir: Path) -> Path:
    """Make the base folder with the demo checkpoint; returns the model paths file for ComfyUI."""
    model = BASE / "models" / "stable_audio_3" / DEMO_MODEL
    source = tiny_checkpoint("tiny-s")
    stamp = model.parent / f"{DEMO_MODEL}.made-from"
    if not stamp.is_file() or stamp.read_text() != source.parent.name:
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(source, model)
        stamp.write_text(source.parent.name)
    folders: dict[str, Any] = {name: name for name in MODEL_FOLDERS}
    # is_default: downloads go there. Each path is put first, so the last one is the target.
    folders |= {"stable_audio_3": ".\nstable_audio_3", "is_default": True}
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


def plot_spectrogram(audio: Path, picture: Path) -> float:
    """Draw the spectrogram of an audio file; returns its length in seconds."""
    import av
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with av.open(str(audio)) as container:
        rate = container.streams.audio[0].rate
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
    axes.specgram(samples + 1e-9, NFFT=2048, Fs=rate, noverlap=1536, vmin=-140)
    axes.set(xlabel="seconds", ylabel="Hz", title=audio.name)
    figure.savefig(picture, dpi=100)
    plt.close(figure)
    return len(samples) / rate


def demo(settings: dict[str, Any]) -> None:
    """Run the graph and print where its sound is and how long each part took."""
    times: dict[str, float] = {"setup": settings["setup_seconds"]}

    @contextmanager
    def part(label: str) -> Iterator[None]:
        print(f"{label} ...", flush=True)
        begin = time.monotonic()
        yield
        times[label] = time.monotonic() - begin

    with part("prepare the demo model"):
        paths = prepare(Path(settings["models_dir"]))
        flags = [*device_flags(), "--extra-model-paths-config", str(paths)]
    changes = {
        ("SA3LoadModel", "model"): settings["model"],
        ("SA3TextEncode", "text"): settings["prompt"],
        ("SA3EmptyLatent", "seconds"): settings["seconds"],
        ("SA3Sampler", "seed"): settings["seed"],
        ("SA3SaveAudio", "filename_prefix"): "demo",
    }
    graph = fill_in(json.loads(GRAPH.read_text("utf-8")), changes)
    server = ComfyServer(Path(settings["comfyui"]), BASE, flags)
    try:
        with part("start ComfyUI"):
            server.start()
        with part("run the graph"):
            run = server.client.run(graph, timeout=RUN_TIMEOUT, on_event=Progress(graph))
            print()
        if run.status != "success":
            raise SystemExit(f"the graph ended with {run.status}: {describe(run.error)}")
        (saved, *_) = (f for output in run.outputs.values() for f in output.get("audio", ()))
        name = Path(saved["filename"])
        OUTPUT.mkdir(exist_ok=True)
        target = OUTPUT / f"demo{name.suffix}"
        target.write_bytes(server.client.view(saved))
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    except PromptRejectedError as error:
        raise SystemExit(f"ComfyUI refused the graph:\n{error.messages()}") from None
    finally:
        with part("stop ComfyUI"):
            server.stop()
    picture = target.with_suffix(".png")
    with part("draw the spectrogram"):
        seconds = plot_spectrogram(target, picture)
    report(times, {graph[n]["class_type"]: t for n, t in run.node_seconds().items()})
    print(f"\nsound        {target} ({seconds:.2f} s)\nspectrogram  {picture}")
    if settings["model"] == DEMO_MODEL:
        print("The demo model has random weights, so this is noise; try --model small-music.")


def describe(error: Mapping[str, Any]) -> str:
    return f"{error.get('node_type', '')}: {error.get('exception_message', 'see above')}".strip()


def report(times: Mapping[str, float], nodes: Mapping[str, float]) -> None:
    print("\ntook, in seconds")
    for label, seconds in times.items():
        print(f"  {seconds:7.1f}  {label}")
        if label == "run the graph":
            for name, part in nodes.items():
                print(f"  {part:7.1f}      {name}")
    print(f"  {sum(times.values()):7.1f}  together")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        demo(json.loads(sys.argv[1]))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
