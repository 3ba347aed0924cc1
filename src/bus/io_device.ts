/**
 * What a device looks like to a bus.
 *
 * L3, runs in the vCPU Worker that took the exit. The bus splits 8-byte accesses into two of 4 bytes, low half first, so a
 * device sees sizes 1, 2 and 4 only. Values are unsigned numbers below 2^(8·size).
 */

/**
 * A register window. `offset` counts from the window's start and is always inside it; on the port bus `offset + size` may lie
 * behind its end. Must not throw or allocate.
 */
export interface IoDevice {
  read(offset: number, size: 1 | 2 | 4): number;
  write(offset: number, size: 1 | 2 | 4, value: number): void;
}

/** All ones: what a read from nothing gives. */
export function allOnes(size: number): number {
  return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
}
