// The text of the `regions` widget: reading it as the server does, and editing it in place, so that
// what the user wrote elsewhere in it ("bar 5-9", line breaks, even mistakes) stays as it is.

const NUMBER = String.raw`(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)`;
const TIME = String.raw`-?(?:${NUMBER}%|(?:(?:[0-9]+:)?[0-9]+:)?${NUMBER})`;
const DASH = String.raw`\s*[-\u2013\u2014]\s*`;
const END = String.raw`(?=[\s,;]|$)(?!\s*[-\u2013\u2014])`;
const SPAN = new RegExp(`(${TIME})${DASH}(${TIME})${END}`, "y");
const BARS = new RegExp(`bars?\\s*(-?${NUMBER})(?:${DASH}(-?${NUMBER}))?${END}`, "y");
const GAP = /[\s,;]+/y;
const OTHER = /[^\s,;]+/y;
const LINE = /[^\r\n]+/g;

/** The match of a sticky expression at a place, or null. */
function matchAt(expression, text, at) {
  expression.lastIndex = at;
  return expression.exec(text);
}

/** Seconds of one time, or NaN. */
function readTime(part, duration) {
  if (part.endsWith("%")) return (duration * Number(part.slice(0, -1))) / 100;
  const values = part.replace("-", "").split(":").map(Number);
  if (values.slice(1).some((value) => value >= 60)) return NaN;
  const seconds = values.reduce((total, value) => total * 60 + value, 0);
  return part.startsWith("-") ? -seconds : seconds;
}

function readBars(match, beat) {
  const first = Number(match[1]);
  const last = match[2] === undefined ? first + 1 : Number(match[2]);
  return [(first - 1) * beat.perBar * beat.seconds, (last - 1) * beat.perBar * beat.seconds];
}

function readToken(text, at, piece) {
  const bars = matchAt(BARS, text, at);
  if (bars) return [bars[0], readBars(bars, piece.beat)];
  const span = matchAt(SPAN, text, at);
  if (span) return [span[0], span.slice(1).map((part) => readTime(part, piece.duration))];
  return [matchAt(OTHER, text, at)[0], [NaN, NaN]];
}

/**
 * What a text marks.
 *
 * @param {string} text
 * @param {{duration: number, beat: {seconds: number, perBar: number}}} piece NaN = not known.
 * @returns {{start: number, end: number, from: number, to: number, valid: boolean}[]} in the order
 *   of the text; from-to is the region's place in it, times are seconds.
 */
export function readRegions(text, piece) {
  const found = [];
  const lower = text.toLowerCase();
  const source = lower.length === text.length ? lower : text;
  let at = 0;
  while (at < source.length) {
    const gap = matchAt(GAP, source, at);
    if (gap) {
      at += gap[0].length;
      continue;
    }
    const [token, [start, end]] = readToken(source, at, piece);
    const inside = !(start >= piece.duration); // an unknown duration forbids nothing
    const valid = start >= 0 && end > start && inside && Number.isFinite(end);
    found.push({ start, end, from: at, to: at + token.length, valid });
    at += token.length;
  }
  return found;
}

/** Where each line that is not blank lies in the text. */
export function readLines(text) {
  return [...text.matchAll(LINE)]
    .filter(([line]) => line.trim())
    .map((match) => ({ from: match.index, to: match.index + match[0].length }));
}

const UNIT = 1e5; // per second: less than a sample
const SLOP = 1e-3; // units; what floating point loses

/** A start in the widget's precision, never before the given one: that could touch a frame more. */
export function roundStart(seconds) {
  return Math.ceil(seconds * UNIT - SLOP) / UNIT;
}

function roundEnd(seconds) {
  return Math.floor(seconds * UNIT + SLOP) / UNIT;
}

/** Seconds for people: to a millisecond, without needless zeros. */
export function formatSeconds(seconds) {
  return String(Math.round(seconds * 1e3) / 1e3);
}

export function formatRegion({ start, end }) {
  return `${roundStart(start)}-${roundEnd(end)}`;
}

/** Two halves of a region that touch each other. */
export function formatHalves({ start, end }, middle) {
  const place = roundStart(middle);
  return `${formatRegion({ start, end: place })}, ${formatRegion({ start: place, end })}`;
}

/** The text with one region's words replaced. */
export function replaceRegion(text, region, changed) {
  return text.slice(0, region.from) + formatRegion(changed) + text.slice(region.to);
}

/** The text without one region and without the separator that it leaves over. */
export function removeRegion(text, region) {
  const before = text.slice(0, region.from);
  const after = text.slice(region.to);
  const next = after.match(/^[ \t]*[,;]?[ \t]*/)[0];
  if (next && after.length > next.length) return before + after.slice(next.length);
  return before.replace(/[ \t]*[,;]?[ \t]*$/, "") + after.slice(next.length);
}

/** The text with one more region at a place: the end of the text, or of a line. */
export function addRegion(text, region, at = text.length) {
  const before = text.slice(0, at).replace(/[ \t]+$/, "");
  const last = before.at(-1);
  const join = !before || last === "\n" ? "" : last === "," || last === ";" ? " " : ", ";
  return before + join + formatRegion(region) + text.slice(at);
}
