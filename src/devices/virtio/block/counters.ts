/**
 * Counters of a block device.
 *
 * L4: written by the I/O Worker that serves the device, read by main for `vm.counters`.
 * Source: spec/schemas.md "VmCounters". Latencies are microseconds; before the first operation the extremes are all ones.
 */
import { CounterWriter, defineCounters, readCounters } from "@vmm/sync/counters.ts";

/** The average is kept this many times larger, so that it does not lose its fraction. */
const LATENCY_SCALE = 10_000;
const ALL_ONES = 0xffff_ffff_ffff_ffffn;

const layout = defineCounters([
  "read_bytes",
  "read_ops",
  "read_latency_min",
  "read_latency_max",
  "read_latency_avg",
  "write_bytes",
  "write_ops",
  "write_latency_min",
  "write_latency_max",
  "write_latency_avg",
]);
const { at } = layout;
/** Distance from `write_…` to `read_…` in the table. */
const WRITE = at.write_bytes - at.read_bytes;
/** Directions. */
const READS = 0;
const WRITES = 1;

/** New counters. */
export function createBlockCounters(): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(layout.sizeBytes);
  const writer = new CounterWriter(buffer);
  for (const direction of [0, WRITE]) {
    writer.setAllOnes(direction + at.read_latency_min);
    writer.setAllOnes(direction + at.read_latency_max);
    writer.setAllOnes(direction + at.read_latency_avg);
  }
  return buffer;
}

/** The values as `vm.counters` shows them, of a device whose shares of queues count apart. */
export function readBlockCounters(...shares: readonly SharedArrayBuffer[]): Record<string, bigint> {
  // A device without queues has no shares, and has counted nothing.
  const counted = shares.length === 0 ? [createBlockCounters()] : shares;
  const all = counted.map((buffer) => readCounters(layout, buffer));
  const values = { ...all[0] };
  for (const direction of ["read", "write"] as const) {
    // A share that has served nothing has no latencies.
    const counting = all.filter((one) => one[`${direction}_ops`] > 0n);
    const sum = (of: (one: typeof values) => bigint) => counting.reduce((total, one) => total + of(one), 0n);
    const ops = sum((one) => one[`${direction}_ops`]);
    values[`${direction}_bytes`] = sum((one) => one[`${direction}_bytes`]);
    values[`${direction}_ops`] = ops;
    for (const one of counting) {
      const [min, max] = [`${direction}_latency_min`, `${direction}_latency_max`] as const;
      if (one[min] < values[min]) values[min] = one[min];
      if (values[max] === ALL_ONES || one[max] > values[max]) values[max] = one[max];
    }
    const average = ops === 0n
      ? values[`${direction}_latency_avg`]
      : sum((one) => one[`${direction}_latency_avg`] * one[`${direction}_ops`]) / ops;
    values[`${direction}_latency_avg`] = average / BigInt(LATENCY_SCALE);
  }
  return values;
}

/** `u64::MAX` divided by the scale: the average before the first operation. */
export const NO_AVERAGE = ALL_ONES / BigInt(LATENCY_SCALE);

/** The writer: operations are noted as they complete and published once per batch. Allocates nothing. */
export class BlockCounters {
  readonly #table: CounterWriter;
  #readBytes = 0;
  #readOps = 0;
  #writeBytes = 0;
  #writeOps = 0;
  /** Of reads, then of writes. In an array, where a fraction is no object. */
  readonly #averages = new Float64Array(2);

  constructor(buffer: SharedArrayBuffer) {
    this.#table = new CounterWriter(buffer);
    // Counters outlive a driver's reset, and so must the averages.
    this.#averages[READS] = this.#table.get(at.read_latency_avg);
    this.#averages[WRITES] = this.#table.get(at.write_latency_avg);
  }

  /** Notes a read that has succeeded. */
  read(bytes: number): void {
    this.#readBytes += bytes;
    this.#readOps++;
  }

  /** Notes a write that has succeeded. */
  write(bytes: number): void {
    this.#writeBytes += bytes;
    this.#writeOps++;
  }

  /** Publishes what was noted; each of these operations took `elapsedUs`, of which whole microseconds count. */
  publish(elapsedUs: number): void {
    if (this.#readOps === 0 && this.#writeOps === 0) return;
    const latencyUs = Math.max(0, Math.floor(elapsedUs));
    this.#table.begin();
    if (this.#readOps > 0) this.#direction(READS, this.#readBytes, this.#readOps, latencyUs);
    if (this.#writeOps > 0) this.#direction(WRITES, this.#writeBytes, this.#writeOps, latencyUs);
    this.#table.end();
    this.#readBytes =
      this.#readOps =
      this.#writeBytes =
      this.#writeOps =
        0;
  }

  #direction(direction: number, bytes: number, ops: number, latencyUs: number): void {
    const table = this.#table;
    const base = direction * WRITE;
    const before = table.get(base + at.read_ops);
    const scaled = latencyUs * LATENCY_SCALE;
    const average = this.#averages[direction];
    const next = before === 0 ? scaled : average + (scaled - average) * (ops / (before + ops));
    this.#averages[direction] = next;
    table.add(base + at.read_bytes, bytes);
    table.add(base + at.read_ops, ops);
    if (before === 0 || latencyUs < table.get(base + at.read_latency_min)) {
      table.set(base + at.read_latency_min, latencyUs);
    }
    if (before === 0 || latencyUs > table.get(base + at.read_latency_max)) {
      table.set(base + at.read_latency_max, latencyUs);
    }
    table.set(base + at.read_latency_avg, Math.floor(next));
  }
}
