/**
 * A qcow2 image as a virtual disk.
 *
 * L4, I/O Worker. A request that lies in clusters which are there already, side by side, is one vectored call at the
 * translated offset, without allocation. Everything else (new clusters, zeroes, compressed clusters, backing files) goes
 * piece by piece. Source: QEMU docs/interop/qcow2.txt.
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import type { Disk, DiskCompletion } from "@vmm/virtio/ports/disk.ts";
import type { DiskDescription } from "../description.ts";
import { ImageFault } from "../disk_error.ts";
import { HostFailure, ImageDamage, must } from "../host_failure.ts";
import { ImageFile } from "../image_file.ts";
import { IOVEC_BYTES, IovecSlice } from "../iovec.ts";
import { DataPath } from "../ring.ts";
import { fillZeroes, Scratch } from "../scratch.ts";
import { CompressedClusters, compressedExtent } from "./compressed.ts";
import { HEADER_READ_BYTES, parseHeader, type Qcow2Header } from "./header.ts";
import { COMPRESSED, COPIED, hostOffsetOf, type L2Table, Metadata, ZERO } from "./metadata.ts";
import { rebuildRefcounts } from "./repair.ts";

const ENTRY_BYTES = 8;
const WORD = 0x1_0000_0000;
const OFFSET_HIGH = 0x00ff_ffff;
const SECTOR_BYTES = 512;

/** What a cluster's table entry says. */
type ClusterKind = "absent" | "zero" | "data" | "compressed";

/** Zeroes to write: as many as the largest cluster has. Never changed. */
const ZEROES_BYTES = 2 << 20;
let zeroMemory: Scratch | undefined;

/** Reads and checks an image's header. @throws ImageFault, HostFailure */
export function readHeader(file: ImageFile, readonly: boolean): Qcow2Header {
  const bytes = new Uint8Array(HEADER_READ_BYTES);
  const got = must(file.readBytes(bytes, 0), "read header");
  const header = parseHeader(bytes.subarray(0, got));
  if (header.isCorrupt && !readonly) {
    throw new ImageFault("Corrupt image", "Image is marked corrupt and cannot be opened for writing");
  }
  return header;
}

/** See the module. */
export class Qcow2Disk implements Disk {
  readonly #file: ImageFile;
  readonly #path: DataPath;
  readonly #header: Qcow2Header;
  readonly #meta: Metadata;
  readonly #readonly: boolean;
  readonly #backing: Disk | undefined;
  readonly #compressed: CompressedClusters;
  readonly #clusterBytes: number;
  readonly #perCluster: number;
  // Slices of this disk's own: the image below may be of the same kind.
  readonly #piece = new IovecSlice();
  readonly #single = new IovecSlice();
  readonly #rest = new IovecSlice();
  readonly #below = new IovecSlice();
  readonly #belowRest = new IovecSlice();
  /** One cluster, for assembling what surrounds a write. */
  #scratch: Scratch | undefined;

