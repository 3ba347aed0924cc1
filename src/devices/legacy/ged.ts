/**
 * Generic Event Device: one byte of pending notifications, read by `\_SB.GEC.ESCN`, and its interrupt.
 *
 * L4: registers run in vCPU Workers, `notifyGed` on main. Source: ACPI 6.3 §5.6.9; spec/machine-model.md §4.
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { InterruptLines } from "@vmm/bus/ports.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

/** Bits not yet read by the guest. */
export const GedBlock = defineBlock("ged", { pending: "u32" });
export type GedState = BlockOf<typeof GedBlock>;

/** Tells the guest: sets `bits` (`GedNotification`) and raises the edge. Any isolate. */
export function notifyGed(state: GedState, lines: InterruptLines, gsi: number, bits: number): void {
  Atomics.or(state.words, GedBlock.index.pending, bits);
  lines.pulse(gsi);
}

/** One byte; reading takes the pending bits. */
export class Ged implements IoDevice {
  constructor(private readonly state: GedState) {}

  read(offset: number, size: number): number {
    if (offset !== 0 || size !== 1) return 0;
    return Atomics.exchange(this.state.words, GedBlock.index.pending, 0) & 0xff;
  }

  write(): void {}
}
