/**
 * The words every vCPU Worker's buses share: when to read the ranges again, and what hit nothing.
 *
 * L3, any isolate.
 */
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

/** One per VM. */
export const BusBlock = defineBlock("bus", {
  /** Goes up whenever a window moved, came or went. A bus that saw another number reads its ranges again. */
  generation: "u32",
  /** Accesses that hit no device. */
  unassignedPio: "u32",
  unassignedMmio: "u32",
});

export type BusState = BlockOf<typeof BusBlock>;

/** Makes every bus read its ranges again before its next access. Any thread. */
export function bumpGeneration(bus: BusState): void {
  Atomics.add(bus.words, BusBlock.index.generation, 1);
}
