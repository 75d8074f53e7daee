"""Stable Audio 3 without a host: nets, samplers, editing, LoRA, files.

Letters used in all docstrings:

    B  batch
    C  latent channels (256)
    T  latent frames, 4096 samples each at 44.1 kHz (10.77 per second)
    V  latent frames that take part in a run: the longest item's piece and headroom
    S  context tokens: text, padding, duration
    D  channels of a token inside a net
    A  audio channels (2)
    N  audio samples
    t  noise level: 1 = noise, 0 = data; data = x - t v
    keep  1 = given, 0 = to be made

Durations are seconds as Python floats and are never rounded to whole seconds. The names below are
imported when they are first used, so `import sa3_core` costs nothing.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "adapters.file": ("AdapterFile", "read_adapter"),
    "adapters.switch": ("AdapterSwitch",),
    "adapters.use": ("AdapterUse",),
    "audio.waveform": ("prepare_source",),
    "audio.file": ("read_audio", "write_audio"),
    "audio.formats": ("FORMATS", "format_for"),
    "codec.autoencode": ("decode", "encode"),
    "codec.chunking": ("decode_chunked", "encode_chunked"),
    "checkpoints.download": ("download_variant",),
    "editing.edits": ("AudioToAudio", "Continuation", "Inpaint", "Loop"),
    "editing.windows": ("Extension",),
    "errors": ("SA3Error",),
    "codec.latent_file": ("Latents", "read_latents", "write_latents"),
    "adapters.layer_filter": ("LayerFilter",),
    "checkpoints.library": ("Library",),
    "checkpoints.load": ("load_autoencoder", "load_model"),
    "pipeline": (
        "GenerateRequest",
        "Generation",
        "Pipeline",
        "Take",
        "extend",
        "generate",
        "load_pipeline",
    ),
    "sampling.noise": ("Seeds",),
    "sampling.sample": ("sample_latent",),
    "sampling.start": ("StartLatent",),
    "sampling.samplers": ("SAMPLERS",),
    "networks.model": ("SA3Model",),
    "networks.same": ("SAMEAutoencoder",),
    "sampling.schedule": ("SHIFTS",),
    "sampling.settings": ("SampleSettings",),
    "text.encoder": ("T5Gemma", "load_t5gemma"),
    "checkpoints.variants": ("VARIANTS",),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
