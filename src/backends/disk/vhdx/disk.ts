/**
 * A VHDX image, fixed or dynamic, as a virtual disk.
 *
 * L4, I/O Worker. Blocks are added at the end of the file; the table that says where they are reaches the disk at the next
 * flush, after the blocks themselves, so that the image is right at every moment without a log of our own.
 * Source: MS-VHDX 8.0 §2.4, §2.5.
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import type { Disk, DiskCompletion } from "@vmm/virtio/ports/disk.ts";
import type { DiskDescription } from "../description.ts";
import { ImageFault } from "../disk_error.ts";
import { HostFailure, must } from "../host_failure.ts";
import { ImageFile } from "../image_file.ts";
import { IovecSlice } from "../iovec.ts";
import { PlainDisk } from "../plain_disk.ts";
import { fillZeroes } from "../scratch.ts";
import { replayLog } from "./log.ts";
import * as structures from "./structures.ts";

const ENTRY_BYTES = 8;
const STATE_MASK = 7;
const FULLY_PRESENT = 6;
const PARTIALLY_PRESENT = 7;
/** File offsets in the table count these. */
const OFFSET_UNIT = 1 << 20;
const WORD = 0x1_0000_0000;
const MAX_TABLE_BYTES = 128 << 20;

/** See the module. */
export class VhdxDisk extends PlainDisk implements Disk {
  readonly sizeBytes: number;
  readonly #file: ImageFile;
  readonly #readonly: boolean;
  #header: structures.VhdxHeader;
  readonly #blockBytes: number;
  readonly #perBlock: number;
  readonly #chunkBlocks: number;
  readonly #batOffset: number;
  /** File offset of each block, 0 for none. */
  readonly #blocks: Float64Array;
  readonly #dirty = new Set<number>();
  #headerUpdated = false;
  #fileBytes: number;
  readonly #piece = new IovecSlice();
  readonly #rest = new IovecSlice();

