"""What a LoRA file holds and how many of its layers a filter leaves on, for the node in the UI."""

import asyncio
from typing import Any

from aiohttp import web

from ....sa3_core.adapters.layer_filter import LayerFilter
from ....sa3_core.errors import SA3Error
from ..work.loras import read_lora

LORA_ROUTE = "/sa3/lora"


async def answer_lora(request: web.Request) -> web.Response:
    """Query: name and filter."""
    name, text = request.query.get("name", ""), request.query.get("filter", "")
    return web.json_response(await asyncio.to_thread(lora_info, name, text))


def lora_info(name: str, filter_text: str) -> dict[str, Any]:
    """Type, rank, alpha and layers of a file below `loras`, or {"error": sentence}."""
    try:
        file = read_lora(name)
        active = LayerFilter(filter_text).count(file.layers)
    except (SA3Error, OSError) as error:
        return {"error": str(error)}
    return {
        "type": file.adapter_type,
        "rank": file.rank,
        "alpha": file.alpha,
        "layers": len(file.layers),
        "active": active,
    }
