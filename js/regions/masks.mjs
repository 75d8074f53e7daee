// What regions really make anew: the server's rounding to latent frames, for display.

export const SAMPLE_RATE = 44100;
export const HOP = 4096;
export const FRAME = HOP / SAMPLE_RATE; // seconds
const SLOP = 1e-6; // samples

const framesCovering = (samples) => Math.ceil(samples / HOP);

// (start s, end s) -> first frame that is made, first frame after them
const RULES = {
  cover: (start, end) => [
    Math.floor(Math.floor(start * SAMPLE_RATE + SLOP) / HOP),
    framesCovering(Math.ceil(end * SAMPLE_RATE - SLOP)),
  ],
  upstream: (start, end) => [
    framesCovering(Math.floor(start * SAMPLE_RATE)),
    framesCovering(Math.floor(end * SAMPLE_RATE)),
  ],
};

/** Join spans that overlap or touch; sorted. */
export function mergeSpans(spans) {
  const merged = [];
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1);
    if (last && span.start <= last.end) last.end = Math.max(last.end, span.end);
    else merged.push({ start: span.start, end: span.end });
  }
  return merged;
}

/** What the regions leave out of a piece. */
export function invertSpans(spans, duration) {
  const gaps = [];
  let at = 0;
  for (const { start, end } of mergeSpans(spans)) {
    if (start > at) gaps.push({ start: at, end: Math.min(start, duration) });
    at = Math.max(at, end);
  }
  if (at < duration) gaps.push({ start: at, end: duration });
  return gaps;
}

/** Spans in seconds that are made anew after rounding. */
export function maskedSpans(regions, { duration, rule, invert }) {
  const asked = invert ? invertSpans(regions, duration) : regions;
  const length = Math.max(duration, ...asked.map((region) => region.end));
  const frames = framesCovering(Math.floor(length * SAMPLE_RATE));
  const round = RULES[rule] ?? RULES.cover;
  const spans = [];
  for (const { start, end } of asked) {
    const [first, last] = round(start, end);
    const until = Math.min(last, frames);
    if (until > first) spans.push({ start: first * FRAME, end: Math.min(until * FRAME, length) });
  }
  return mergeSpans(spans);
}
