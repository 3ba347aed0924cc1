/**
 * Rules about memory flags, balloon size and zones.
 *
 * L0, pure. Source: spec/schemas.md rules 11 and 13.
 */
import type { MemoryConfig, MemoryZoneConfig } from "@schemas/api/memory.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { fault, type Faults } from "./fault.ts";

const isPowerOfTwo = (value: bigint) => value > 0n && (value & (value - 1n)) === 0n;

/** Huge page size of the memory or one zone at `path`. */
export function* hugePageFaults(memory: MemoryConfig | MemoryZoneConfig, path: string): Faults {
  const size = memory.hugepage_size;
  if (size === undefined) return;
  if (!memory.hugepages) {
    yield fault("Huge page size specified but huge pages not enabled", `${path}.hugepage_size`, size);
  }
  if (!isPowerOfTwo(size)) {
    yield fault(`Huge page size is not power of 2: ${size}`, `${path}.hugepage_size`, size);
  }
}

/** Pages cannot be merged by the host and mapped by others at once. */
export function* mergeableFaults(memory: MemoryConfig | MemoryZoneConfig, path: string): Faults {
  if (memory.shared && memory.mergeable) {
    yield fault("Invalid to set both 'mergeable' and 'shared' for memory", `${path}.mergeable`, true);
  }
}

/** All memory the guest can have at boot, in bytes: size, zones and what is plugged already. */
function totalMemoryBytes({ size, hotplugged_size, zones }: MemoryConfig): bigint {
  let total = size + (hotplugged_size ?? 0n);
  for (const zone of zones ?? []) total += zone.size + (zone.hotplugged_size ?? 0n);
  return total;
}

/** The balloon must leave the guest some memory. */
export function* balloonFaults({ balloon, memory }: VmConfig): Faults {
  if (balloon === undefined) return;
  const total = totalMemoryBytes(memory);
  if (balloon.size >= total) {
    yield fault(`Balloon size (${balloon.size}) greater than RAM (${total})`, "balloon.size", balloon.size);
  }
}
