/**
 * Counters of a network device.
 *
 * L4: written by the I/O Worker that serves the device, read by main for `vm.counters`. Bytes do not count the virtio
 * header. Source: spec/schemas.md "VmCounters".
 */
import { CounterWriter, defineCounters, readCounters } from "@vmm/sync/counters.ts";

const layout = defineCounters(["rx_bytes", "rx_frames", "tx_bytes", "tx_frames"]);
const { at } = layout;

/** New counters. */
export function createNetCounters(): SharedArrayBuffer {
  return new SharedArrayBuffer(layout.sizeBytes);
}

/** The values as `vm.counters` shows them, of a device whose shares of queues count apart. */
export function readNetCounters(...shares: readonly SharedArrayBuffer[]): Record<string, bigint> {
  const all = shares.map((buffer) => readCounters(layout, buffer));
  return Object.fromEntries(
    layout.names.map((name) => [name, all.reduce((total, one) => total + one[name], 0n)]),
  );
}

/** The writer: one call per batch. */
export class NetCounters {
  readonly #table: CounterWriter;

  constructor(buffer: SharedArrayBuffer) {
    this.#table = new CounterWriter(buffer);
  }

  received(frames: number, bytes: number): void {
    if (frames > 0) this.#add(at.rx_frames, frames, at.rx_bytes, bytes);
  }

  sent(frames: number, bytes: number): void {
    if (frames > 0) this.#add(at.tx_frames, frames, at.tx_bytes, bytes);
  }

  #add(framesAt: number, frames: number, bytesAt: number, bytes: number): void {
    this.#table.begin();
    this.#table.add(framesAt, frames);
    this.#table.add(bytesAt, bytes);
    this.#table.end();
  }
}
