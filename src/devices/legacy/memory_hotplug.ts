/**
 * Memory hot-plug controller: eight DIMM slots, of which the guest reads range and state.
 *
 * L4: registers run in vCPU Workers, `insertMemory` on main. Memory is never ejected.
 * Source: spec/machine-model.md §4, §9 (MHPC).
 */
import { HOTPLUG_SLOT_COUNT } from "@vmm/arch/x86_64/layout.ts";
import type { IoDevice } from "@vmm/bus/io_device.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

const READ = { baseLow: 0x0, baseHigh: 0x4, lengthLow: 0x8, lengthHigh: 0xc, status: 0x14 } as const;
const WRITE = { select: 0x0, status: 0x14 } as const;
const STATUS = { enabled: 1, inserting: 2, removing: 4 } as const;

/** Selected slot; per slot its range and status. */
export const MemoryHotplugBlock = defineBlock("memory-hotplug", {
  selected: "u32",
  baseLow: { u32: HOTPLUG_SLOT_COUNT },
  baseHigh: { u32: HOTPLUG_SLOT_COUNT },
  lengthLow: { u32: HOTPLUG_SLOT_COUNT },
  lengthHigh: { u32: HOTPLUG_SLOT_COUNT },
  status: { u8: HOTPLUG_SLOT_COUNT },
});
export type MemoryHotplugState = BlockOf<typeof MemoryHotplugBlock>;

const HIGH = 0x1_0000_0000;

/**
 * Shows a DIMM to the guest as newly inserted in the first free slot; notify the GED afterwards.
 * Returns the slot, or −1 when all are taken.
 */
export function insertMemory(state: MemoryHotplugState, gpa: number, sizeBytes: number): number {
  state.lock();
  const slot = state.status.findIndex((status) => (status & STATUS.enabled) === 0);
  if (slot >= 0) {
    state.baseLow[slot] = gpa % HIGH;
    state.baseHigh[slot] = Math.floor(gpa / HIGH);
    state.lengthLow[slot] = sizeBytes % HIGH;
    state.lengthHigh[slot] = Math.floor(sizeBytes / HIGH);
    state.status[slot] = STATUS.enabled | STATUS.inserting;
  }
  state.unlock();
  return slot;
}

/** 24 bytes. */
export class MemoryHotplug implements IoDevice {
  constructor(private readonly state: MemoryHotplugState) {}

  read(offset: number, size: number): number {
    const { state } = this;
    const slot = state.selected;
    if (slot >= HOTPLUG_SLOT_COUNT) return 0;
    if (offset === READ.status) return state.status[slot];
    if (size !== 4) return 0;
    switch (offset) {
      case READ.baseLow:
        return state.baseLow[slot];
      case READ.baseHigh:
        return state.baseHigh[slot];
      case READ.lengthLow:
        return state.lengthLow[slot];
      case READ.lengthHigh:
        return state.lengthHigh[slot];
      default:
        return 0;
    }
  }

  write(offset: number, _size: number, value: number): void {
    const { state } = this;
    if (offset === WRITE.select) {
      state.selected = value & 0xff;
    } else if (offset === WRITE.status) {
      state.lock();
      // The guest writes a one to acknowledge what it read; the eject bit is ignored.
      const slot = state.selected;
      if (slot < HOTPLUG_SLOT_COUNT) state.status[slot] &= ~(value & (STATUS.inserting | STATUS.removing));
      state.unlock();
    }
  }
}
