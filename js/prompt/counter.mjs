// The line below a prompt that says how many of the model's tokens it takes.

import { api } from "../../../scripts/api.js";
import { addStatusLine } from "../shared/elements.mjs";
import { texts } from "../shared/texts.mjs";
import { after, findWidget, isLinked, valueOf } from "../shared/widgets.mjs";

export const PROMPT = "text";
const PER_LINE = "one_prompt_per_line";
const WAIT = 250; // ms without a key before tokens are counted

async function count(node) {
  const asked = { text: String(valueOf(node, PROMPT) ?? ""), lines: Boolean(valueOf(node, PER_LINE)) };
  const answer = await api.fetchApi("/sa3/tokens", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(asked),
  });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer.json();
}

async function describe({ counts, limit, exact }) {
  const text = await texts();
  const longest = Math.max(...counts);
  const values = { count: counts.join(" + "), limit: String(limit) };
  if (!exact) return text("tokensEstimated", values);
  return text(longest > limit ? "tokensCut" : "tokensCounted", values);
}

/** What the line says, what more there is to it, and whether the prompt is longer than what counts. */
async function look(node) {
  const text = await texts();
  if (isLinked(node, PROMPT)) return { said: text("tokensLinked"), more: "", isTooLong: false };
  try {
    const found = await count(node);
    const more = found.exact ? "" : text("tokensWords");
    return { said: await describe(found), more, isTooLong: Math.max(...found.counts) > found.limit };
  } catch (error) {
    return { said: String(error.message ?? error), more: "", isTooLong: false };
  }
}

async function update(node) {
  const asked = (node.sa3TokensAsked = (node.sa3TokensAsked ?? 0) + 1);
  const { said, more, isTooLong } = await look(node);
  if (asked !== node.sa3TokensAsked) return; // a later answer is on its way
  node.sa3Tokens.textContent = said;
  node.sa3Tokens.title = more ? `${said} (${more})` : said; // the line may be too short for it
  node.sa3Tokens.style.color = isTooLong ? "var(--error-text, #f55)" : "var(--descrip-text)";
}

/** Count anew once nobody types. */
export function countSoon(node) {
  clearTimeout(node.sa3TokensTimer);
  node.sa3TokensTimer = setTimeout(() => void update(node), WAIT);
}

/** Add the line below the prompt that says how many tokens it has, and keep it true. */
export function addCounter(node) {
  const place = { widget: "tokens", className: "sa3-tokens", lines: 1, margin: 2 };
  node.sa3Tokens = addStatusLine(node, place);
  Object.assign(node.sa3Tokens.style, { whiteSpace: "nowrap", textOverflow: "ellipsis" });
  for (const name of [PROMPT, PER_LINE]) {
    const widget = findWidget(node, name);
    if (widget) after(widget, "callback", () => countSoon(node));
  }
  after(node, "onConfigure", () => countSoon(node)); // a loaded graph, undo, paste
  after(node, "onConnectionsChange", () => countSoon(node));
  after(node, "onRemoved", () => clearTimeout(node.sa3TokensTimer));
  countSoon(node);
}
