/**
 * Counters and latency histograms of the VMM itself, for `/metrics`.
 *
 * L1, pure, main isolate. Labels come from fixed sets (doors, endpoints, statuses, reasons), so the tables stay small.
 */

/** Ways a request comes in: REST on a socket, the message bus, calls of the program that embeds the VMM. */
export const DOORS = ["http", "dbus", "library"] as const;
/** One of them. */
export type Door = typeof DOORS[number];

/** Why something was turned away before it was known what it asks for. */
export type RefusalReason = "malformed" | "too_long" | "too_many_connections" | "too_many_descriptors";

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

/** Requests of one door by endpoint: how many per status, and how long they took; and what was turned away. */
export class RequestCounters {
  readonly #statuses = new Map<string, Map<number, number>>();
  readonly #latency = new Map<string, MutableHistogram>();
  readonly #refusals = new Map<RefusalReason, number>();

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

  /** Counts one request or connection that was turned away. */
  refuse(reason: RefusalReason): void {
    this.#refusals.set(reason, (this.#refusals.get(reason) ?? 0) + 1);
  }

  /** What was turned away, by reason. */
  refusals(): ReadonlyMap<RefusalReason, number> {
    return this.#refusals;
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

/** Counters of every door. */
export type ApiCounters = Readonly<Record<Door, RequestCounters>>;

/** All at zero. */
export function makeApiCounters(): ApiCounters {
  return { http: new RequestCounters(), dbus: new RequestCounters(), library: new RequestCounters() };
}
