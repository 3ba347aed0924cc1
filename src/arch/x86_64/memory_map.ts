/**
 * The memory map firmware would give: E820 types over RAM and the PCI configuration window.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §7; ACPI 6.5 §15 (E820 types).
 */
import { chainedError } from "./errors.ts";
import { ByteWriter } from "./byte_writer.ts";
import {
  EBDA_START,
  HIGH_RAM_START,
  MEM_32BIT_DEVICES_SIZE,
  MEM_32BIT_DEVICES_START,
  MEM_32BIT_RESERVED_START,
  type MemoryPlan,
} from "./layout.ts";

export const E820_RAM = 1;
export const E820_RESERVED = 2;

/** One range of the memory map. */
export interface MemoryMapEntry {
  readonly gpa: number;
  readonly sizeBytes: number;
  readonly type: typeof E820_RAM | typeof E820_RESERVED;
}

/** RAM regions of a plan joined where they touch: [start, end) pairs, ascending. */
export function contiguousRam(plan: MemoryPlan): [start: number, end: number][] {
  const ranges: [number, number][] = [];
  for (const region of plan.ramRegions) {
    const last = ranges.at(-1);
    const end = region.gpa + region.sizeBytes;
    if (last !== undefined && last[1] === region.gpa) last[1] = end;
    else ranges.push([region.gpa, end]);
  }
  return ranges;
}

/**
 * Memory map of a plan, as PVH and the zero page list it.
 *
 * @throws ArchError (memory-map) when the first RAM range does not reach beyond 1 MiB
 */
export function memoryMap(plan: MemoryPlan): MemoryMapEntry[] {
  const [first, ...rest] = contiguousRam(plan);
  if (first[0] !== 0 || first[1] <= HIGH_RAM_START || first[1] > MEM_32BIT_RESERVED_START) {
    throw chainedError("memory-map", "Cannot configure system", "Error generating memory map table");
  }
  return [
    { gpa: 0, sizeBytes: EBDA_START, type: E820_RAM },
    { gpa: HIGH_RAM_START, sizeBytes: first[1] - HIGH_RAM_START, type: E820_RAM },
    ...rest.map(([start, end]) => ({ gpa: start, sizeBytes: end - start, type: E820_RAM } as const)),
    { gpa: plan.ecam.gpa, sizeBytes: plan.ecam.sizeBytes, type: E820_RESERVED },
  ];
}

/** Where firmware's own flash would be. */
const FLASH_START = 0xfffe_0000;
const FLASH_SIZE_BYTES = 0x2_0000;

/**
 * Memory map for firmware that fetches it as a file (fw_cfg "etc/e820"): entries of address, size and type. Unlike the maps
 * given to kernels it also reserves device windows, as the original's does.
 */
export function firmwareMemoryMap(plan: MemoryPlan): Uint8Array<ArrayBuffer> {
  const [first, ...rest] = contiguousRam(plan);
  const writer = new ByteWriter();
  const add = (gpa: number, sizeBytes: number, type: number) => writer.u64(gpa, sizeBytes).u32(type);
  add(0, EBDA_START, E820_RAM);
  add(MEM_32BIT_DEVICES_START, MEM_32BIT_DEVICES_SIZE, E820_RESERVED);
  add(plan.ecam.gpa, plan.ecam.sizeBytes, E820_RESERVED);
  add(FLASH_START, FLASH_SIZE_BYTES, E820_RESERVED);
  add(HIGH_RAM_START, first[1] - HIGH_RAM_START, E820_RAM);
  for (const [start, end] of rest) add(start, end - start, E820_RAM);
  return writer.take();
}
