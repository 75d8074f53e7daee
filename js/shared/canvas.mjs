// A canvas that is as sharp as the screen it is on.

/**
 * Fit a canvas to its place on the page and clear it.
 * @returns {{context: CanvasRenderingContext2D, width: number, height: number, ratio: number} | null}
 *   width and height in its own pixels, `ratio` of them to one of the page; null where it has no place.
 */
export function cleared(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return null;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return { context, width, height, ratio };
}
