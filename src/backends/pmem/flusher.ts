/**
 * Flushes the file of a persistent memory device without holding up the I/O Worker.
 *
 * L4, I/O Worker. Where the kernel has no asynchronous I/O, a flush waits on the spot.
 */
import { AsyncFlush, flushNow } from "@ffi/libc/aio.ts";
import { close, eventfd } from "@ffi/libc/fd.ts";
import { drainEvent } from "@ffi/libc/io.ts";
import { FLUSH_PENDING, type FlushPort } from "@vmm/virtio/ports/flush.ts";

/** A file's flushes, and the end of them. */
export interface FileFlusher extends FlushPort {
  /** Waits for the flush under way and lets go of the file, which stays open. */
  close(): void;
}

/** Flushes of `fd`. Never throws. */
export function createFlusher(fd: number): FileFlusher {
  const completionFd = eventfd();
  let asynchronous: AsyncFlush;
  try {
    asynchronous = new AsyncFlush(fd, completionFd);
  } catch {
    close(completionFd);
    return { completionFd: -1, start: () => flushNow(fd), finish: () => 0, close() {} };
  }
  return {
    completionFd,
    start() {
      const result = asynchronous.start();
      return result === 0 ? FLUSH_PENDING : result;
    },
    finish() {
      const result = asynchronous.wait();
      drainEvent(completionFd);
      return result;
    },
    close() {
      asynchronous.close();
      close(completionFd);
    },
  };
}
