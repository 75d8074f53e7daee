// Drawing: the sound on one canvas, what changes while dragging on another above it.

const RULER = 16; // px at the top
const HANDLE = 5; // px, half the width of a handle
const LABEL_GAP = 70; // px between two times of the ruler
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
const FEWEST_PX = 6; // between two lines of the grid; closer ones are left out

/** Colours of the interface's theme. */
export function readTheme(element) {
  const style = getComputedStyle(element);
  const colour = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
  return {
    text: colour("--input-text", "#ddd"),
    faint: colour("--descrip-text", "#999"),
    line: colour("--border-color", "#4e4e4e"),
    region: colour("--sa3-region", "#f08c00"),
    cursor: colour("--sa3-cursor", "#2f9bff"),
  };
}

/** Fit a canvas to its place on the screen and clear it. */
function prepare(canvas, { width, height }) {
  const density = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * density), Math.round(height * density)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

export function formatTime(seconds, step) {
  const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
  const minutes = Math.floor(seconds / 60 + 1e-9);
  const rest = Math.max(0, seconds - 60 * minutes).toFixed(digits);
  return `${minutes}:${rest.padStart(digits ? 3 + digits : 2, "0")}`;
}

function drawRuler(context, view, theme) {
  const wanted = (LABEL_GAP / view.width) * view.span;
  const step = STEPS.find((value) => value >= wanted) ?? STEPS.at(-1);
  context.font = "10px sans-serif";
  context.textBaseline = "top";
  for (let i = Math.ceil(view.from / step); i * step <= view.to; i++) {
    const x = view.x(i * step);
    context.fillStyle = theme.line;
    context.fillRect(x, 0, 1, RULER);
    context.fillStyle = theme.faint;
    context.fillText(formatTime(i * step, step), x + 3, 2);
  }
}

function drawGrid(context, view, height, step, theme) {
  if (!step || (step / view.span) * view.width < FEWEST_PX) return;
  context.fillStyle = theme.line;
  context.globalAlpha = 0.6;
  for (let i = Math.ceil(view.from / step); i * step <= view.to; i++) {
    context.fillRect(view.x(i * step), RULER, 1, height - RULER);
  }
  context.globalAlpha = 1;
}

function drawPeaks(context, view, height, levels, theme) {
  const pixel = view.span / view.width; // seconds
  const level = levels.findLast(({ seconds }) => seconds <= pixel) ?? levels[0];
  const { pairs } = level;
  const count = pairs.length / 2;
  const middle = RULER + (height - RULER) / 2;
  const scale = (height - RULER) / 2 / 127;
  context.fillStyle = theme.text;
  context.globalAlpha = 0.75;
  context.beginPath();
  for (let x = 0; x < view.width; x++) {
    const first = Math.max(0, Math.floor(view.time(x) / level.seconds));
    if (first >= count) break;
    const last = Math.min(count, Math.max(first + 1, Math.floor(view.time(x + 1) / level.seconds)));
    let low = 127;
    let high = -127;
    for (let bin = first; bin < last; bin++) {
      low = Math.min(low, pairs[2 * bin]);
      high = Math.max(high, pairs[2 * bin + 1]);
    }
    const top = middle - high * scale;
    context.rect(x, top, 1, Math.max(1, (high - low) * scale));
  }
  context.fill();
  context.globalAlpha = 1;
}

function drawSpectrogram(context, view, height, image, seconds) {
  const shown = Math.min(view.to, seconds) - view.from;
  if (shown <= 0) return;
  const scale = image.width / seconds; // columns per second
  const width = (shown / view.span) * view.width;
  const place = [0, RULER, width, height - RULER];
  context.drawImage(image, view.from * scale, 0, shown * scale, image.height, ...place);
}

/**
 * Ruler, grid and sound.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {{view, height, theme, grid: number, peaks, spectrogram}} scene
 */
export function drawSound(canvas, { view, height, theme, grid, peaks, spectrogram }) {
  const context = prepare(canvas, { width: view.width, height });
  if (spectrogram && peaks) drawSpectrogram(context, view, height, spectrogram, peaks.seconds);
  drawGrid(context, view, height, grid, theme);
  if (peaks && !spectrogram) drawPeaks(context, view, height, peaks.levels, theme);
  drawRuler(context, view, theme);
}

function drawMask(context, view, height, spans, theme) {
  context.fillStyle = theme.region;
  for (const { start, end } of spans) {
    const [left, right] = [view.x(start), view.x(end)];
    context.globalAlpha = 0.3;
    context.fillRect(left, RULER, right - left, height - RULER);
    context.globalAlpha = 0.9;
    context.fillRect(left, height - 3, right - left, 3);
  }
  context.globalAlpha = 1;
}

function drawRegion(context, view, height, region, isSelected, theme) {
  const [left, right] = [view.x(region.start), view.x(region.end)];
  context.globalAlpha = region.isOther ? 0.35 : 1;
  context.strokeStyle = context.fillStyle = theme.region;
  context.lineWidth = isSelected ? 2 : 1;
  context.setLineDash(region.isOther ? [3, 3] : []);
  context.strokeRect(left, RULER + 1, Math.max(1, right - left), height - RULER - 5);
  if (!region.isOther) {
    const size = isSelected ? HANDLE : HANDLE - 2;
    const middle = RULER + (height - RULER) / 2;
    for (const x of [left, right]) context.fillRect(x - size / 2, middle - 12, size, 24);
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}

/**
 * Mask, regions, cursor and playhead.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {{view, height, theme, spans, regions, selected: number, cursor: number,
 *   playhead: number|null, duration: number}} scene
 */
export function drawMarks(canvas, scene) {
  const { view, height, theme } = scene;
  const context = prepare(canvas, { width: view.width, height });
  drawMask(context, view, height, scene.spans, theme);
  for (const [index, region] of scene.regions.entries()) {
    const isSelected = index === scene.selected;
    if (region.valid) drawRegion(context, view, height, region, isSelected, theme);
  }
  if (scene.duration < view.total) {
    context.fillStyle = theme.faint;
    context.fillRect(view.x(scene.duration), RULER, 1, height - RULER);
  }
  context.fillStyle = theme.cursor;
  context.fillRect(view.x(scene.cursor) - 0.5, 0, 1, height);
  if (scene.playhead !== null) context.fillRect(view.x(scene.playhead) - 1, 0, 2, height);
}