  /** @throws ImageFault, HostFailure */
  constructor(description: DiskDescription) {
    super();
    this.#file = new ImageFile(description.file);
    this.#readonly = description.file.readonly;
    this.#header = structures.currentHeader(
      structures.HEADER_OFFSETS.map((offset) => this.#read(offset, structures.HEADER_BYTES)),
    );
    if (this.#header.logGuid !== undefined && !description.isProbe) {
      if (this.#readonly) {
        throw new ImageFault("Unsupported feature", "The VHDX log has to be replayed first");
      }
      replayLog(this.#file, this.#header);
      this.#updateHeader();
    }
    const { bat, metadata } = structures.parseRegions(
      structures.REGION_TABLE_OFFSETS.map((offset) => this.#read(offset, structures.REGION_TABLE_BYTES)),
    );
    const geometry = structures.parseMetadata((offset, lengthBytes) => {
      if (offset + lengthBytes > metadata.lengthBytes) {
        throw new ImageFault("Invalid format", "Invalid metadata length");
      }
      return this.#read(metadata.offset + offset, lengthBytes);
    });
    this.sizeBytes = geometry.sizeBytes;
    this.#blockBytes = geometry.blockBytes;
    this.#perBlock = 1 / geometry.blockBytes;
    this.#chunkBlocks = 2 ** 23 * geometry.logicalSectorBytes / geometry.blockBytes;
    this.#batOffset = bat.offset;
    this.#fileBytes = this.#file.sizeBytes();
    this.#blocks = this.#readTable(bat);
  }

  read(
    _token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    const block = Math.floor(offset * this.#perBlock);
    const inBlock = offset - block * this.#blockBytes;
    const host = this.#blocks[block];
    if (host > 0 && inBlock + lengthBytes <= this.#blockBytes) {
      return this.#readBlock(iov, count, lengthBytes, host + inBlock);
    }
    return this.#inPieces(iov, count, lengthBytes, offset, (piece, size, index, within) => {
      const at = this.#blocks[index];
      if (at === 0) return fillZeroes(piece.bytes, piece.count, size);
      return this.#readBlock(piece.bytes, piece.count, size, at + within);
    });
  }

  write(
    _token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    if (this.#readonly) return -Errno.EROFS;
    const block = Math.floor(offset * this.#perBlock);
    const inBlock = offset - block * this.#blockBytes;
    const host = this.#blocks[block];
    if (host > 0 && this.#headerUpdated && inBlock + lengthBytes <= this.#blockBytes) {
      return this.#file.write(iov, count, lengthBytes, host + inBlock);
    }
    try {
      this.#updateHeader();
      return this.#inPieces(iov, count, lengthBytes, offset, (piece, size, index, within) => {
        const at = this.#blocks[index] || this.#addBlock(index);
        return this.#file.write(piece.bytes, piece.count, size, at + within);
      });
    } catch (error) {
      return failed(error);
    }
  }

  flush(_token: number): number {
    if (this.#readonly) return 0;
    try {
      this.#writeTable();
      return this.#file.sync();
    } catch (error) {
      return failed(error);
    }
  }

  override drain(_completed: DiskCompletion): void {
    try {
      this.#writeTable();
    } catch {
      // The next flush tries again and tells the guest; what was never flushed may be lost.
    }
  }

  override close(): void {
    this.drain(() => {});
  }

  #read(offset: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(lengthBytes);
    must(this.#file.readBytes(bytes, offset), "read VHDX structure");
    return bytes;
  }

  /** Reads within one block; the last one may be cut off. */
  #readBlock(iov: Uint8Array<ArrayBuffer>, count: number, lengthBytes: number, host: number): number {
    const got = this.#file.read(iov, count, lengthBytes, host);
    if (got === lengthBytes || got < 0) return got;
    this.#rest.set(iov, count, got, lengthBytes - got);
    const filled = fillZeroes(this.#rest.bytes, this.#rest.count, this.#rest.lengthBytes);
    return filled < 0 ? filled : got + filled;
  }

  /** Splits a transfer at block borders. */
  #inPieces(
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
    run: (piece: IovecSlice, size: number, block: number, within: number) => number,
  ): number {
    let done = 0;
    while (done < lengthBytes) {
      const block = Math.floor((offset + done) * this.#perBlock);
      const within = offset + done - block * this.#blockBytes;
      if (block >= this.#blocks.length) return -Errno.EINVAL;
      this.#piece.set(iov, count, done, Math.min(lengthBytes - done, this.#blockBytes - within));
      const size = this.#piece.lengthBytes;
      if (size === 0) return -Errno.EINVAL;
      const result = run(this.#piece, size, block, within);
      if (result < 0) return result;
      if (result !== size) return -Errno.EIO;
      done += size;
    }
    return done;
  }

  /** Makes a block at the end of the file; its offset. @throws HostFailure */
  #addBlock(index: number): number {
    if (this.#file.isBlockDevice) throw new HostFailure(Errno.ENOSPC, "the device is full");
    const offset = Math.ceil(this.#fileBytes / OFFSET_UNIT) * OFFSET_UNIT;
    must(this.#file.setSize(offset + this.#blockBytes), "extend image");
    this.#fileBytes = offset + this.#blockBytes;
    this.#blocks[index] = offset;
    this.#dirty.add(index);
    return offset;
  }

  /** Entry of a block in the table: behind each chunk of blocks stands the entry of its sector bitmap. */
  #entryOffset(block: number): number {
    return this.#batOffset + ENTRY_BYTES * (block + Math.floor(block / this.#chunkBlocks));
  }

  #readTable(bat: structures.Region): Float64Array {
    const count = Math.ceil(this.sizeBytes / this.#blockBytes);
    const tableBytes = this.#entryOffset(count - 1) + ENTRY_BYTES - this.#batOffset;
    if (tableBytes > bat.lengthBytes || tableBytes > MAX_TABLE_BYTES) {
      throw new ImageFault("Invalid format", "The VHDX block table does not fit the disk");
    }
    const view = new DataView(this.#read(bat.offset, tableBytes).buffer);
    const blocks = new Float64Array(count);
    for (let block = 0; block < count; block++) {
      const at = this.#entryOffset(block) - this.#batOffset;
      const low = view.getUint32(at, true);
      const state = low & STATE_MASK;
      if (state === PARTIALLY_PRESENT) {
        throw new ImageFault("Unsupported feature", "Differencing VHDX images are not supported");
      }
      if (state !== FULLY_PRESENT) continue;
      const offset = view.getUint32(at + 4, true) * WORD + ((low & ~(OFFSET_UNIT - 1)) >>> 0);
      if (offset < OFFSET_UNIT || offset >= this.#fileBytes) {
        throw new ImageFault("Corrupt image", `VHDX block ${block} lies outside the file`);
      }
      blocks[block] = offset;
    }
    return blocks;
  }

  /** Writes the entries of new blocks, once the blocks are there for good. @throws HostFailure */
  #writeTable(): void {
    if (this.#dirty.size === 0) return;
    must(this.#file.sync(), "sync blocks");
    for (const block of this.#dirty) {
      const entry = new DataView(new ArrayBuffer(ENTRY_BYTES));
      const offset = this.#blocks[block];
      entry.setUint32(0, (offset >>> 0 | FULLY_PRESENT) >>> 0, true);
      entry.setUint32(4, Math.floor(offset / WORD), true);
      must(
        this.#file.writeBytes(new Uint8Array(entry.buffer), this.#entryOffset(block)),
        "write block table",
      );
      this.#dirty.delete(block);
    }
  }

  /** Says in the header that the image is being written; once per attachment. @throws HostFailure */
  #updateHeader(): void {
    if (this.#headerUpdated) return;
    const bytes = structures.nextHeader(this.#header);
    const other = 1 - this.#header.index;
    must(this.#file.writeBytes(bytes, structures.HEADER_OFFSETS[other]), "write header");
    must(this.#file.sync(), "sync header");
    this.#header = structures.currentHeader([bytes]);
    this.#header = { ...this.#header, index: other };
    this.#headerUpdated = true;
  }
}

function failed(error: unknown): number {
  if (error instanceof HostFailure) return -error.errno;
  if (error instanceof OsError) return -error.code;
  return -Errno.EIO;
}
