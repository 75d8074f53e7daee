"""The pack's nodes: each a schema and one call into the core."""

from typing import Any

from comfy_api.latest import ComfyExtension

from . import (
    adapters,
    datasets,
    editing,
    extending,
    jobs,
    latent,
    latent_files,
    listening,
    loaders,
    sampling,
    saving,
    schedule,
    text,
    training,
)
from .bridge.host.examples import offer_sounds
from .bridge.host.folders import register_folder, register_loras
from .bridge.web.register import register_routes

FAMILIES = (
    loaders,
    text,
    latent,
    sampling,
    schedule,
    saving,
    editing,
    extending,
    latent_files,
    listening,
    adapters,
    datasets,
    training,
    jobs,
)


class SA3Extension(ComfyExtension):
    """Hands the node classes to ComfyUI."""

    async def on_load(self) -> None:
        """Make the model folder known before the first schema is read; add sounds and routes."""
        register_folder()
        register_loras()
        offer_sounds()
        register_routes()

    async def get_node_list(self) -> list[type[Any]]:
        """Every node of every family."""
        return [node for family in FAMILIES for node in family.NODES]


async def comfy_entrypoint() -> SA3Extension:
    """ComfyUI's entry into the pack."""
    return SA3Extension()
