/**
 * The shared state of one PCI function: configuration bytes, which of their bits the guest may write, and where its BARs
 * are decoded.
 *
 * L3, any isolate. A device with more state puts these fields first in its own block; `PciFunctionBlock.attach` then works
 * on that block's buffer too.
 */
import { defineBlock, type SharedBlock } from "@vmm/sync/shared_block.ts";
import { PCI_BARS, PCI_CONFIG_SIZE } from "./layout.ts";

/** Values of `barKind`. */
export const BarKind = { none: 0, memory32: 1, memory64: 2 } as const;

export const pciFunctionFields = {
  config: { u8: PCI_CONFIG_SIZE },
  /** A set bit can be written by the guest. */
  writable: { u8: PCI_CONFIG_SIZE },
  barKind: { u32: PCI_BARS },
  /** Decoded size in bytes; what the guest sees when sizing is the next power of two, at least 16. */
  barSizeLow: { u32: PCI_BARS },
  barSizeHigh: { u32: PCI_BARS },
  /** Where the buses decode the BAR now; follows the register once a move succeeded. */
  barBaseLow: { u32: PCI_BARS },
  barBaseHigh: { u32: PCI_BARS },
} as const;

export const PciFunctionBlock = defineBlock("pci-function", pciFunctionFields);

/** Any block that starts with the fields of a PCI function. */
export type PciFunctionState = SharedBlock<typeof pciFunctionFields>;

const HIGH = 0x1_0000_0000;

/** Address at which BAR `index` is decoded. */
export function barBase(state: PciFunctionState, index: number): number {
  return state.barBaseHigh[index] * HIGH + state.barBaseLow[index];
}

/** Size of BAR `index` in bytes; 0 when there is none. */
export function barSize(state: PciFunctionState, index: number): number {
  return state.barSizeHigh[index] * HIGH + state.barSizeLow[index];
}

/** Sets the address at which BAR `index` is decoded. With the function's lock held, or before it is registered. */
export function setBarBase(state: PciFunctionState, index: number, base: number): void {
  state.barBaseLow[index] = base >>> 0;
  state.barBaseHigh[index] = Math.floor(base / HIGH);
}

/** Sets the size of BAR `index`; main does when it makes the function. */
export function setBarSize(state: PciFunctionState, index: number, sizeBytes: number): void {
  state.barSizeLow[index] = sizeBytes >>> 0;
  state.barSizeHigh[index] = Math.floor(sizeBytes / HIGH);
}
