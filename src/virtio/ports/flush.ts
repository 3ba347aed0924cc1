/**
 * What a persistent memory device's queue handler needs from its file.
 *
 * L3, I/O Worker. Back-ends implement it, the handler uses it, and neither imports the other.
 */

/** What `start` returns for a flush that goes on in the kernel. */
export const FLUSH_PENDING = 1;

/** Makes what was written through a mapping durable. One flush at a time; results are 0 or `-errno`; nothing throws. */
export interface FlushPort {
  /** Readable once the flush under way has finished; −1 if flushes never pend. */
  readonly completionFd: number;
  /** Starts a flush: `FLUSH_PENDING`, or its result when it is over already. */
  start(): number;
  /** The result of the flush that was started; waits for it if need be. */
  finish(): number;
}
