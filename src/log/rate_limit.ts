/**
 * Rate limit by key, for log lines and events a guest can cause.
 *
 * L1, pure. A key gets a burst, then a steady rate; what was held back is counted and told with the next line let through, or
 * by itself when none follows.
 */

/** Lines a key may write at once. */
const BURST = 10;
/** Milliseconds until a key may write one more. */
const REFILL_MS = 1_000;
/** Most keys remembered; the oldest is forgotten. Keys are few (device and kind), this only bounds memory. */
const MAX_KEYS = 1_024;

interface Bucket<Held> {
  tokens: number;
  filledAtMs: number;
  suppressed: number;
  /** The last one held back. */
  held: Held | undefined;
}

/** Something that was held back, and that nothing of its kind has told of. */
export interface Owed<Held> {
  /** The last of them. */
  readonly held: Held;
  /** How many, with the last. */
  readonly count: number;
}

/** Decides per key whether something may happen now. Never throws. */
export class RateLimit<Held = undefined> {
  readonly #buckets = new Map<string, Bucket<Held>>();
  /** Buckets that have held something back. */
  readonly #owing = new Set<Bucket<Held>>();

  /** @param nowMs monotonic clock in milliseconds */
  constructor(
    private readonly nowMs: () => number,
    private readonly burst = BURST,
    private readonly refillMs = REFILL_MS,
  ) {}

  /**
   * Whether `key` may go on; if so, how many times it was held back before. Undefined: held back.
   *
   * @param held kept until something tells of it
   * @param leftOut how many like it were left out elsewhere before it
   */
  take(key: string, held?: Held, leftOut = 0): number | undefined {
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      if (this.#buckets.size >= MAX_KEYS) this.#forgetOldest();
      bucket = { tokens: this.burst, filledAtMs: this.nowMs(), suppressed: 0, held: undefined };
      this.#buckets.set(key, bucket);
    }
    this.#refill(bucket);
    if (bucket.tokens === 0) {
      bucket.suppressed += 1 + leftOut;
      bucket.held = held;
      this.#owing.add(bucket);
      return undefined;
    }
    return this.#pay(bucket) + leftOut;
  }

  /** Whether something was held back that nothing has told of. */
  get owes(): boolean {
    return this.#owing.size > 0;
  }

  /** What was held back by keys that may go on again; by all of them at the `end`. Counts as going on. */
  owed(end = false): Owed<Held>[] {
    const list: Owed<Held>[] = [];
    for (const bucket of this.#owing) {
      this.#refill(bucket);
      if (bucket.tokens === 0 && !end) continue;
      const { held } = bucket;
      list.push({ held: held as Held, count: this.#pay(bucket) });
    }
    return list;
  }

  #refill(bucket: Bucket<Held>): void {
    const earned = Math.floor((this.nowMs() - bucket.filledAtMs) / this.refillMs);
    if (earned <= 0) return;
    bucket.tokens = Math.min(this.burst, bucket.tokens + earned);
    bucket.filledAtMs += earned * this.refillMs;
  }

  /** Lets something through; returns how many it tells of. */
  #pay(bucket: Bucket<Held>): number {
    bucket.tokens = Math.max(0, bucket.tokens - 1);
    const { suppressed } = bucket;
    bucket.suppressed = 0;
    bucket.held = undefined;
    this.#owing.delete(bucket);
    return suppressed;
  }

  #forgetOldest(): void {
    const [key, bucket] = this.#buckets.entries().next().value!;
    this.#buckets.delete(key);
    this.#owing.delete(bucket);
  }
}
