"""What a LoRA file holds and how many of its layers a filter leaves on, for the node in the UI."""

import asyncio
from typing import Any

from aiohttp import web

from ....sa3_core.adapters.build import layer_count
from ....sa3_core.adapters.layer_filter import LayerFilter
from ....sa3_core.errors import SA3Error
from ..work.loras import read_lora

LORA_ROUTE = "/sa3/lora"


async def answer_lora(request: web.Request) -> web.Response:
    """Query: name and filter."""
    name, text = request.query.get("name", ""), request.query.get("filter", "")
    return web.json_response(await asyncio.to_thread(lora_info, name, text))


def lora_info(name: str, filter_text: str) -> dict[str, Any]:
    """Type, rank, alpha, layers and unused tensors of a LoRA file, or {"error": sentence}."""
    try:
        file = read_lora(name)
        chosen = LayerFilter(filter_text)
    except (SA3Error, OSError) as error:
        return {"error": str(error)}
    return {
        "type": file.adapter_type,
        "rank": file.rank,
        "alpha": file.alpha,
        "layers": layer_count(file.layers),
        "active": layer_count([key for key in file.layers if chosen.matches(key)]),
        "unused": len(file.unused),
    }
