const SHORTEST = 500
const LONGEST = 30_000

/**
 * Returns how many milliseconds to wait before the try after so many failed ones: "full jitter", any time from none up to a
 * bound that doubles, so that clients that lost their server together do not come back together.
 */
export function backoff(failed: number, random: () => number): number {
  return random() * Math.min(LONGEST, SHORTEST * 2 ** Math.min(failed, 16))
}
