/**
 * What images have in common whose size is fixed, whose space is never given back, and whose operations are done at once.
 *
 * L4, I/O Worker.
 */
import { Errno } from "@ffi/abi/errno.ts";
import type { Disk, DiskCompletion } from "@vmm/virtio/ports/disk.ts";

/** Refuses what such a disk cannot do; nothing is ever in flight. A format adds its size and how it is read and written. */
export abstract class PlainDisk implements Omit<Disk, "sizeBytes" | "read" | "write" | "flush"> {
  readonly completionFd = -1;

  discard(_token: number, _offset: number, _lengthBytes: number): number {
    return -Errno.EOPNOTSUPP;
  }

  writeZeroes(_token: number, _offset: number, _lengthBytes: number, _mayUnmap: boolean): number {
    return -Errno.EOPNOTSUPP;
  }

  submit(): void {}

  reap(_completed: DiskCompletion): void {}

  drain(_completed: DiskCompletion): void {}

  resize(_sizeBytes: number): number {
    return -Errno.EOPNOTSUPP;
  }

  close(): void {}
}
