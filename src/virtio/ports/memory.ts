/**
 * What a balloon's queue handler needs from the host's memory management.
 *
 * L3, I/O Worker. Back-ends implement it, the handler uses it, and neither imports the other.
 */
import type { MappedRegion } from "@vmm/memory/guest_memory.ts";

/** Advice about guest pages. Results are 0 or `-errno`; nothing throws. */
export interface PageAdvisor {
  /** Gives pages back to the host: they read as zeroes from now on and cost nothing until they are touched. */
  release(region: MappedRegion, offset: number, lengthBytes: number): number;
  /** The guest is about to use these pages. */
  want(region: MappedRegion, offset: number, lengthBytes: number): number;
}
