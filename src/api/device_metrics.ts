/**
 * Counters of devices as metrics: names, units and labels as Prometheus wants them.
 *
 * L6, pure. The counters are those of `vm.counters`: bytes, operations, frames, and latencies in microseconds.
 */
import type { Labels, MetricType } from "./exposition.ts";

/** A metric's head. */
export interface Metric {
  readonly name: string;
  readonly type: MetricType;
  readonly help: string;
}

/** One sample of one device. */
export interface DeviceSample {
  readonly metric: Metric;
  readonly labels: Labels;
  readonly value: number | bigint;
}

type Counters = Readonly<Record<string, bigint>>;

const US_PER_SECOND = 1e6;
/** What a counter that has not seen anything starts with. */
const UNSEEN = 0xffff_ffff_ffff_ffffn;
const LATENCY = /^(read|write)_latency_(min|max|avg)$/;

const counter = (name: string, help: string): Metric => ({ name, type: "counter", help });

/** Plain counters by their name in `vm.counters`. */
const COUNTERS: Readonly<Record<string, Metric>> = {
  read_bytes: counter("nephos_disk_read_bytes_total", "Bytes the guest has read from a disk."),
  read_ops: counter("nephos_disk_reads_total", "Reads of a disk."),
  write_bytes: counter("nephos_disk_written_bytes_total", "Bytes the guest has written to a disk."),
  write_ops: counter("nephos_disk_writes_total", "Writes of a disk."),
  rx_bytes: counter("nephos_net_received_bytes_total", "Bytes the guest has received from a network."),
  rx_frames: counter("nephos_net_received_frames_total", "Frames the guest has received from a network."),
  tx_bytes: counter("nephos_net_sent_bytes_total", "Bytes the guest has sent to a network."),
  tx_frames: counter("nephos_net_sent_frames_total", "Frames the guest has sent to a network."),
};
const DISK_LATENCY: Metric = {
  name: "nephos_disk_latency_seconds",
  type: "gauge",
  help: "Shortest, longest and mean time of a disk's requests; absent before the first.",
};
const OTHER: Metric = {
  name: "nephos_device_counter",
  type: "gauge",
  help: "Counters of vm.counters that have no metric of their own, by device and name.",
};

/** All samples, those of one metric one after another. */
export function deviceSamples(devices: Readonly<Record<string, Counters>>): DeviceSample[] {
  const samples = Object.entries(devices).flatMap(([device, counters]) =>
    Object.entries(counters).flatMap(([name, value]) => sampleOf(device, name, value, counters))
  );
  const order = [...Object.values(COUNTERS), DISK_LATENCY, OTHER];
  return order.flatMap((metric) => samples.filter((sample) => sample.metric === metric));
}

function sampleOf(device: string, name: string, value: bigint, all: Counters): DeviceSample[] {
  if (Object.hasOwn(COUNTERS, name)) return [{ metric: COUNTERS[name], labels: { device }, value }];
  const latency = LATENCY.exec(name);
  if (latency === null) return [{ metric: OTHER, labels: { device, counter: name }, value }];
  const [, direction, stat] = latency;
  if (value === UNSEEN || all[`${direction}_ops`] === 0n) return [];
  return [{
    metric: DISK_LATENCY,
    labels: { device, direction, stat },
    value: Number(value) / US_PER_SECOND,
  }];
}
