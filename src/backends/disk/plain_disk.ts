/**
 * What images have in common whose size is fixed, whose space is never given back, and whose operations are done at once.
 *
 * L4, I/O Worker.
 */
import { Errno } from "@ffi/abi/errno.ts";
import type { Disk, DiskCompletion } from "@vmm/virtio/ports/disk.ts";

/** Refuses what such a disk cannot do; nothing is ever in flight. */
export abstract class PlainDisk implements Disk {
  readonly completionFd = -1;
  abstract readonly sizeBytes: number;

  abstract read(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number;

  abstract write(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number;

  abstract flush(token: number): number;

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
