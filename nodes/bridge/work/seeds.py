"""-1 as a seed: one is drawn, told, and written where -1 stands in the graph that is saved."""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from ....sa3_core.sampling.noise import RANDOM_SEED, draw_seed

SEED = "seed"  # the input's name


def fingerprint(seed: int | None) -> str:
    """What the host compares to know a run again: never the same for a random seed."""
    return secrets.token_hex(8) if seed == RANDOM_SEED else ""


def settled_seed(seed: int, hidden: Any) -> tuple[int, list[str]]:
    """The seed to use, and what to say about it.

    Args:
        seed: -1 = draw one.
        hidden: the node's; the drawn seed replaces -1 in its prompt and workflow, which the nodes
            that save after it and the host's history share.
    """
    if seed != RANDOM_SEED:
        return seed, []
    drawn = draw_seed()
    node_id = str(getattr(hidden, "unique_id", None))
    entry = (getattr(hidden, "prompt", None) or {}).get(node_id)
    if entry is not None and entry.get("inputs", {}).get(SEED) == RANDOM_SEED:
        entry["inputs"][SEED] = drawn
    workflow = (getattr(hidden, "extra_pnginfo", None) or {}).get("workflow")
    if isinstance(workflow, Mapping):
        for node in _nodes_at(workflow, node_id):
            _write(node, drawn)
    return drawn, [f"seed {drawn} was drawn"]


def _nodes_at(workflow: Mapping[str, Any], node_id: str) -> Iterator[dict[str, Any]]:
    """The node of an id in a saved graph; ids of nodes in subgraphs are paths, as 12:5."""
    blueprints = (workflow.get("definitions") or {}).get("subgraphs") or []
    graph: Mapping[str, Any] = workflow
    *path, last = node_id.split(":")
    for step in path:
        outer = next((n for n in graph.get("nodes") or () if str(n.get("id")) == step), {})
        found = [b for b in blueprints if b.get("id") == outer.get("type")]
        if not found:
            return
        graph = found[0]
    yield from (n for n in graph.get("nodes") or () if str(n.get("id")) == last)


def _write(node: dict[str, Any], seed: int) -> None:
    """Put a seed where a node's widgets hold -1, which no other widget of it can."""
    values = node.get("widgets_values")
    if isinstance(values, dict) and values.get(SEED) == RANDOM_SEED:
        values[SEED] = seed
    elif isinstance(values, list) and RANDOM_SEED in values:
        values[values.index(RANDOM_SEED)] = seed
