/**
 * ACPI power management timer: 3.579545 MHz, 32 bits, counting from the VM's creation.
 *
 * L4, runs in vCPU Workers. Source: ACPI 6.3 §4.8.3.3; spec/machine-model.md §2 (port 0x608).
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";
import type { TimeSource } from "./time_source.ts";

const TICKS_PER_NS = 3_579_545 / 1e9;

/** What to subtract from the host's tick count. */
export const AcpiPmTimerBlock = defineBlock("acpi-pm-timer", { base: "u32" });
export type AcpiPmTimerState = BlockOf<typeof AcpiPmTimerBlock>;

function hostTicks(time: TimeSource): number {
  return Math.floor(time.monotonicNs() * TICKS_PER_NS) >>> 0;
}

/** A new timer that reads `ticks` now. */
export function createAcpiPmTimer(time: TimeSource, ticks = 0): AcpiPmTimerState {
  const state = AcpiPmTimerBlock.create();
  state.base = hostTicks(time) - ticks;
  return state;
}

/** Port 0x608: one dword, read-only. */
export class AcpiPmTimer implements IoDevice {
  constructor(private readonly state: AcpiPmTimerState, private readonly time: TimeSource) {}

  read(offset: number, size: number): number {
    if (offset !== 0 || size !== 4) return 0;
    return (hostTicks(this.time) - this.state.base) >>> 0;
  }

  write(): void {}
}
