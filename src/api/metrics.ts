/**
 * Metrics in Prometheus' text form.
 *
 * L6, pure. Source: Prometheus "Exposition formats", text format 0.0.4.
 */
import { LATENCY_BUCKETS_S, type RequestCounters } from "@vmm/log/counters.ts";
import type { LoopFigures } from "./control_loop.ts";

const STATES = ["Created", "Running", "Paused", "Shutdown", "BreakPoint"] as const;
/** Largest 64-bit value: counters that have not seen anything yet start there and say nothing. */
const U64_MAX = 0xffff_ffff_ffff_ffffn;

type Labels = Readonly<Record<string, string | number>>;

const escapeLabel = (text: string) =>
  text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

/** Collects samples of one exposition. */
class Exposition {
  #text = "";

  /** Begins a metric; its samples follow. */
  metric(name: string, type: "counter" | "gauge" | "histogram", help: string): void {
    this.#text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
  }

  sample(name: string, labels: Labels, value: number | bigint): void {
    const pairs = Object.entries(labels).map(([key, item]) => `${key}="${escapeLabel(String(item))}"`);
    this.#text += `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${value}\n`;
  }

  toString(): string {
    return this.#text;
  }
}

/** The whole exposition. */
export function metricsText(counters: RequestCounters, figures: LoopFigures, version: string): string {
  const out = new Exposition();
  out.metric("nephos_build_info", "gauge", "Version of the program, always 1.");
  out.sample("nephos_build_info", { version }, 1);
  requests(out, counters);
  out.metric(
    "nephos_operations_waiting",
    "gauge",
    "Mutating operations under way or waiting for their turn.",
  );
  out.sample("nephos_operations_waiting", {}, figures.waiting);
  out.metric("nephos_vm_state", "gauge", "1 for the state the VM is in; none without a VM.");
  for (const state of STATES) out.sample("nephos_vm_state", { state }, state === figures.vmState ? 1 : 0);
  if (figures.memoryActualBytes !== undefined) {
    out.metric("nephos_vm_memory_actual_bytes", "gauge", "Memory the guest has now.");
    out.sample("nephos_vm_memory_actual_bytes", {}, figures.memoryActualBytes);
  }
  devices(out, figures);
  if (Object.keys(figures.machine).length > 0) {
    out.metric(
      "nephos_machine",
      "gauge",
      "Figures of the machine: exits by reason, interrupts and others, by name.",
    );
    for (const [name, value] of Object.entries(figures.machine)) {
      out.sample("nephos_machine", { name }, value);
    }
  }
  return out.toString();
}

function requests(out: Exposition, counters: RequestCounters): void {
  out.metric("nephos_api_requests_total", "counter", "Answered requests by endpoint and status.");
  for (const [endpoint, statuses] of counters.statuses()) {
    for (const [status, count] of statuses) {
      out.sample("nephos_api_requests_total", { endpoint, status }, count);
    }
  }
  const name = "nephos_api_request_seconds";
  out.metric(name, "histogram", "Time from a request to its answer, by endpoint.");
  for (const [endpoint, { buckets, sumSeconds, count }] of counters.latency()) {
    let below = 0;
    for (const [index, bound] of LATENCY_BUCKETS_S.entries()) {
      below += buckets[index];
      out.sample(`${name}_bucket`, { endpoint, le: bound }, below);
    }
    out.sample(`${name}_bucket`, { endpoint, le: "+Inf" }, count);
    out.sample(`${name}_sum`, { endpoint }, sumSeconds);
    out.sample(`${name}_count`, { endpoint }, count);
  }
}

function devices(out: Exposition, { devices }: LoopFigures): void {
  const entries = Object.entries(devices);
  if (entries.length === 0) return;
  out.metric("nephos_device_counter", "gauge", "Counters of vm.counters, by device and name.");
  for (const [device, counters] of entries) {
    for (const [counter, value] of Object.entries(counters)) {
      if (value !== U64_MAX) out.sample("nephos_device_counter", { device, counter }, value);
    }
  }
}
