/**
 * Metrics in Prometheus' text form; `docs/metrics.md` lists them.
 *
 * L6, pure. Source: Prometheus "Exposition formats", text format 0.0.4.
 */
import { type ApiCounters, DOORS, LATENCY_BUCKETS_S } from "@vmm/log/counters.ts";
import type { LoopFigures } from "./control_loop.ts";
import { type DeviceSample, deviceSamples } from "./device_metrics.ts";
import { Exposition } from "./exposition.ts";

const STATES = ["Created", "Running", "Paused", "Shutdown", "BreakPoint"] as const;

/** Reasons KVM gives for an exit, by number; from linux/kvm.h. */
const EXIT_REASONS: Readonly<Record<number, string>> = {
  1: "exception",
  2: "io",
  3: "hypercall",
  4: "debug",
  5: "hlt",
  6: "mmio",
  7: "irq_window_open",
  8: "shutdown",
  9: "fail_entry",
  10: "intr",
  16: "nmi",
  17: "internal_error",
  24: "system_event",
  26: "ioapic_eoi",
  27: "hyperv",
  29: "x86_rdmsr",
  30: "x86_wrmsr",
};
/** Names of the machine's figures: what they are, and of which reason, address space or device. */
const MACHINE_METRICS: readonly (readonly [pattern: RegExp, metric: string, label: string, help: string])[] =
  [
    [/^exits_reason_(\d+)$/, "nephos_vcpu_exits_total", "reason", "Exits of all vCPUs by KVM's reason."],
    [
      /^unassigned_(pio|mmio)$/,
      "nephos_unassigned_accesses_total",
      "space",
      "Accesses of the guest to ports and addresses where nothing is.",
    ],
    [
      /^driver_faults:(.+)$/s,
      "nephos_driver_faults_total",
      "device",
      "Requests of a driver that made no sense: its device asked to be reset.",
    ],
  ];
/** A sum of others in the list. */
const SUM = "driver_faults";

/** The whole exposition. */
export function metricsText(counters: ApiCounters, figures: LoopFigures, version: string): string {
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
  out.metric("nephos_vm_state", "gauge", "1 for the state the VM is in; 0 for all without a VM.");
  for (const state of STATES) out.sample("nephos_vm_state", { state }, state === figures.vmState ? 1 : 0);
  if (figures.memoryActualBytes !== undefined) {
    out.metric("nephos_vm_memory_actual_bytes", "gauge", "Memory the guest has now.");
    out.sample("nephos_vm_memory_actual_bytes", {}, figures.memoryActualBytes);
  }
  machine(out, figures.machine);
  devices(out, deviceSamples(figures.devices));
  return out.toString();
}

function requests(out: Exposition, counters: ApiCounters): void {
  out.metric("nephos_api_requests_total", "counter", "Answered requests by door, endpoint and status.");
  for (const door of DOORS) {
    for (const [endpoint, statuses] of counters[door].statuses()) {
      for (const [status, count] of statuses) {
        out.sample("nephos_api_requests_total", { door, endpoint, status }, count);
      }
    }
  }
  out.metric(
    "nephos_api_refused_total",
    "counter",
    "Requests and connections turned away before an endpoint was looked up, by door and reason.",
  );
  for (const door of DOORS) {
    for (const [reason, count] of counters[door].refusals()) {
      out.sample("nephos_api_refused_total", { door, reason }, count);
    }
  }
  const name = "nephos_api_request_seconds";
  out.metric(name, "histogram", "Time from a request to its answer, by door and endpoint.");
  for (const door of DOORS) {
    for (const [endpoint, { buckets, sumSeconds, count }] of counters[door].latency()) {
      let below = 0;
      for (const [index, bound] of LATENCY_BUCKETS_S.entries()) {
        below += buckets[index];
        out.sample(`${name}_bucket`, { door, endpoint, le: bound }, below);
      }
      out.sample(`${name}_bucket`, { door, endpoint, le: "+Inf" }, count);
      out.sample(`${name}_sum`, { door, endpoint }, sumSeconds);
      out.sample(`${name}_count`, { door, endpoint }, count);
    }
  }
}

/** The instance's own figures. */
function machine(out: Exposition, figures: LoopFigures["machine"]): void {
  const rest = new Set(Object.keys(figures));
  rest.delete(SUM);
  for (const [pattern, metric, label, help] of MACHINE_METRICS) {
    const matches = Object.keys(figures).map((name) => pattern.exec(name)).filter((match) => match !== null);
    if (matches.length > 0) out.metric(metric, "counter", help);
    for (const [name, part] of matches) {
      rest.delete(name);
      const value = label === "reason" ? EXIT_REASONS[Number(part)] ?? part : part;
      out.sample(metric, { [label]: value }, figures[name]);
    }
  }
  if (rest.size === 0) return;
  out.metric("nephos_machine", "gauge", "Other figures of the machine, by name.");
  for (const name of rest) out.sample("nephos_machine", { name }, figures[name]);
}

function devices(out: Exposition, samples: readonly DeviceSample[]): void {
  let last: string | undefined;
  for (const { metric: { name, type, help }, labels, value } of samples) {
    if (name !== last) out.metric(name, type, help);
    last = name;
    out.sample(name, labels, value);
  }
}
