/**
 * Boot progress codes on port 0x80, reported to the log.
 *
 * L4, runs in vCPU Workers. Old kernels also write this port to waste a microsecond, so reports have a budget. Source: spec/machine-model.md §2.
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { EventSink } from "@vmm/bus/ports.ts";
import { type EventBudgetState, takeReport } from "@vmm/sync/event_budget.ts";
import type { TimeSource } from "./time_source.ts";

export const DEBUG_PORT = 0x80;

/** Who uses a range of codes. */
export function debugPortRange(code: number): "Firmware" | "Bootloader" | "Kernel" | "Userspace" | "Custom" {
  if (code <= 0x1f) return "Firmware";
  if (code <= 0x3f) return "Bootloader";
  if (code <= 0x5f) return "Kernel";
  if (code <= 0x7f) return "Userspace";
  return "Custom";
}

/** Port 0x80: one byte, write-only. */
export class DebugPort implements IoDevice {
  readonly #madeNs: number;

  constructor(
    private readonly budget: EventBudgetState,
    private readonly time: TimeSource,
    private readonly events: EventSink,
  ) {
    this.#madeNs = time.monotonicNs();
  }

  read(): number {
    return 0;
  }

  write(_offset: number, _size: number, value: number): void {
    const nowNs = this.time.monotonicNs();
    const leftOut = takeReport(this.budget, nowNs);
    if (leftOut === undefined) return;
    const elapsedUs = Math.round((nowNs - this.#madeNs) / 1000);
    this.events.post({ kind: "debug-port", code: value & 0xff, elapsedUs, leftOut });
  }
}
