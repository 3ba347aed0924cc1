/**
 * Token buckets: how many bytes and operations may pass per time, for one device or a group of them.
 *
 * L0, pure, any isolate: the buckets lie in shared memory, so devices served by different threads can share one limiter.
 * Source: spec/machine-model.md §8 "rate limiter".
 */

/** One bucket. A size or refill time of zero means no limit. */
export interface BucketConfig {
  /** Tokens when full: bytes or operations. */
  readonly size: number;
  /** Extra tokens spent first, once. */
  readonly oneTimeBurst: number;
  /** Time an empty bucket takes to fill up. */
  readonly refillMs: number;
}

/** Limits on bytes and on operations. */
export interface LimiterConfig {
  readonly bandwidth?: BucketConfig;
  readonly ops?: BucketConfig;
}

/** How long nothing passes after a request found its bucket too empty. */
export const RETRY_MS = 100;

/** Cells of the shared state; the first holds the lock in its first half. */
const BLOCKED_UNTIL = 1;
const FIRST_BUCKET = 2;
const Cell = { size: 0, refillMs: 1, budget: 2, burst: 3, updatedAt: 4 } as const;
const BUCKET_CELLS = 5;
const BANDWIDTH = FIRST_BUCKET;
const OPS = FIRST_BUCKET + BUCKET_CELLS;
const CELLS = FIRST_BUCKET + 2 * BUCKET_CELLS;

/** Makes the shared state of a limiter, buckets full. `nowMs`: the clock that every user of the limiter will read. */
export function createLimiterState(config: LimiterConfig, nowMs: number): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(CELLS * Float64Array.BYTES_PER_ELEMENT);
  const cells = new Float64Array(buffer);
  const fill = (at: number, bucket: BucketConfig | undefined) => {
    if (bucket === undefined || bucket.size === 0 || bucket.refillMs === 0) return;
    cells[at + Cell.size] = bucket.size;
    cells[at + Cell.refillMs] = bucket.refillMs;
    cells[at + Cell.budget] = bucket.size;
    cells[at + Cell.burst] = bucket.oneTimeBurst;
    cells[at + Cell.updatedAt] = nowMs;
  };
  fill(BANDWIDTH, config.bandwidth);
  fill(OPS, config.ops);
  return buffer;
}

/** A view of a limiter. All methods are exclusive against each other across threads and allocate nothing. */
export class RateLimiter {
  readonly #cells: Float64Array;
  readonly #lock: Int32Array;

  /** @param nowMs the clock given to `createLimiterState`: milliseconds, the same in every isolate */
  constructor(buffer: SharedArrayBuffer, private readonly nowMs: () => number) {
    this.#cells = new Float64Array(buffer, 0, CELLS);
    this.#lock = new Int32Array(buffer, 0, 1);
  }

  /**
   * Takes one operation and `bytes`, both or neither; false means wait `blockedMs()`. A request larger than its bucket
   * passes, and blocks for as long as its excess takes to refill.
   */
  tryRequest(bytes: number): boolean {
    const now = this.nowMs();
    this.#acquire();
    let passed = this.#take(OPS, 1, now);
    if (passed && !this.#take(BANDWIDTH, bytes, now)) {
      this.#giveBack(OPS, 1);
      passed = false;
    }
    this.#release();
    return passed;
  }

  /** Takes one operation and `bytes` for something that has passed already; false means stop now, wait `blockedMs()`. */
  account(bytes: number): boolean {
    const now = this.nowMs();
    this.#acquire();
    const passed = this.#take(OPS, 1, now) && this.#take(BANDWIDTH, bytes, now);
    this.#release();
    return passed;
  }

  /** How long nothing passes from now on, in milliseconds; 0 when not blocked. */
  blockedMs(): number {
    return Math.max(0, this.#cells[BLOCKED_UNTIL] - this.nowMs());
  }

  #take(at: number, wanted: number, now: number): boolean {
    const cells = this.#cells;
    const size = cells[at + Cell.size];
    if (now < cells[BLOCKED_UNTIL]) return false;
    if (size === 0) return true;
    let tokens = wanted;
    const burst = cells[at + Cell.burst];
    if (burst >= tokens && burst > 0) {
      cells[at + Cell.burst] = burst - tokens;
      cells[at + Cell.updatedAt] = now;
      return true;
    }
    tokens -= burst;
    cells[at + Cell.burst] = 0;
    const elapsed = Math.max(0, now - cells[at + Cell.updatedAt]);
    cells[at + Cell.updatedAt] = now;
    const budget = Math.min(size, cells[at + Cell.budget] + elapsed * size / cells[at + Cell.refillMs]);
    if (tokens <= budget) {
      cells[at + Cell.budget] = budget - tokens;
      return true;
    }
    if (tokens > size) {
      cells[at + Cell.budget] = 0;
      cells[BLOCKED_UNTIL] = now + (tokens - budget) / size * cells[at + Cell.refillMs];
      return true;
    }
    cells[at + Cell.budget] = budget;
    cells[BLOCKED_UNTIL] = now + RETRY_MS;
    return false;
  }

  #giveBack(at: number, tokens: number): void {
    const cells = this.#cells;
    if (cells[at + Cell.burst] > 0) cells[at + Cell.burst] += tokens;
    else cells[at + Cell.budget] = Math.min(cells[at + Cell.size], cells[at + Cell.budget] + tokens);
  }

  #acquire(): void {
    while (Atomics.compareExchange(this.#lock, 0, 0, 1) !== 0);
  }

  #release(): void {
    Atomics.store(this.#lock, 0, 0);
  }
}
