/**
 * pvpanic: a PCI function whose one register the guest's panic handler writes.
 *
 * L4: `PvPanic` runs in vCPU Workers. Source: QEMU docs/specs/pvpanic; spec/machine-model.md §8 "pvpanic".
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { EventSink } from "@vmm/bus/ports.ts";
import { type EventBudgetState, takeReport } from "@vmm/sync/event_budget.ts";

/** PCI identity and BAR 0 (32-bit, not prefetchable). */
export const PVPANIC_PCI = {
  vendorId: 0x1b36,
  deviceId: 0x0011,
  revision: 1,
  baseClass: 0x08,
  subClass: 0x80,
  programmingInterface: 0,
  subsystemVendorId: 0,
  subsystemId: 0,
  /** Command register at reset: I/O, memory, SERR#. */
  command: 0x0103,
  barIndex: 0,
  barSizeBytes: 2,
  barAlignmentBytes: 16,
} as const;

/** Event bits, for reading (which are understood) and writing (what happened). */
export const PVPANIC_EVENT = { panicked: 1, crashLoaded: 2 } as const;
const SUPPORTED = PVPANIC_EVENT.panicked | PVPANIC_EVENT.crashLoaded;

/** BAR 0. */
export class PvPanic implements IoDevice {
  constructor(
    private readonly budget: EventBudgetState,
    private readonly monotonicNs: () => number,
    private readonly events: EventSink,
  ) {}

  read(offset: number): number {
    return offset === 0 ? SUPPORTED : 0;
  }

  write(_offset: number, _size: number, value: number): void {
    if (takeReport(this.budget, this.monotonicNs()) === undefined) return;
    this.events.post({ kind: "panic", value: value & 0xff });
  }
}
