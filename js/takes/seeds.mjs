// Which seed made which of a run's files.

/** Numbers of "7, 9, 20-23". */
function readSeeds(text) {
  return (text.match(/\d+(-\d+)?/g) ?? []).flatMap((entry) => {
    const [first, last = first] = entry.split("-").map(BigInt);
    return countFrom(first, Number(last - first) + 1);
  });
}

function countFrom(first, count) {
  return Array.from({ length: count }, (_, index) => String(BigInt(first) + BigInt(index)));
}

/**
 * The seed of each of a run's files, as the sampler gives them out.
 *
 * @param {{seed: number | string, seeds: string} | undefined} made what the run says of its sampler
 * @param {number} count of files
 * @returns {string[] | null} null where it is not known.
 */
export function seedsOf(made, count) {
  if (!made) return null;
  const listed = readSeeds(made.seeds ?? "");
  if (listed.length > 1) return listed.length === count ? listed : null;
  return countFrom(listed[0] ?? made.seed, count);
}
