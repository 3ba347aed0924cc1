/**
 * Raw images: the file, or the block device, is the disk.
 *
 * L4, I/O Worker.
 */
import { Errno } from "@ffi/abi/errno.ts";
import type { Disk, DiskCompletion } from "@vmm/virtio/ports/disk.ts";
import type { DiskDescription } from "./description.ts";
import { ImageFile } from "./image_file.ts";

const SECTOR_BYTES = 512;

/** A raw image with plain vectored calls: the fastest way wherever the page cache or memory holds the data. */
export class RawDisk implements Disk {
  readonly completionFd = -1;
  protected readonly file: ImageFile;
  protected readonly readonly: boolean;
  #sizeBytes: number;

  /** @throws OsError if the size cannot be read */
  constructor(description: DiskDescription) {
    this.file = new ImageFile(description.file);
    this.readonly = description.file.readonly;
    this.#sizeBytes = this.file.sizeBytes();
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  read(
    _token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    return this.file.read(iov, count, lengthBytes, offset);
  }

  write(
    _token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    return this.file.write(iov, count, lengthBytes, offset);
  }

  flush(_token: number): number {
    return this.file.sync();
  }

  discard(_token: number, offset: number, lengthBytes: number): number {
    return this.file.punch(offset, lengthBytes);
  }

  writeZeroes(_token: number, offset: number, lengthBytes: number, mayUnmap: boolean): number {
    return this.file.zero(offset, lengthBytes, mayUnmap);
  }

  submit(): void {}

  reap(_completed: DiskCompletion): void {}

  drain(_completed: DiskCompletion): void {}

  /** A block device keeps its size: asking for that size only is fine. */
  resize(sizeBytes: number): number {
    if (sizeBytes % SECTOR_BYTES !== 0 || this.readonly) return -Errno.EINVAL;
    if (this.file.isBlockDevice) {
      const actual = this.file.sizeBytes();
      if (actual !== sizeBytes) return -Errno.EINVAL;
    } else {
      const result = this.file.setSize(sizeBytes);
      if (result < 0) return result;
    }
    this.#sizeBytes = sizeBytes;
    return 0;
  }

  close(): void {}
}
