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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers; a test holds the two lists together
    from .adapters.combine import combine_adapters as combine_adapters
    from .adapters.file import AdapterFile as AdapterFile
    from .adapters.file import read_adapter as read_adapter
    from .adapters.layer_filter import LayerFilter as LayerFilter
    from .adapters.loading import load_adapters as load_adapters
    from .adapters.merge import merge_checkpoint as merge_checkpoint
    from .adapters.switch import AdapterSwitch as AdapterSwitch
    from .adapters.use import AdapterUse as AdapterUse
    from .audio.file import read_audio as read_audio
    from .audio.file import write_audio as write_audio
    from .audio.formats import FORMATS as FORMATS
    from .audio.formats import format_for as format_for
    from .audio.waveform import prepare_source as prepare_source
    from .checkpoints.download import download_variant as download_variant
    from .checkpoints.library import Library as Library
    from .checkpoints.load import load_autoencoder as load_autoencoder
    from .checkpoints.load import load_model as load_model
    from .checkpoints.variants import VARIANTS as VARIANTS
    from .codec.autoencode import decode as decode
    from .codec.autoencode import encode as encode
    from .codec.chunking import decode_chunked as decode_chunked
    from .codec.chunking import encode_chunked as encode_chunked
    from .codec.latent_file import Latents as Latents
    from .codec.latent_file import read_latents as read_latents
    from .codec.latent_file import write_latents as write_latents
    from .editing.edits import AudioToAudio as AudioToAudio
    from .editing.edits import Continuation as Continuation
    from .editing.edits import Inpaint as Inpaint
    from .editing.edits import Loop as Loop
    from .editing.windows import Extension as Extension
    from .errors import SA3Error as SA3Error
    from .networks.model import SA3Model as SA3Model
    from .networks.same import SAMEAutoencoder as SAMEAutoencoder
    from .pieces import GenerateRequest as GenerateRequest
    from .pieces import Generation as Generation
    from .pieces import Take as Take
    from .pipeline import Pipeline as Pipeline
    from .pipeline import extend as extend
    from .pipeline import generate as generate
    from .pipeline import load_pipeline as load_pipeline
    from .sampling.noise import Seeds as Seeds
    from .sampling.sample import sample_latent as sample_latent
    from .sampling.samplers import SAMPLERS as SAMPLERS
    from .sampling.schedule import SHIFTS as SHIFTS
    from .sampling.settings import SampleSettings as SampleSettings
    from .sampling.start import StartLatent as StartLatent
    from .text.encoder import T5Gemma as T5Gemma
    from .text.encoder import load_t5gemma as load_t5gemma

_NAMES = {
    "adapters.combine": ("combine_adapters",),
    "adapters.loading": ("load_adapters",),
    "adapters.merge": ("merge_checkpoint",),
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
    "pieces": ("GenerateRequest", "Generation", "Take"),
    "pipeline": (
        "Pipeline",
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

__all__ = sorted(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
