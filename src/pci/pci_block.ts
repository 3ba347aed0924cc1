/**
 * State of the PCI subsystem shared by all vCPUs: which slots hold a function, the hot-plug bitmaps, the port window's
 * address register.
 *
 * L3, any isolate. One bit per slot, one word per segment.
 */
import { MAX_PCI_SEGMENTS } from "@vmm/arch/x86_64/layout.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

export const PciBlock = defineBlock("pci", {
  /** Address register of configuration mechanism #1. */
  configAddress: "u32",
  /** PSEG of the hot-plug controller. */
  selectedSegment: "u32",
  segments: "u32",
  /** Slots whose function answers. */
  present: { u32: MAX_PCI_SEGMENTS },
  /** PCIU: slots whose device was added and not yet seen by the guest. */
  added: { u32: MAX_PCI_SEGMENTS },
  /** PCID: slots whose device main wants back. */
  removing: { u32: MAX_PCI_SEGMENTS },
});

export type PciState = BlockOf<typeof PciBlock>;

type Bitmap = "present" | "added" | "removing";

/** Sets a slot's bit. Any thread. */
export function setSlot(pci: PciState, bitmap: Bitmap, segment: number, slot: number): void {
  Atomics.or(pci.words, PciBlock.index[bitmap] + segment, 1 << slot);
}

/** Clears a slot's bit; true if it was set. Any thread. */
export function clearSlot(pci: PciState, bitmap: Bitmap, segment: number, slot: number): boolean {
  return (Atomics.and(pci.words, PciBlock.index[bitmap] + segment, ~(1 << slot)) >>> slot & 1) === 1;
}

/** Whether a slot's bit is set. Any thread. */
export function slotIsSet(pci: PciState, bitmap: Bitmap, segment: number, slot: number): boolean {
  return (Atomics.load(pci.words, PciBlock.index[bitmap] + segment) >>> slot & 1) === 1;
}

/** Reads a segment's bitmap and clears it. */
export function takeSlots(pci: PciState, bitmap: Bitmap, segment: number): number {
  return Atomics.exchange(pci.words, PciBlock.index[bitmap] + segment, 0) >>> 0;
}
