"""Which things that a person sees in a graph lie on one another."""

from __future__ import annotations

import time

from tests.helpers.frontend import Frontend

# Boxes are [what, left, top, right, bottom] in pixels of the page.
_FIND = """(boxes) => {
    const SLACK = 1.5; // borders and rounding
    const over = (a, b) => Math.min(a[3], b[3]) - Math.max(a[1], b[1]) > SLACK
        && Math.min(a[4], b[4]) - Math.max(a[2], b[2]) > SLACK;
    return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => over(a, b))
        .map((b) => `${a[0]} and ${b[0]}`));
}"""

# Nodes 2.0: rows of widgets, and our elements where they stick out of their row.
_ROWS = """() => {
    const box = (e, name) => {
        const r = e.getBoundingClientRect();
        return [name, r.left, r.top, r.right, r.bottom];
    };
    const nodes = [...document.querySelectorAll('[data-node-id]')];
    const shown = (e) => e.checkVisibility() && e.getBoundingClientRect().height > 0;
    return { nodes: nodes.map((node) => box(node, `node ${node.dataset.nodeId}`)),
        inside: nodes.map((node) => [...node.querySelectorAll('[data-testid=node-widget]')]
            .filter(shown).map((row, index) => {
                const own = row.querySelector('[data-sa3-widget]') ?? row;
                const [name, ...outer] = box(row,
                    `${own.dataset?.sa3Widget ?? `row ${index}`} of node ${node.dataset.nodeId}`);
                const inner = box(own, name).slice(1);
                return [name, Math.min(outer[0], inner[0]), Math.min(outer[1], inner[1]),
                    Math.max(outer[2], inner[2]), Math.max(outer[3], inner[3])];
            })) };
}"""

# Litegraph: what it draws, by its own coordinates, and elements that lie above the canvas.
_DRAWN = """() => {
    const { scale, offset } = app.canvas.ds, canvas = app.canvas.canvas.getBoundingClientRect();
    const box = (name, x, y, w, h) => [name,
        (x + offset[0]) * scale + canvas.left, (y + offset[1]) * scale + canvas.top,
        (x + w + offset[0]) * scale + canvas.left, (y + h + offset[1]) * scale + canvas.top];
    const title = LiteGraph.NODE_TITLE_HEIGHT;
    const nodes = app.graph.nodes;
    const folded = (node, widget) =>
        (widget.advanced || widget.options?.advanced) && !node.showAdvanced;
    const widgets = (node) => node.flags.collapsed ? [] : node.widgets.filter((widget) =>
        !widget.hidden && !widget.options?.hidden && !folded(node, widget));
    return {
        nodes: nodes.map((n) => box(`node ${n.id}`, n.pos[0], n.pos[1] - title,
            n.flags.collapsed ? (n._collapsed_width ?? 80) : n.size[0],
            (n.flags.collapsed ? 0 : n.size[1]) + title)),
        inside: nodes.filter((n) => n.widgets?.length).map((node) => {
            const under = [`below node ${node.id}`, node.pos[0], node.pos[1] + node.size[1]];
            const boxes = widgets(node).filter((w) => w.y !== undefined).map((w) => {
                const name = `${w.name} of node ${node.id}`;
                if (w.element?.isConnected && w.element.checkVisibility()) {
                    const r = w.element.getBoundingClientRect();
                    return [name, r.left, r.top, r.right, r.bottom];
                }
                const height = w.computedHeight ?? LiteGraph.NODE_WIDGET_HEIGHT;
                return box(name, node.pos[0], node.pos[1] + w.y, node.size[0], height);
            });
            return [...boxes, box(...under, node.size[0], 1000)];
        }),
    };
}"""


def overlaps(ui: Frontend, renderer: str) -> list[str]:
    """Pairs of nodes, and of widgets in a node, that lie on one another on the page."""
    found = ui.page.evaluate(_ROWS if renderer == "vue" else _DRAWN)
    assert found["nodes"]
    assert any(found["inside"])
    groups = [found["nodes"], *found["inside"]]
    return [pair for boxes in groups for pair in ui.page.evaluate(_FIND, boxes)]


def lasting_overlaps(ui: Frontend, renderer: str, seconds: float = 30.0) -> list[str]:
    """`overlaps` that stay although the page had time to draw what has come late."""
    end = time.monotonic() + seconds
    while (found := overlaps(ui, renderer)) and time.monotonic() < end:
        ui.settle(300)
    return found
