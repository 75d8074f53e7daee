// Times that a drag or an arrow key lands on.

import { FRAME } from "./masks.mjs";

export const SNAPS = ["times", "frames", "seconds", "beats", "zero", "off"];
const TIMES = [0.01, 0.05, 0.1, 0.5, 1, 5, 10]; // seconds; steps that read well
const FINEST_PX = 4; // of such a step on the screen
const REACH = 0.05; // seconds to look for a zero crossing
const FREE_STEP = 0.01; // seconds that an arrow key moves without a grid

/**
 * Distance between two grid lines; 0 = no grid.
 *
 * @param {string} snap one of SNAPS
 * @param {{seconds: number}} beat
 * @param {number} [pixel] seconds that a pixel of the picture stands for
 */
export function gridStep(snap, beat, pixel = 0) {
  if (snap === "times") return TIMES.find((step) => step >= FINEST_PX * pixel) ?? TIMES.at(-1);
  if (snap === "frames") return FRAME;
  if (snap === "seconds") return 1;
  if (snap === "beats" && Number.isFinite(beat.seconds)) return beat.seconds;
  return 0;
}

/** How far an arrow key goes. */
export function keyStep(snap, beat, pixel) {
  return gridStep(snap, beat, pixel) || FREE_STEP;
}

/** The nearest zero crossing; the time itself where none is near. */
function toCrossing(time, crossings) {
  const { places, bin, rate, none } = crossings;
  const sample = time * rate;
  const reach = Math.ceil((REACH * rate) / bin);
  const centre = Math.floor(sample / bin);
  let best = null;
  for (let away = 0; away <= reach; away++) {
    for (const index of away ? [centre - away, centre + away] : [centre]) {
      const place = places[index];
      if (place === undefined || place === none) continue;
      const found = index * bin + place;
      if (best === null || Math.abs(found - sample) < Math.abs(best - sample)) best = found;
    }
    if (best !== null && Math.abs(best - sample) < away * bin) break;
  }
  return best === null ? time : best / rate;
}

/**
 * Move a time to the grid.
 *
 * @param {number} time seconds
 * @param {string} snap one of SNAPS
 * @param {{beat: {seconds: number}, crossings: object|null, duration: number, pixel?: number}} piece
 */
export function snapTime(time, snap, piece) {
  if (snap === "zero") return piece.crossings ? toCrossing(time, piece.crossings) : time;
  const step = gridStep(snap, piece.beat, piece.pixel);
  if (!step) return time;
  const line = Math.round(time / step) * step;
  // The piece's own end is a line too: it is rarely on the grid.
  const end = piece.duration;
  return Math.abs(end - time) < Math.abs(line - time) ? end : line;
}
