"""How graphs are laid out for example workflows and pictures, as JavaScript for the page."""

# Columns by the longest way from a node without inputs; below a node is room for what it says after
# a run. Gives the lower edge.
ARRANGE = """function arrange(nodes, top) {
    const GAP_X = 60, GAP_Y = 110, MIN_WIDTH = 300, MIN_TEXT_HEIGHT = 180;
    const graph = app.graph;
    const depths = new Map();
    const depth = (node) => {
        if (!depths.has(node.id)) {
            const links = node.inputs.map((input) => graph.links.get(input.link)).filter(Boolean);
            const before = links.map((link) => depth(graph.getNodeById(link.origin_id)));
            depths.set(node.id, Math.max(-1, ...before) + 1);
        }
        return depths.get(node.id);
    };
    const columns = [];
    for (const node of nodes) (columns[depth(node)] ??= []).push(node);
    let x = 0, bottom = top;
    for (const column of columns) {
        let y = top, width = 0;
        for (const node of column) {
            const size = node.computeSize();
            const isText = node.widgets?.some((widget) => widget.element?.tagName === "TEXTAREA");
            const height = Math.max(size[1], isText ? MIN_TEXT_HEIGHT : 0);
            node.setSize([Math.max(size[0], MIN_WIDTH), height]);
            node.pos = [x, y];
            y += node.size[1] + GAP_Y;
            width = Math.max(width, node.size[0]);
            bottom = Math.max(bottom, y);
        }
        x += width + GAP_X;
    }
    return bottom;
}"""

# Fill a part of the page, given as left, top, right, bottom, with the graph.
FILL = """([left, top, right, bottom]) => {
    const items = [...app.graph.nodes, ...app.graph.groups];
    const x = Math.min(...items.map((item) => item.pos[0]));
    const y = Math.min(...items.map((item) => item.pos[1])) - LiteGraph.NODE_TITLE_HEIGHT;
    const width = Math.max(...items.map((item) => item.pos[0] + item.size[0])) - x;
    const height = Math.max(...items.map((item) => item.pos[1] + item.size[1])) - y;
    const ds = app.canvas.ds;
    ds.scale = Math.min((right - left) / width, (bottom - top) / height, 1);
    ds.offset[0] = left / ds.scale - x;
    ds.offset[1] = top / ds.scale - y;
    app.canvas.setDirty(true, true);
}"""

# Corners of what is drawn, in pixels of the page.
BOUNDS = """() => {
    const items = [...app.graph.nodes, ...app.graph.groups];
    const above = (item) => app.graph.groups.includes(item) ? 0 : LiteGraph.NODE_TITLE_HEIGHT;
    const left = Math.min(...items.map((item) => item.pos[0]));
    const top = Math.min(...items.map((item) => item.pos[1] - above(item)));
    const right = Math.max(...items.map((item) => item.pos[0] + item.size[0]));
    const bottom = Math.max(...items.map((item) => item.pos[1] + item.size[1]));
    const { scale, offset } = app.canvas.ds;
    const at = (x, y) => [(x + offset[0]) * scale, (y + offset[1]) * scale];
    return [...at(left, top), ...at(right, bottom)];
}"""
