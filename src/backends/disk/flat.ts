/**
 * Images whose data lies in order in one or several files: fixed VHD, flat VMDK.
 *
 * L4, I/O Worker.
 */
import { Errno } from "@ffi/abi/errno.ts";
import type { Disk } from "@vmm/virtio/ports/disk.ts";
import type { DiskDescription } from "./description.ts";
import { ImageFault } from "./disk_error.ts";
import { ImageFile } from "./image_file.ts";
import { IovecSlice } from "./iovec.ts";
import { PlainDisk } from "./plain_disk.ts";

interface Extent {
  /** First and one past the last byte on the virtual disk. */
  readonly start: number;
  readonly end: number;
  /** Absent where nothing may be accessed. */
  readonly file: ImageFile | undefined;
  readonly readonly: boolean;
  readonly fileOffset: number;
}

const slice = new IovecSlice();

/** A disk made of extents. */
export class FlatDisk extends PlainDisk implements Disk {
  readonly sizeBytes: number;
  readonly #extents: readonly Extent[];
  /** Each file once, for flushing. */
  readonly #files: readonly ImageFile[];

  /** @throws ImageFault when an extent reaches beyond its file */
  constructor(description: DiskDescription) {
    super();
    const extents: Extent[] = [];
    const files = new Map<number, ImageFile>();
    let start = 0;
    for (const { file, lengthBytes, fileOffset } of description.extents ?? []) {
      let image = file && files.get(file.fd);
      if (file !== undefined && image === undefined) {
        image = new ImageFile(file);
        files.set(file.fd, image);
      }
      if (image !== undefined && image.sizeBytes() < fileOffset + lengthBytes) {
        throw new ImageFault("Out of bounds", `"${image.path}" is shorter than the image says`);
      }
      const end = start + lengthBytes;
      extents.push({ start, end, file: image, readonly: file?.readonly ?? true, fileOffset });
      start = end;
    }
    this.#extents = extents;
    this.#files = [...files.values()];
    this.sizeBytes = start;
  }

  read(
    _token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    const extent = this.#at(offset);
    if (extent === undefined) return -Errno.EINVAL;
    if (offset + lengthBytes <= extent.end) return readFrom(extent, iov, count, lengthBytes, offset);
    return this.#across(readFrom, iov, count, lengthBytes, offset);
  }

  write(
    _token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    const extent = this.#at(offset);
    if (extent === undefined) return -Errno.ENOSPC;
    if (offset + lengthBytes <= extent.end) return writeTo(extent, iov, count, lengthBytes, offset);
    return this.#across(writeTo, iov, count, lengthBytes, offset);
  }

  flush(_token: number): number {
    for (const file of this.#files) {
      const result = file.sync();
      if (result < 0) return result;
    }
    return 0;
  }

  #at(offset: number): Extent | undefined {
    const extents = this.#extents;
    let low = 0;
    let high = extents.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (offset >= extents[middle].end) low = middle + 1;
      else high = middle;
    }
    return high >= 0 && offset < extents[low].end ? extents[low] : undefined;
  }

  /** A transfer over the seam of extents, piece by piece. */
  #across(
    transfer: typeof readFrom,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    let done = 0;
    while (done < lengthBytes) {
      const extent = this.#at(offset + done);
      if (extent === undefined) return done;
      slice.set(iov, count, done, Math.min(lengthBytes - done, extent.end - offset - done));
      if (slice.count === 0) return done;
      const wanted = slice.lengthBytes;
      const result = transfer(extent, slice.bytes, slice.count, wanted, offset + done);
      if (result < 0) return result;
      done += result;
      if (result < wanted) return done;
    }
    return done;
  }
}

function readFrom(
  extent: Extent,
  iov: Uint8Array<ArrayBuffer>,
  count: number,
  lengthBytes: number,
  offset: number,
): number {
  if (extent.file === undefined) return -Errno.EIO;
  return extent.file.read(iov, count, lengthBytes, extent.fileOffset + offset - extent.start);
}

function writeTo(
  extent: Extent,
  iov: Uint8Array<ArrayBuffer>,
  count: number,
  lengthBytes: number,
  offset: number,
): number {
  if (extent.file === undefined || extent.readonly) return -Errno.EROFS;
  return extent.file.write(iov, count, lengthBytes, extent.fileOffset + offset - extent.start);
}
