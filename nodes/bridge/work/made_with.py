"""Which sampler made what a node gets, read from the running graph: for the seeds of its takes."""

from collections.abc import Mapping
from typing import Any

from ....sa3_core.sampling.noise import RANDOM_SEED

SAMPLERS = ("SA3Sampler", "SA3ExtendAudio", "KSampler")


def made_with(hidden: Any) -> dict[str, Any]:
    """The nearest sampler before a node, and its seeds.

    Args:
        hidden: the node's hidden inputs (prompt and unique_id).

    Returns:
        A part of `ui` for js/takes; nothing where no sampler with a seed of its own is found.
    """
    prompt = getattr(hidden, "prompt", None) or {}
    waiting, seen = [str(getattr(hidden, "unique_id", ""))], set()
    for node_id in waiting:  # grows while it is walked: nearest first
        if node_id in seen or node_id not in prompt:
            continue
        seen.add(node_id)
        inputs = prompt[node_id].get("inputs") or {}
        if prompt[node_id].get("class_type") in SAMPLERS:
            found = _seeds(node_id, inputs)
            return {"sa3_made": [found]} if found else {}
        waiting += [str(value[0]) for value in inputs.values() if _is_link(value)]
    return {}


def _seeds(node_id: str, inputs: Mapping[str, Any]) -> dict[str, str] | None:
    """None where a seed comes over a link, or was drawn and is not written down."""
    seed, listed = inputs.get("seed"), inputs.get("seeds", "")
    if _is_link(seed) or seed in (None, RANDOM_SEED) or _is_link(listed):
        return None
    return {"node": node_id, "seed": str(seed), "seeds": str(listed)}


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2
