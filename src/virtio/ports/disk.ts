/**
 * What a block device's queue handler needs from a disk image.
 *
 * L3, I/O Worker. Back-ends implement it, the block handler uses it, and neither imports the other.
 */

/**
 * Result of an operation that goes on in the kernel: the token comes back through `reap`. Every other result is a count
 * of bytes (0 for operations without data) or `-errno`.
 */
export const IO_PENDING = -0x4000_0000;

/** Receives a finished operation: its token, and bytes or `-errno`. */
export type DiskCompletion = (token: number, result: number) => void;

/**
 * A virtual disk. Data is given as `count` iovec entries (16 bytes each: host address, length) at the start of `iov`,
 * `lengthBytes` in all; the caller keeps the guest memory mapped until the operation has completed, and may change `iov`
 * as soon as the call returns. Offsets are bytes on the virtual disk, multiples of 512, inside `sizeBytes`. No method
 * throws: a failing host call is `-errno`. A token names one operation at a time; it is an index the caller chooses.
 */
export interface Disk {
  /** Size of the virtual disk in bytes; changes only by `resize`. */
  readonly sizeBytes: number;
  /** Readable (level-triggered) while completions wait to be reaped; −1 if operations never pend. */
  readonly completionFd: number;
  /** Reads; fewer bytes than asked for means the image ended. */
  read(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number;
  /** Writes; anything but `lengthBytes` is a failure. Data may stay in a cache until `flush`. */
  write(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number;
  /**
   * Reads or writes, at once or not at all worth mentioning: with any other result than `lengthBytes` the caller asks again
   * by `read` or `write`. Absent if that is never possible.
   */
  transferNow?(
    isWrite: boolean,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number;
  /** Makes everything written before durable. */
  flush(token: number): number;
  /** Gives a range's space back; it reads as zeroes or as before. */
  discard(token: number, offset: number, lengthBytes: number): number;
  /** Makes a range read as zeroes, giving its space back only if `mayUnmap`. */
  writeZeroes(token: number, offset: number, lengthBytes: number, mayUnmap: boolean): number;
  /** Hands pending operations to the kernel. Called once after each batch. */
  submit(): void;
  /** Reports the operations that have finished. `completed` may start new ones. */
  reap(completed: DiskCompletion): void;
  /** Waits for every pending operation and reports it; then writes cached metadata, so that the image is complete. */
  drain(completed: DiskCompletion): void;
  /** Changes the size; 0 or `-errno`. Nothing is pending then. */
  resize(sizeBytes: number): number;
  /** Writes cached metadata and forgets the image; descriptors stay open, they belong to main. */
  close(): void;
}
