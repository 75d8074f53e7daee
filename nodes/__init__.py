"""The pack's nodes: each a schema and one call into the core."""

from typing import Any

from comfy_api.latest import ComfyExtension

from . import (
    adapters,
    audio,
    editing,
    extending,
    latent,
    listening,
    loaders,
    prompting,
    sampling,
    schedule,
    takes,
    text,
)
from .bridge.files import register_folder
from .bridge.prompt_routes import register_prompt_routes
from .bridge.routes import register_routes

FAMILIES = (
    loaders,
    prompting,
    text,
    latent,
    sampling,
    schedule,
    audio,
    editing,
    extending,
    takes,
    listening,
    adapters,
)


class SA3Extension(ComfyExtension):
    """Hands the node classes to ComfyUI."""

    async def on_load(self) -> None:
        """Make the model folder known before the first schema is read; add our routes."""
        register_folder()
        register_routes()
        register_prompt_routes()

    async def get_node_list(self) -> list[type[Any]]:
        """Every node of every family."""
        return [node for family in FAMILIES for node in family.NODES]


async def comfy_entrypoint() -> SA3Extension:
    """ComfyUI's entry into the pack."""
    return SA3Extension()
