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

# What a template's graph does, from left to right: a group for each step, plumbing as title bars.
# With the whole of it in sight, as the page opens a template, every title can be read.
IN_GROUPS = """function inGroups(nodes, note) {
    const GAP_X = 40, GAP_Y = 96, BELOW_BAR = 44, TOP = 62, SIDE = 12, NOTE_HEIGHT = 230;
    const TEXT_ROOM = 70; // for a prompt of some lines
    const TALLER = 44; // nodes of Nodes 2.0
    const has = (type) => nodes.some((node) => node.type === type);
    const PROMPT = ["SA3TextEncode", "SA3EmptyLatent", "SA3ContinueAudio", "SA3Loop"];
    const MAKE = ["SA3Sampler", "SA3ExtendAudio", "SA3SAMEDecode"];
    const SOURCE = ["SA3LoadModel", "SA3LoraLoader", "LoadAudio", "SA3SAMEEncode"];
    const STEPS = [
        [has("LoadAudio") ? "Model and source" : has("SA3LoraLoader") ? "Model and LoRAs" : "Model",
            SOURCE, 252],
        ...(has("SA3InpaintMask")
            ? [["Where", ["SA3InpaintMask"], 384], ["What to make", [...PROMPT, ...MAKE], 288]]
            : [["What to make", PROMPT, 300], ["Make it", MAKE, 252]]),
        ["Listen", ["SA3SplitAudioBatch", "SA3SaveAudio"], 252],
    ];
    const BARS = ["SA3SAMEEncode", "SA3SAMEDecode", "SA3SplitAudioBatch"];
    const title = (text, number) => number + "  " + (text !== STEPS[0][0] ? text
        : nodes.some((node) => node.type === "LoadAudio") ? text : "Model");
    const columns = [];
    for (const [text, types, width] of STEPS) {
        const all = nodes.filter((node) => types.includes(node.type));
        // Two masks stand side by side: each is a picture.
        const isPicture = types[0] === "SA3InpaintMask";
        const parts = isPicture ? all.map((node) => [node]) : all.length ? [all] : [];
        const wide = parts.length > 1 ? 320 : width;
        for (const members of parts) columns.push({ text, width: wide, members });
    }
    let x = 0;
    for (const column of columns) {
        let y = 0;
        column.members.sort((a, b) =>
            STEPS.flatMap(([, types]) => types).indexOf(a.type)
            - STEPS.flatMap(([, types]) => types).indexOf(b.type) || a.id - b.id);
        for (const node of column.members) {
            const room = node.type === "SA3TextEncode" ? TEXT_ROOM : 0;
            node.setSize([column.width, node.computeSize()[1] + room]);
            node.pos = [x, y];
            if (BARS.includes(node.type)) node.collapse();
            // Nodes 2.0 makes tall nodes taller by a fifth.
            const high = Math.max(node.size[1] + GAP_Y, 1.2 * node.size[1] + GAP_Y / 2);
            y += node.flags.collapsed ? BELOW_BAR : high;
        }
        column.x = x;
        column.end = y - (column.members.at(-1).flags.collapsed ? BELOW_BAR - 8 : GAP_Y - 8);
        x += column.width + GAP_X;
    }
    // The note stands on the left where that makes nothing longer: the page's map is on the right.
    const lowest = Math.max(...columns.map(({ end }) => end));
    const isFree = columns[0].end + GAP_Y + NOTE_HEIGHT <= lowest + GAP_Y;
    const room = isFree ? columns[0] : columns.at(-1);
    note.pos = [room.x, room.end + GAP_Y];
    note.setSize([room.width, NOTE_HEIGHT]);
    room.end += GAP_Y + NOTE_HEIGHT + 8;
    const bottom = Math.max(...columns.map(({ end }) => end));
    let number = 0, before = "";
    for (const { text, width, x: left, end } of columns) {
        const group = new LiteGraph.LGraphGroup(`${text === before ? number : ++number}  ${text}`);
        before = text;
        group.pos = [left - SIDE, -TOP - 22];
        group.size = [width + 2 * SIDE, bottom + TOP + 22 + TALLER];
        app.graph.add(group);
    }
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
