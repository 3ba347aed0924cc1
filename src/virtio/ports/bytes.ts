/**
 * What an entropy device's queue handler needs from its source.
 *
 * L3, I/O Worker. Back-ends implement it, the handler uses it, and neither imports the other.
 */

/** An endless stream of bytes. */
export interface ByteSource {
  /** Readable when bytes wait; −1 when the file cannot be polled (then trying again later is all there is). */
  readonly pollFd: number;
  /**
   * Fills `count` iovec entries (16 bytes each: host address, length) as far as it can without waiting. Returns bytes, 0
   * at the end of a file, or `-errno` (`-EAGAIN` when nothing is there now). Never throws.
   */
  read(iov: Uint8Array<ArrayBuffer>, count: number): number;
}
