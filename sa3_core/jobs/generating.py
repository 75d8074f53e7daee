"""Clips from the rows of a manifest: the model of this process and its LoRAs, kept loaded."""

from argparse import Namespace as Values
from collections.abc import Sequence
from contextlib import ExitStack

from ..adapters.loading import load_adapters
from ..adapters.switch import AdapterSwitch
from ..pieces import Take
from ..pipeline import Pipeline, extend, generate, load_pipeline
from .request import extension_of, read_source, request_of
from .row import digest_of
from .spec import JobSpec


class Generating:
    """Makes clips with the core's own pipeline."""

    def __init__(self, spec: JobSpec) -> None:
        """Nothing is loaded yet."""
        self._spec = spec
        self._loaded: tuple[str, Pipeline] | None = None
        self._adapted: tuple[str, AdapterSwitch | None] | None = None
        self._entered = ExitStack()

    def takes(self, values: Values) -> Sequence[Take]:
        """What one row, or a batch of rows put together, asks for."""
        computing = self._spec.computing
        pipeline = self._pipeline(values.model)
        switch = self._switch(pipeline, values)
        request = request_of(values)
        if values.extend_audio:
            source = read_source(values.extend_audio)
            extension = extension_of(values)
            return extend(pipeline, request, source, extension, computing.chunk, switch)
        return generate(pipeline, request, computing.chunk, computing.noise_seed, switch).takes

    def close(self) -> None:
        """Take the LoRAs out of the model."""
        self._entered.close()
        self._adapted = None

    def _pipeline(self, name: str) -> Pipeline:
        if self._loaded is None or self._loaded[0] != name:
            self.close()
            self._loaded = None  # frees the memory before the next takes some
            files, computing = self._spec.models[name], self._spec.computing
            pipeline = load_pipeline(
                files.model,
                files.text_encoder,
                files.autoencoder,
                computing.objective,
                computing.dtype,
                computing.device,
                computing.storage,
            )
            self._loaded = (name, pipeline)
        return self._loaded[1]

    def _switch(self, pipeline: Pipeline, values: Values) -> AdapterSwitch | None:
        uses = [use.with_lora(self._spec.loras[use.lora]) for use in values.lora or ()]
        key = digest_of([values.model, uses])
        if self._adapted is None or self._adapted[0] != key:
            self.close()
            switch = None
            if uses:
                built = load_adapters(self._spec.models[values.model].model, uses)
                switch = self._entered.enter_context(AdapterSwitch(pipeline.model, built))
            self._adapted = (key, switch)
        return self._adapted[1]