  /** @param backing the image below, attached @throws ImageFault, HostFailure */
  constructor(description: DiskDescription, backing: Disk | undefined) {
    this.#readonly = description.file.readonly;
    this.#file = new ImageFile(description.file);
    let header = readHeader(this.#file, this.#readonly);
    if (!this.#readonly && header.isDirty) header = rebuildRefcounts(this.#file, header);
    if (!this.#readonly && header.hasAutoclear) {
      must(this.#file.writeBytes(new Uint8Array(8), AUTOCLEAR_OFFSET), "write header");
    }
    this.#header = header;
    const path = this.#path = new DataPath(this.#file, description.ring && !description.isProbe);
    this.#meta = new Metadata(this.#file, header, {
      punchFreed: description.sparse,
      settleTransfers: () => path.settle(),
    });
    this.#backing = backing;
    this.#clusterBytes = this.#meta.clusterBytes;
    this.#perCluster = 1 / this.#clusterBytes;
    this.#compressed = new CompressedClusters(this.#file, this.#clusterBytes, header.compression);
  }

  get sizeBytes(): number {
    return this.#meta.sizeBytes;
  }

  get completionFd(): number {
    return this.#path.completionFd;
  }

  read(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    try {
      const host = this.#adjacent(offset, lengthBytes, 0);
      if (host < 0) return this.#readPieces(iov, count, lengthBytes, offset);
      // What reaches beyond the file's end has to be completed with zeroes: not something to wait for elsewhere.
      if (host + lengthBytes > this.#meta.refcounts.fileBytes) {
        return this.#readData(iov, count, lengthBytes, host);
      }
      return this.#path.read(token, iov, count, lengthBytes, host);
    } catch (error) {
      return this.#failed(error);
    }
  }

  write(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    if (this.#readonly) return -Errno.EROFS;
    try {
      const host = this.#adjacent(offset, lengthBytes, COPIED);
      if (host >= 0) return this.#path.write(token, iov, count, lengthBytes, host);
      return this.#writePieces(iov, count, lengthBytes, offset);
    } catch (error) {
      return this.#failed(error);
    }
  }

  transferNow(
    isWrite: boolean,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    if (isWrite && this.#readonly) return -Errno.EROFS;
    try {
      const host = this.#adjacent(offset, lengthBytes, isWrite ? COPIED : 0);
      const isThere = host >= 0 && (isWrite || host + lengthBytes <= this.#meta.refcounts.fileBytes);
      return isThere ? this.#path.now(isWrite, iov, count, lengthBytes, host) : -Errno.EAGAIN;
    } catch {
      return -Errno.EAGAIN; // who asks again gets to know
    }
  }

  flush(token: number): number {
    if (this.#readonly) return 0;
    try {
      if (this.#meta.hasChanges) this.#meta.commit();
      return this.#path.flush(token);
    } catch (error) {
      return this.#failed(error);
    }
  }

  discard(_token: number, offset: number, lengthBytes: number): number {
    if (this.#readonly) return -Errno.EROFS;
    try {
      this.#clearWhole(offset, lengthBytes, true);
      return 0;
    } catch (error) {
      return this.#failed(error);
    }
  }

  writeZeroes(_token: number, offset: number, lengthBytes: number, mayUnmap: boolean): number {
    if (this.#readonly) return -Errno.EROFS;
    try {
      const end = offset + lengthBytes;
      const firstWhole = Math.ceil(offset / this.#clusterBytes) * this.#clusterBytes;
      const lastWhole = Math.floor(end / this.#clusterBytes) * this.#clusterBytes;
      if (firstWhole > lastWhole) {
        this.#zeroPart(offset, lengthBytes);
        return 0;
      }
      this.#zeroPart(offset, firstWhole - offset);
      this.#clearWhole(firstWhole, lastWhole - firstWhole, mayUnmap);
      this.#zeroPart(lastWhole, end - lastWhole);
      return 0;
    } catch (error) {
      return this.#failed(error);
    }
  }

  submit(): void {
    this.#path.submit();
  }

  reap(completed: DiskCompletion): void {
    this.#path.reap(completed);
  }

  drain(completed: DiskCompletion): void {
    this.#path.drain(completed);
    if (this.#readonly) return;
    try {
      this.#meta.settle();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Images only grow, and only without a backing file. */
  resize(sizeBytes: number): number {
    if (this.#readonly || this.#backing !== undefined || this.#header.backingName !== undefined) {
      return -Errno.EOPNOTSUPP;
    }
    if (sizeBytes % SECTOR_BYTES !== 0 || sizeBytes < this.sizeBytes) return -Errno.EINVAL;
    try {
      if (sizeBytes > this.sizeBytes) this.#meta.grow(sizeBytes);
      return 0;
    } catch (error) {
      return this.#failed(error);
    }
  }

  close(): void {
    this.drain(() => {});
    this.#path.close();
    this.#scratch?.close();
    this.#scratch = undefined;
    this.#backing?.close();
  }

  /**
   * Host offset of a range if all its clusters are there, side by side, with `flag` set in their entries; else −1.
   * This is the hot path: it allocates nothing once the table is in memory.
   */
  #adjacent(offset: number, lengthBytes: number, flag: number): number {
    const table = this.#meta.table(offset);
    if (table === undefined || table.isSuspicious) return -1;
    const inTable = offset - table.start;
    let index = Math.floor(inTable * this.#perCluster);
    const inCluster = inTable - index * this.#clusterBytes;
    const { view } = table;
    const high = view.getUint32(ENTRY_BYTES * index);
    const low = view.getUint32(ENTRY_BYTES * index + 4);
    if (!isPlain(high, low, flag)) return -1;
    const host = (high & OFFSET_HIGH) * WORD + low;
    let expected = host;
    for (let covered = this.#clusterBytes - inCluster; covered < lengthBytes; covered += this.#clusterBytes) {
      index++;
      expected += this.#clusterBytes;
      if (index >= this.#meta.entriesPerTable) return -1;
      const nextHigh = view.getUint32(ENTRY_BYTES * index);
      const nextLow = view.getUint32(ENTRY_BYTES * index + 4);
      if (!isPlain(nextHigh, nextLow, flag)) return -1;
      if ((nextHigh & OFFSET_HIGH) * WORD + nextLow !== expected) return -1;
    }
    return host + inCluster;
  }

  /** Reads data clusters. The last one may be cut off by the file's end: the rest is zeroes. */
  #readData(iov: Uint8Array<ArrayBuffer>, count: number, lengthBytes: number, host: number): number {
    const got = this.#file.read(iov, count, lengthBytes, host);
    if (got === lengthBytes || got < 0) return got;
    const rest = this.#rest;
    rest.set(iov, count, got, lengthBytes - got);
    const filled = fillZeroes(rest.bytes, rest.count, rest.lengthBytes);
    return filled < 0 ? filled : got + filled;
  }

  #readPieces(iov: Uint8Array<ArrayBuffer>, count: number, lengthBytes: number, offset: number): number {
    let done = 0;
    while (done < lengthBytes) {
      const at = offset + done;
      const inCluster = at % this.#clusterBytes;
      const table = this.#meta.table(at);
      const wanted = Math.min(lengthBytes - done, this.#clusterBytes - inCluster);
      this.#piece.set(iov, count, done, wanted);
      const size = this.#piece.lengthBytes;
      if (size === 0) return -Errno.EINVAL;
      must(this.#readInCluster(table, at, inCluster, this.#piece, size), "read cluster");
      done += size;
    }
    return done;
  }

  /** Reads within one cluster into `target`, which covers `size` bytes; `size` or `-errno`. @throws HostFailure */
  #readInCluster(
    table: L2Table | undefined,
    at: number,
    inCluster: number,
    target: IovecSlice,
    size: number,
  ): number {
    const index = table === undefined ? -1 : Math.floor((at - table.start) / this.#clusterBytes);
    const high = table === undefined ? 0 : table.view.getUint32(ENTRY_BYTES * index);
    const low = table === undefined ? 0 : table.view.getUint32(ENTRY_BYTES * index + 4);
    switch (this.#kindOf(high, low)) {
      case "data":
        return this.#readData(target.bytes, target.count, size, hostOffsetOf(high, low) + inCluster);
      case "compressed": {
        const plain = this.#compressed.read(compressedExtent(high, low, this.#header.clusterBits));
        const scratch = this.#buffer();
        scratch.bytes.set(plain.subarray(inCluster, inCluster + size));
        return scratch.copyTo(target.bytes, target.count, size);
      }
      case "absent":
        if (this.#backing !== undefined) return this.#readBacking(target, size, at);
        return fillZeroes(target.bytes, target.count, size);
      case "zero":
        return fillZeroes(target.bytes, target.count, size);
    }
  }

  /** Reads from the image below; it may be smaller. */
  #readBacking(target: IovecSlice, size: number, at: number): number {
    const backing = this.#backing!;
    const there = Math.max(0, Math.min(size, backing.sizeBytes - at));
    const [part, rest] = [this.#below, this.#belowRest];
    part.set(target.bytes, target.count, 0, there);
    rest.set(target.bytes, target.count, there, size - there);
    if (there > 0) {
      const got = backing.read(0, part.bytes, part.count, there, at);
      if (got < 0) return got;
      if (got < there) return -Errno.EIO;
    }
    if (rest.count === 0) return size;
    const filled = fillZeroes(rest.bytes, rest.count, rest.lengthBytes);
    return filled < 0 ? filled : size;
  }

  #writePieces(iov: Uint8Array<ArrayBuffer>, count: number, lengthBytes: number, offset: number): number {
    let done = 0;
    while (done < lengthBytes) done += this.#writePiece(iov, count, done, lengthBytes - done, offset + done);
    if (this.#meta.wantsCommit) this.#meta.commit();
    return done;
  }

  /** Writes as much of `iov`, from `skip` on, as can be done in one go; bytes done. @throws HostFailure */
  #writePiece(
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    skip: number,
    lengthBytes: number,
    offset: number,
  ): number {
    const table = this.#meta.writableTable(offset);
    const first = Math.floor((offset - table.start) / this.#clusterBytes);
    const inCluster = offset % this.#clusterBytes;
    const inTable = Math.min(lengthBytes, table.end - offset);
    const wantedClusters = Math.ceil((inCluster + inTable) / this.#clusterBytes);
    const high = table.view.getUint32(ENTRY_BYTES * first);
    const low = table.view.getUint32(ENTRY_BYTES * first + 4);
    if (this.#kindOf(high, low) === "data" && (high & COPIED) !== 0) {
      const size = Math.min(inTable, this.#clusterBytes - inCluster);
      return this.#writeSlice(iov, count, skip, size, hostOffsetOf(high, low) + inCluster);
    }
    // A run of clusters that all need a place.
    let clusters = 1;
    while (clusters < wantedClusters && this.#needsPlace(table, first + clusters)) clusters++;
    const { refcounts } = this.#meta;
    refcounts.allocate(clusters);
    const { allocatedFirst, allocatedCount, allocatedFresh } = refcounts;
    const host = allocatedFirst * this.#clusterBytes;
    const size = Math.min(inTable, allocatedCount * this.#clusterBytes - inCluster);
    try {
      this.#fillNew(table, first, allocatedCount, host, allocatedFresh, iov, count, skip, size, inCluster);
    } catch (error) {
      refcounts.release(allocatedFirst, allocatedCount);
      throw error;
    }
    for (let i = 0; i < allocatedCount; i++) {
      this.#forget(table, first + i, true);
      this.#setData(table, first + i, host + i * this.#clusterBytes);
    }
    return size;
  }

  /** Writes data into new clusters, and around it what the clusters contained before. @throws HostFailure */
  #fillNew(
    table: L2Table,
    first: number,
    clusters: number,
    host: number,
    isFresh: boolean,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    skip: number,
    size: number,
    inCluster: number,
  ): void {
    const end = inCluster + size;
    const tail = end % this.#clusterBytes;
    const lastCluster = clusters - 1;
    let from = 0;
    let to = size;
    if (!isFresh) this.#meta.requireBarrier();
    // The first cluster, if it is not written from its start on (or is the only one and not written to its end).
    if (inCluster > 0 || (lastCluster === 0 && tail > 0)) {
      const inFirst = Math.min(size, this.#clusterBytes - inCluster);
      if (this.#surround(table, first, host, isFresh, iov, count, skip, inFirst, inCluster)) from = inFirst;
    }
    if (lastCluster > 0 && tail > 0) {
      const at = host + lastCluster * this.#clusterBytes;
      if (this.#surround(table, first + lastCluster, at, isFresh, iov, count, skip + size - tail, tail, 0)) {
        to = size - tail;
      }
    }
    for (let done = from; done < to;) {
      done += this.#writeSlice(iov, count, skip + done, to - done, host + inCluster + done);
    }
  }

  /**
   * Writes one new cluster whole: old contents, and `size` bytes of data at `inCluster`. False, with nothing done, if the
   * old contents are zeroes and so is the new place: then the data alone is enough.
   */
  #surround(
    table: L2Table,
    index: number,
    host: number,
    isFresh: boolean,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    skip: number,
    size: number,
    inCluster: number,
  ): boolean {
    const high = table.view.getUint32(ENTRY_BYTES * index);
    const low = table.view.getUint32(ENTRY_BYTES * index + 4);
    const kind = this.#kindOf(high, low);
    const readsZero = kind === "zero" || (kind === "absent" && this.#backing === undefined);
    if (readsZero && isFresh) return false;
    const scratch = this.#buffer();
    if (readsZero) {
      scratch.bytes.fill(0);
    } else {
      this.#meta.requireBarrier();
      const start = table.start + index * this.#clusterBytes;
      // Reading a compressed cluster passes through the same buffer, from its start on: that is where it ends up.
      this.#single.setSingle(scratch.hostAddress, this.#clusterBytes);
      must(this.#readInCluster(table, start, 0, this.#single, this.#clusterBytes), "read old contents");
    }
    this.#piece.set(iov, count, skip, size);
    if (this.#piece.lengthBytes !== size) {
      throw new HostFailure(Errno.EINVAL, "too many segments in a cluster");
    }
    must(scratch.copyFrom(this.#piece.bytes, this.#piece.count, size, inCluster), "take data");
    this.#single.setSingle(scratch.hostAddress, this.#clusterBytes);
    const put = must(this.#file.write(this.#single.bytes, 1, this.#clusterBytes, host), "write cluster");
    if (put !== this.#clusterBytes) throw new HostFailure(Errno.EIO, "write cluster");
    return true;
  }

  /** Writes part of `iov` at a host offset; bytes done. @throws HostFailure */
  #writeSlice(iov: Uint8Array<ArrayBuffer>, count: number, skip: number, size: number, host: number): number {
    this.#piece.set(iov, count, skip, size);
    const put = must(
      this.#file.write(this.#piece.bytes, this.#piece.count, this.#piece.lengthBytes, host),
      "write data",
    );
    if (put !== this.#piece.lengthBytes || put === 0) throw new HostFailure(Errno.EIO, "write data");
    return put;
  }

  /** True if a write to a cluster needs a new one. */
  #needsPlace(table: L2Table, index: number): boolean {
    const high = table.view.getUint32(ENTRY_BYTES * index);
    return this.#kindOf(high, table.view.getUint32(ENTRY_BYTES * index + 4)) !== "data" ||
      (high & COPIED) === 0;
  }

  /** Writes zeroes to part of a cluster, unless it reads as zeroes already. @throws HostFailure */
  #zeroPart(offset: number, lengthBytes: number): void {
    if (lengthBytes === 0) return;
    const table = this.#meta.table(offset);
    const index = table === undefined ? 0 : Math.floor((offset - table.start) / this.#clusterBytes);
    const kind = table === undefined ? "absent" : this.#kindOf(
      table.view.getUint32(ENTRY_BYTES * index),
      table.view.getUint32(ENTRY_BYTES * index + 4),
    );
    if (kind === "zero" || (kind === "absent" && this.#backing === undefined)) return;
    zeroMemory ??= new Scratch(ZEROES_BYTES);
    this.#single.setSingle(zeroMemory.hostAddress, lengthBytes);
    const source = this.#single.bytes.slice(0, IOVEC_BYTES);
    must(this.#writePieces(source, 1, lengthBytes, offset), "write zeroes");
  }

  /** Makes the whole clusters in a range read as zeroes. @throws HostFailure */
  #clearWhole(offset: number, lengthBytes: number, mayUnmap: boolean): void {
    const end = offset + lengthBytes;
    // The disk may end inside its last cluster: nobody sees the rest.
    const last = end === this.sizeBytes ? end : Math.floor(end / this.#clusterBytes) * this.#clusterBytes;
    let at = Math.ceil(offset / this.#clusterBytes) * this.#clusterBytes;
    while (at < last) {
      const known = this.#meta.table(at);
      const tableEnd = (Math.floor(at / this.#meta.bytesPerTable) + 1) * this.#meta.bytesPerTable;
      const stop = Math.min(last, tableEnd);
      if (known === undefined && this.#backing === undefined) {
        at = stop;
        continue;
      }
      for (; at < stop; at += this.#clusterBytes) this.#clearCluster(at, mayUnmap);
      if (this.#meta.wantsCommit) this.#meta.commit();
    }
    // Freed space goes back to the host now, not at some later flush.
    if (mayUnmap) this.#meta.commit();
  }

  #clearCluster(at: number, mayUnmap: boolean): void {
    const known = this.#meta.table(at);
    const index = known === undefined ? 0 : Math.floor((at - known.start) / this.#clusterBytes);
    const high = known === undefined ? 0 : known.view.getUint32(ENTRY_BYTES * index);
    const low = known === undefined ? 0 : known.view.getUint32(ENTRY_BYTES * index + 4);
    const kind = this.#kindOf(high, low);
    const hides = this.#backing !== undefined || this.#header.backingName !== undefined;
    if (kind === "absent" && !hides) return;
    if (this.#header.version === 2) {
      // Only version 3 can say "zeroes": an older image must not uncover what lies below.
      if (kind === "absent" || hides || !mayUnmap) return this.#writeZeroCluster(at);
      const table = this.#meta.writableTable(at);
      this.#forget(table, index, mayUnmap);
      return this.#meta.setEntry(table, index, 0, 0);
    }
    const hasPlace = kind === "data" || (kind === "zero" && hostOffsetOf(high, low) !== 0);
    if (kind === "zero" && (!mayUnmap || !hasPlace)) return;
    const table = this.#meta.writableTable(at);
    if (hasPlace && !mayUnmap && (high & COPIED) !== 0) {
      return this.#meta.setEntry(table, index, high, low | ZERO);
    }
    this.#forget(table, index, mayUnmap);
    this.#meta.setEntry(table, index, 0, hides || !mayUnmap ? ZERO : 0);
  }

  #writeZeroCluster(at: number): void {
    this.#zeroPart(at, Math.min(this.#clusterBytes, this.sizeBytes - at));
  }

  /** Gives up what an entry refers to. */
  #forget(table: L2Table, index: number, punch: boolean): void {
    const high = table.view.getUint32(ENTRY_BYTES * index);
    const low = table.view.getUint32(ENTRY_BYTES * index + 4);
    if ((high & COMPRESSED) !== 0) {
      const extent = compressedExtent(high, low, this.#header.clusterBits);
      const first = Math.floor(extent.offset / this.#clusterBytes);
      const last = Math.floor((extent.offset + extent.lengthBytes - 1) / this.#clusterBytes);
      this.#meta.freeLater(first, last - first + 1, punch);
      return;
    }
    const host = hostOffsetOf(high, low);
    if (host !== 0) this.#meta.freeLater(host / this.#clusterBytes, 1, punch);
  }

  #setData(table: L2Table, index: number, host: number): void {
    this.#meta.setEntry(table, index, (COPIED | Math.floor(host / WORD)) >>> 0, host >>> 0);
  }

  /** @throws ImageDamage when the entry cannot be right */
  #kindOf(high: number, low: number): ClusterKind {
    if ((high & COMPRESSED) !== 0) return "compressed";
    const offset = hostOffsetOf(high, low);
    if (offset % this.#clusterBytes !== 0) throw new ImageDamage(`a cluster at ${offset} is not aligned`);
    if ((low & ZERO) !== 0 && this.#header.version === 3) return "zero";
    if (offset !== 0) return "data";
    if ((high & COPIED) !== 0) throw new ImageDamage("an entry points to the header");
    return "absent";
  }

  #buffer(): Scratch {
    return this.#scratch ??= new Scratch(Math.max(this.#clusterBytes, 4096));
  }

  /** Turns what was thrown into `-errno`; a damaged image is not written any more. */
  #failed(error: unknown): number {
    if (error instanceof ImageDamage) {
      if (!this.#readonly) this.#meta.markCorrupt();
      return -Errno.EIO;
    }
    if (error instanceof HostFailure) return -error.errno;
    if (error instanceof OsError) return -error.code;
    // Whatever an image makes us stumble over must not take the Worker down.
    return -Errno.EIO;
  }
}

/** Offset of the autoclear features in the header. */
const AUTOCLEAR_OFFSET = 88;

/** A data cluster, not compressed, not zero, with the flag if one is asked for. */
function isPlain(high: number, low: number, flag: number): boolean {
  return (high & COMPRESSED) === 0 && (low & ZERO) === 0 && (high & OFFSET_HIGH | low) !== 0 &&
    (flag === 0 || (high & flag) !== 0);
}
