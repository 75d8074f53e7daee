"""What a person sees of a graph that the page has just opened, and what hides parts of it."""

# Boxes are [what, left, top, right, bottom] in pixels of the page. What is drawn on the canvas, or
# stands in a node, may lie over a node; bars, buttons and the map of the page may not.
SEEN_AT_OPENING = """() => {
    const SLACK = 1.5; // rounding
    const MAP = "[data-testid=minimap-container], .minimap-main-container";
    const { ds, canvas } = app.canvas, { left, top } = canvas.getBoundingClientRect();
    const onPage = (value, axis) => (value + ds.offset[axis]) * ds.scale;
    const at = (x, y) => [onPage(x, 0) + left, onPage(y, 1) + top];
    const box = (name, x, y, width, height) => [name, ...at(x, y), ...at(x + width, y + height)];
    const nodes = app.graph.nodes.map((node) => {
        const name = `${node.type} ${node.id}`;
        const element = document.querySelector(`[data-node-id="${node.id}"]`);
        if (element) {
            const r = element.getBoundingClientRect();
            return [name, r.left, r.top, r.right, r.bottom];
        }
        const above = LiteGraph.NODE_TITLE_HEIGHT, [x, y] = node.pos, [width, height] = node.size;
        const { collapsed } = node.flags;
        return box(name, x, y - above, collapsed ? node._collapsed_width ?? 80 : width,
            (collapsed ? 0 : height) + above);
    });
    const frames = app.graph.groups.map((g) => box(g.title, ...g.pos, ...g.size));
    const pen = document.createElement("canvas").getContext("2d");
    const titles = app.graph.groups.map((group) => {
        const size = group.font_size ?? 24;
        pen.font = `${size}px ${LiteGraph.GROUP_FONT ?? "Inter, Arial"}`;
        return box(`title ${group.title}`, group.pos[0] + 4, group.pos[1] + size * 0.3,
            Math.min(pen.measureText(group.title).width, group.size[0] - 8), size * 0.85);
    });
    const isGraph = (element) => element === canvas
        || element?.closest("[data-node-id], .dom-widget, [data-testid=transform-pane]");
    const hiding = ([, x0, y0, x1, y1]) => {
        for (let i = 0.02; i < 1; i += 0.06) {
            for (let j = 0.05; j < 1; j += 0.1) {
                const found = document.elementFromPoint(x0 + (x1 - x0) * i, y0 + (y1 - y0) * j);
                if (!isGraph(found)) return found?.outerHTML.slice(0, 120) ?? "the screen's edge";
            }
        }
        return null;
    };
    const holds = ([, x0, y0, x1, y1], [, left, top, right, bottom]) => left >= x0 - SLACK
        && top >= y0 - SLACK && right <= x1 + SLACK && bottom <= y1 + SLACK;
    return {
        title: ds.scale * LiteGraph.NODE_TEXT_SIZE,
        hasMap: Boolean(document.querySelector(MAP)?.checkVisibility()),
        nodes, titles,
        covered: [...nodes, ...titles].map((one) => [one[0], hiding(one)]).filter(([, by]) => by),
        outOfFrame: nodes.filter((node) => !frames.some((frame) => holds(frame, node))),
    };
}"""
