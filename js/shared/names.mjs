// Tokens in the names of saved files: what ComfyUI's page fills in for its own nodes only.
// nodes/bridge/work/names.py does the same for callers without a page.

const REFUSED = /[/\\<>:"|?*\u0000-\u001f\u007f]/g; // eslint-disable-line no-control-regex
const VALUE_LENGTH = 60; // characters; a prompt is a long name

function asName(text) {
  const short = [...text.replace(REFUSED, "_")].slice(0, VALUE_LENGTH).join("");
  return short.replace(/^[ .]+|[ .]+$/g, "");
}

function formatDate(pattern, now) {
  const parts = {
    d: now.getDate(),
    M: now.getMonth() + 1,
    h: now.getHours(),
    m: now.getMinutes(),
    s: now.getSeconds(),
  };
  return pattern.replace(/dd?|MM?|hh?|mm?|ss?|yyyy|yy/g, (part) =>
    part[0] === "y"
      ? String(now.getFullYear()).slice(-part.length)
      : String(parts[part[0]]).padStart(part.length, "0"),
  );
}

/** Every node of a graph and of the subgraphs in it. */
export function allNodes(graph) {
  return (graph?.nodes ?? []).flatMap((node) => [node, ...allNodes(node.subgraph)]);
}

/** Replace `%date:yyyy-MM-dd%` and `%Node.widget%`; other tokens are the server's. */
export function fillTokens(prefix, nodes, now) {
  return prefix.replace(/%([^%]+)%/g, (whole, text) => {
    if (text.startsWith("date:")) return asName(formatDate(text.slice("date:".length), now));
    const [name, widgetName, ...rest] = text.split(".");
    if (!widgetName || rest.length) return whole;
    const node =
      nodes.find((candidate) => candidate.properties?.["Node name for S&R"] === name) ??
      nodes.find((candidate) => candidate.title === name);
    const widget = node?.widgets?.find((candidate) => candidate.name === widgetName);
    return widget ? asName(String(widget.value ?? "")) : whole;
  });
}
