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

# What a template's graph does, in columns: a group for each step, plumbing as title bars. Below a
# node is room for what it says after a run, in both renderers; see template_columns.py.
IN_COLUMNS = """function inColumns(nodes, columns) {
    const GAP_X = 40, TITLE = 30, ABOVE = 30, GROUP_TOP = 62, SIDE = 12, END = 8;
    // On a small screen the page makes the nodes, not the groups, so wide and centres them; of a
    // taller graph the groups' titles would lie under the page's own bars.
    const SPARE = 6; // of a graph that has to be taller
    const FITTED = 1008, BELOW_BARS = 298; // px; the latter up to the middle of the screen
    const wide = columns.reduce((sum, { width }) => sum + width + GAP_X, -GAP_X);
    const LOWEST = Math.floor(2 * ((BELOW_BARS * wide) / FITTED - GROUP_TOP - SPARE)) + TITLE;
    const NOTE = 230;
    const TEXT_ROOM = 60; // for a prompt of some lines, where its column is one step
    // Nodes 2.0 makes its nodes taller by these shares.
    const SHARE = { SA3EmptyLatent: 1.3, SA3LoadModel: 1.26, SA3TextEncode: 1,
        SA3InpaintMask: 1.12 };
    const LEAST = { SA3TextEncode: 172 }; // height in Nodes 2.0
    // Pixels of what is said after a run, where it is more than a line.
    const SAYS = { SA3LoadModel: 64, SA3LoraLoader: 118, SA3InpaintMask: 62, SA3SaveAudio: 166,
        LoadAudio: 8 };
    const left = [...nodes].sort((a, b) => a.id - b.id);
    const take = (type) => left.splice(left.findIndex((node) => node.type === type), 1)[0];
    const says = (node) => {
        if (node.type !== "SA3TextEncode") return SAYS[node.type] ?? 32;
        const { value } = node.widgets.find((widget) => widget.name === "text");
        return 12 + 16 * value.split("\\n").length; // a line for each prompt
    };
    const room = (node) => {
        const [, height] = node.size;
        const tall = Math.max(LEAST[node.type] ?? 0, (SHARE[node.type] ?? 1.2) * height);
        return Math.max(height + says(node), tall);
    };
    const place = (type, isBar, x, y, width, textRoom) => {
        const node = take(type);
        node.pos = [x, y];
        const text = type === "SA3TextEncode" ? textRoom : 0;
        const least = node.computeSize()[1];
        const isNote = type === "MarkdownNote";
        const height = isNote ? Math.max(Math.min(NOTE, LOWEST - y), least) : least + text;
        node.setSize([width, height]);
        if (isBar) node.collapse();
        return isBar ? { end: y, last: y } : { end: y + room(node), last: y + node.size[1] };
    };
    const steps = new Map(); // by title: left, top, right
    let x = 0, bottom = 0;
    const open = []; // steps that reach to the bottom
    for (const { width, parts } of columns) {
        let y = 0, before = null;
        const textRoom = parts.length === 1 ? TEXT_ROOM : 0;
        for (const { title, members } of parts) {
            const fresh = { left: x - SIDE, top: y - GROUP_TOP, right: 0, bottom: 0 };
            const step = steps.get(title) ?? fresh;
            steps.set(title, step);
            step.right = x + width + SIDE;
            if (before) before.bottom = step.top - END;
            before = step;
            for (const [type, isBar] of members) {
                const { end, last } = place(type, isBar, x, y, width, textRoom);
                bottom = Math.max(bottom, last);
                y = end + ABOVE + TITLE;
            }
            y += GROUP_TOP + END - ABOVE - TITLE;
        }
        open.push(before);
        x += width + GAP_X;
    }
    for (const step of open) step.bottom = bottom + END;
    const LAST = ["Make it", "Listen"]; // wherever they stand
    const story = [...steps].sort(([a], [b]) => LAST.indexOf(a) - LAST.indexOf(b));
    let number = 0;
    for (const [title, step] of story) {
        const group = new LiteGraph.LGraphGroup(`${++number}  ${title}`);
        group.pos = [step.left, step.top];
        group.size = [step.right - step.left, step.bottom - step.top];
        app.graph.add(group);
    }
    if (left.length) throw new Error(`no place for ${left.map((node) => node.type)}`);
}"""

# Where the lowest node ends in Nodes 2.0, which makes nodes taller than they are kept.
LOWEST_END = """() => {
    const { scale, offset } = app.canvas.ds, { top } = app.canvas.canvas.getBoundingClientRect();
    const nodes = [...document.querySelectorAll('[data-node-id]')];
    const ends = nodes.map((node) => node.getBoundingClientRect().bottom);
    return (Math.max(...ends) - top) / scale - offset[1];
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
