/**
 * Numbered items of bytes, as the firmware configuration device hands them out.
 *
 * L3, any isolate.
 */
export interface ItemSource {
  /** Length of an item in bytes, 0 when there is none of that number. */
  sizeOf(key: number): number;
  /** Fills `target` with the item's bytes from `offset` on; false when they cannot be read. Never throws. */
  read(key: number, offset: number, target: Uint8Array<ArrayBuffer>): boolean;
}
