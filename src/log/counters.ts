/**
 * Counters and latency histograms of the VMM itself, for `/metrics`.
 *
 * L1, pure, main isolate. Labels come from fixed sets (endpoints, statuses), so the tables stay small.
 */

/** Upper bounds of the latency buckets in seconds; a last one without bound follows. */
export const LATENCY_BUCKETS_S = [0.0001, 0.001, 0.01, 0.1, 1, 10] as const;

/** How long something took, as counts per bucket. */
export interface LatencyHistogram {
  /** One count per bound of `LATENCY_BUCKETS_S`, then the rest; not cumulative. */
  readonly buckets: readonly number[];
  readonly sumSeconds: number;
  readonly count: number;
}

interface MutableHistogram {
  buckets: number[];
  sumSeconds: number;
  count: number;
}

/** Requests by endpoint: how many per status, and how long they took. */
export class RequestCounters {
  readonly #statuses = new Map<string, Map<number, number>>();
  readonly #latency = new Map<string, MutableHistogram>();

  /** Counts one answered request. `seconds` from its arrival to its answer. */
  record(endpoint: string, status: number, seconds: number): void {
    let statuses = this.#statuses.get(endpoint);
    if (statuses === undefined) this.#statuses.set(endpoint, statuses = new Map());
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    let histogram = this.#latency.get(endpoint);
    if (histogram === undefined) {
      histogram = { buckets: new Array(LATENCY_BUCKETS_S.length + 1).fill(0), sumSeconds: 0, count: 0 };
      this.#latency.set(endpoint, histogram);
    }
    let bucket = 0;
    while (bucket < LATENCY_BUCKETS_S.length && seconds > LATENCY_BUCKETS_S[bucket]) bucket++;
    histogram.buckets[bucket]++;
    histogram.sumSeconds += seconds;
    histogram.count++;
  }

  /** Counts per endpoint and status. */
  statuses(): ReadonlyMap<string, ReadonlyMap<number, number>> {
    return this.#statuses;
  }

  /** Latency per endpoint. */
  latency(): ReadonlyMap<string, LatencyHistogram> {
    return this.#latency;
  }
}
