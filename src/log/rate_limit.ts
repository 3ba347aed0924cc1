/**
 * Rate limit by key, for log lines and events a guest can cause.
 *
 * L1, pure. A key gets a burst, then a steady rate; what was held back is counted and told with the next line let through.
 */

/** Lines a key may write at once. */
const BURST = 10;
/** Milliseconds until a key may write one more. */
const REFILL_MS = 1_000;
/** Most keys remembered; the oldest is forgotten. Keys are few (device and kind), this only bounds memory. */
const MAX_KEYS = 1_024;

interface Bucket {
  tokens: number;
  filledAtMs: number;
  suppressed: number;
}

/** Decides per key whether something may happen now. Never throws. */
export class RateLimit {
  readonly #buckets = new Map<string, Bucket>();

  /** @param nowMs monotonic clock in milliseconds */
  constructor(
    private readonly nowMs: () => number,
    private readonly burst = BURST,
    private readonly refillMs = REFILL_MS,
  ) {}

  /** Whether `key` may go on; if so, how many times it was held back before. Undefined: held back. */
  take(key: string): number | undefined {
    const now = this.nowMs();
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      if (this.#buckets.size >= MAX_KEYS) this.#buckets.delete(this.#buckets.keys().next().value!);
      bucket = { tokens: this.burst, filledAtMs: now, suppressed: 0 };
      this.#buckets.set(key, bucket);
    }
    const earned = Math.floor((now - bucket.filledAtMs) / this.refillMs);
    if (earned > 0) {
      bucket.tokens = Math.min(this.burst, bucket.tokens + earned);
      bucket.filledAtMs += earned * this.refillMs;
    }
    if (bucket.tokens === 0) {
      bucket.suppressed++;
      return undefined;
    }
    bucket.tokens--;
    const { suppressed } = bucket;
    bucket.suppressed = 0;
    return suppressed;
  }
}
