/**
 * Returns how many milliseconds to wait before the try after so many failed ones: "full jitter", any time from none up to a
 * bound that doubles, so that clients that lost their server together do not come back together.
 */
export declare function backoff(failed: number, random: () => number): number;
