/**
 * Raw images: the file, or the block device, is the disk.
 *
 * L4, I/O Worker.
 */
import { Errno } from "@ffi/abi/errno.ts";
import type { Disk, DiskCompletion } from "@vmm/virtio/ports/disk.ts";
import type { DiskDescription } from "./description.ts";
import { ImageFile } from "./image_file.ts";
import { DataPath } from "./ring.ts";

const SECTOR_BYTES = 512;

/** A raw image. */
export class RawDisk implements Disk {
  readonly #file: ImageFile;
  readonly #path: DataPath;
  readonly #readonly: boolean;
  #sizeBytes: number;

  /** @throws OsError if the size cannot be read */
  constructor(description: DiskDescription) {
    this.#file = new ImageFile(description.file);
    this.#path = new DataPath(this.#file, description.ring && !description.isProbe);
    this.#readonly = description.file.readonly;
    this.#sizeBytes = this.#file.sizeBytes();
  }

  get completionFd(): number {
    return this.#path.completionFd;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  read(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    return this.#path.read(token, iov, count, lengthBytes, offset);
  }

  write(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    return this.#path.write(token, iov, count, lengthBytes, offset);
  }

  transferNow(
    isWrite: boolean,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    return this.#path.now(isWrite, iov, count, lengthBytes, offset);
  }

  flush(token: number): number {
    return this.#path.flush(token);
  }

  discard(_token: number, offset: number, lengthBytes: number): number {
    return this.#file.punch(offset, lengthBytes);
  }

  writeZeroes(_token: number, offset: number, lengthBytes: number, mayUnmap: boolean): number {
    return this.#file.zero(offset, lengthBytes, mayUnmap);
  }

  submit(): void {
    this.#path.submit();
  }

  reap(completed: DiskCompletion): void {
    this.#path.reap(completed);
  }

  drain(completed: DiskCompletion): void {
    this.#path.drain(completed);
  }

  /** A block device keeps its size: asking for that size only is fine. */
  resize(sizeBytes: number): number {
    if (sizeBytes % SECTOR_BYTES !== 0 || this.#readonly) return -Errno.EINVAL;
    if (this.#file.isBlockDevice) {
      const actual = this.#file.sizeBytes();
      if (actual !== sizeBytes) return -Errno.EINVAL;
    } else {
      const result = this.#file.setSize(sizeBytes);
      if (result < 0) return result;
    }
    this.#sizeBytes = sizeBytes;
    return 0;
  }

  close(): void {
    this.#path.close();
  }
}
