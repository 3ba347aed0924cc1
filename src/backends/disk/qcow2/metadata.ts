/**
 * Where the clusters of a qcow2 image's virtual disk are: the two levels of tables, kept in memory and written in order.
 *
 * L4, I/O Worker. Changed tables reach the disk in `commit`: first counts, then second-level tables, then first-level
 * entries, and only then are clusters that nobody refers to any more free. Killing the process at any moment leaves an
 * image without errors; losing power as well, because syncs stand where the order matters and the dirty bit is set.
 * Source: QEMU docs/interop/qcow2.txt "Cluster mapping".
 */
import { Errno } from "@ffi/abi/errno.ts";
import { HostFailure, ImageDamage, must } from "../host_failure.ts";
import type { ImageFile } from "../image_file.ts";
import {
  HeaderField,
  INCOMPATIBLE_COMPRESSION_TYPE,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
  MAX_L1_BYTES,
  type Qcow2Header,
} from "./header.ts";
import { bigEndian, Refcounts } from "./refcounts.ts";

/** Flags in the upper word of a table entry. */
export const COPIED = 0x8000_0000;
export const COMPRESSED = 0x4000_0000;
/** Flag in the lower word: the cluster reads as zeroes. Version 3 only. */
export const ZERO = 1;
const RESERVED_LOW = 0x1fe;
const OFFSET_HIGH = 0x00ff_ffff;
const OFFSET_LOW = 0xffff_fe00;
const WORD = 0x1_0000_0000;
const ENTRY_BYTES = 8;
/** Memory for second-level tables; 64 KiB of it maps 512 MiB of disk. */
const CACHE_BYTES = 32 << 20;
const MIN_TABLES = 8;
/** Clusters waiting to become free before a commit is due. */
const MAX_PENDING_FREE = 4096;

/** A second-level table in memory, as on disk. */
export interface L2Table {
  readonly l1Index: number;
  /** First and one past the last byte of the virtual disk it maps. */
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  /** Where it is, or will be, on disk. */
  hostOffset: number;
  /** Entries that differ from the disk; none when from ≥ to. */
  dirtyFrom: number;
  dirtyTo: number;
  /** Some entry cannot be right: no short cuts through this table. */
  isSuspicious: boolean;
}

/** Host offset in an entry given as two words. */
export function hostOffsetOf(high: number, low: number): number {
  return (high & OFFSET_HIGH) * WORD + ((low & OFFSET_LOW) >>> 0);
}

interface PendingFree {
  readonly cluster: number;
  readonly count: number;
  /** Give the space back to the host if nothing refers to it then. */
  readonly punch: boolean;
}

/** What the tables are told of the rest of the image. */
export interface MetadataOptions {
  /** Give freed clusters back to the host. */
  readonly punchFreed: boolean;
  /** Waits for transfers that are under way: what they touch must not be freed. */
  settleTransfers(): void;
}

/** See the module. */
export class Metadata {
  readonly clusterBytes: number;
  readonly entriesPerTable: number;
  readonly bytesPerTable: number;
  readonly refcounts: Refcounts;
  sizeBytes: number;
  readonly #file: ImageFile;
  readonly #header: Qcow2Header;
  readonly #punchFreed: boolean;
  readonly #settleTransfers: () => void;
  /** First-level entries without their flag. */
  #l1: Float64Array;
  #l1Owned: Uint8Array;
  #l1Offset: number;
  readonly #l1Dirty = new Set<number>();
  /** Least recently used first. */
  readonly #tables = new Map<number, L2Table>();
  #last: L2Table | undefined;
  readonly #dirtyTables = new Set<L2Table>();
  #pendingFree: PendingFree[] = [];
  #pendingClusters = 0;
  /** Something that was readable before is only right once the data written since is durable. */
  #needsBarrier = false;
  #isDirty: boolean;
  #isCorrupt: boolean;

  /** @throws HostFailure, ImageDamage */
  constructor(file: ImageFile, header: Qcow2Header, options: MetadataOptions) {
    this.#file = file;
    this.#settleTransfers = options.settleTransfers;
    this.#header = header;
    this.#punchFreed = options.punchFreed;
    this.clusterBytes = 2 ** header.clusterBits;
    this.entriesPerTable = this.clusterBytes / ENTRY_BYTES;
    this.bytesPerTable = this.clusterBytes * this.entriesPerTable;
    this.sizeBytes = header.sizeBytes;
    this.#isDirty = header.isDirty;
    this.#isCorrupt = header.isCorrupt;
    this.#l1Offset = header.l1Offset;
    this.#l1 = new Float64Array(header.l1Size);
    this.#l1Owned = new Uint8Array(header.l1Size);
    const fileBytes = file.sizeBytes();
    this.#readL1(fileBytes);
    this.refcounts = new Refcounts({
      file,
      clusterBytes: this.clusterBytes,
      refcountOrder: header.refcountOrder,
      tableOffset: header.refcountTableOffset,
      tableClusters: header.refcountTableClusters,
      fileBytes,
      beforeChange: () => this.#markDirty(),
    });
  }

  /** The image was found to contradict itself: it is only read from now on. */
  get isCorrupt(): boolean {
    return this.#isCorrupt;
  }

  /** The table that maps `offset`, or undefined if there is none. @throws HostFailure, ImageDamage */
  table(offset: number): L2Table | undefined {
    const last = this.#last;
    if (last !== undefined && offset >= last.start && offset < last.end) return last;
    return this.#find(Math.floor(offset / this.bytesPerTable));
  }

  /** As `table`, made if missing and ours to change. @throws HostFailure, ImageDamage */
  writableTable(offset: number): L2Table {
    if (this.#isCorrupt) throw new HostFailure(Errno.EIO, "the image is corrupt");
    const l1Index = Math.floor(offset / this.bytesPerTable);
    const known = this.#find(l1Index);
    if (known !== undefined && this.#l1Owned[l1Index] === 1) return known;
    if (l1Index >= this.#l1.length) throw new ImageDamage(`no first-level entry for offset ${offset}`);
    this.refcounts.allocate(1);
    const hostOffset = this.refcounts.allocatedFirst * this.clusterBytes;
    if (!this.refcounts.allocatedFresh || known !== undefined) this.#needsBarrier = true;
    let table = known;
    if (table === undefined) {
      table = this.#newTable(l1Index, hostOffset, new Uint8Array(this.clusterBytes));
      this.#keep(table);
    } else {
      // Shared with a snapshot: this copy is ours, the old one loses a reference once ours is in place.
      this.freeLater(table.hostOffset / this.clusterBytes, 1, false);
      table.hostOffset = hostOffset;
    }
    table.dirtyFrom = 0;
    table.dirtyTo = this.entriesPerTable;
    this.#dirtyTables.add(table);
    this.#l1[l1Index] = hostOffset;
    this.#l1Owned[l1Index] = 1;
    this.#l1Dirty.add(l1Index);
    return table;
  }

  /** Sets entry `index` of a writable table. */
  setEntry(table: L2Table, index: number, high: number, low: number): void {
    table.view.setUint32(ENTRY_BYTES * index, high);
    table.view.setUint32(ENTRY_BYTES * index + 4, low);
    if (table.dirtyFrom >= table.dirtyTo) {
      table.dirtyFrom = index;
      table.dirtyTo = index + 1;
      this.#dirtyTables.add(table);
    } else {
      table.dirtyFrom = Math.min(table.dirtyFrom, index);
      table.dirtyTo = Math.max(table.dirtyTo, index + 1);
    }
  }

  /** Data has been put where old contents, not only zeroes, have to be seen unless it is durable. */
  requireBarrier(): void {
    this.#needsBarrier = true;
  }

  /** Takes a reference from clusters once nothing on disk refers to them any more. */
  freeLater(cluster: number, count: number, punch: boolean): void {
    this.#pendingFree.push({ cluster, count, punch });
    this.#pendingClusters += count;
  }

  /** True if so much waits to be freed that a commit is due. */
  get wantsCommit(): boolean {
    return this.#pendingClusters >= MAX_PENDING_FREE;
  }

  /** True for tables or counts that differ from the disk. */
  get hasChanges(): boolean {
    return this.#dirtyTables.size > 0 || this.#l1Dirty.size > 0 || this.#pendingFree.length > 0 ||
      this.refcounts.isDirty;
  }

  /** Writes everything that has changed, in order; it is durable only after a sync. @throws HostFailure */
  commit(): void {
    if (!this.hasChanges) return;
    this.#markDirty();
    // Without a dirty bit nobody would repair counts that were lost with the power.
    const barrier = this.#needsBarrier || this.#header.version === 2;
    this.refcounts.writeBack();
    if (this.#dirtyTables.size > 0) {
      if (barrier) must(this.#file.sync(), "sync data");
      for (const table of this.#dirtyTables) this.#writeTable(table);
      this.#dirtyTables.clear();
    }
    if (this.#l1Dirty.size > 0) {
      if (barrier) must(this.#file.sync(), "sync tables");
      for (const index of this.#l1Dirty) {
        const entry = bigEndian(this.#l1[index], COPIED);
        must(this.#file.writeBytes(entry, this.#l1Offset + ENTRY_BYTES * index), "write first-level entry");
      }
      this.#l1Dirty.clear();
    }
    this.#needsBarrier = false;
    this.#releasePending();
  }

  /** Writes everything and makes it durable; the image is clean then. @throws HostFailure */
  settle(): void {
    // Freeing changes counts, which have to be written as well.
    while (this.hasChanges) this.commit();
    if (!this.#isDirty || this.#isCorrupt) return;
    this.refcounts.trim();
    if (this.#header.version === 3) {
      must(this.#file.sync(), "sync image");
      this.#writeFeatures(0);
      must(this.#file.sync(), "sync header");
    }
    this.#isDirty = false;
  }

  /** Marks the image corrupt, as far as that is possible. Never throws. */
  markCorrupt(): void {
    if (this.#isCorrupt) return;
    this.#isCorrupt = true;
    if (this.#header.version === 3) {
      try {
        this.#writeFeatures(INCOMPATIBLE_CORRUPT | (this.#isDirty ? INCOMPATIBLE_DIRTY : 0));
      } catch {
        // Nothing more can be done; the flag in memory keeps us from writing.
      }
    }
  }

  /** Makes the disk larger. @throws HostFailure */
  grow(sizeBytes: number): void {
    if (this.#isCorrupt) throw new HostFailure(Errno.EIO, "the image is corrupt");
    const entries = Math.ceil(sizeBytes / this.bytesPerTable);
    if (entries * ENTRY_BYTES > MAX_L1_BYTES) {
      throw new HostFailure(Errno.EFBIG, "first-level table too large");
    }
    while (this.hasChanges) this.commit();
    if (entries > this.#l1.length) this.#growL1(entries);
    must(this.#file.writeBytes(bigEndian(sizeBytes), HeaderField.size), "write header");
    must(this.#file.sync(), "sync header");
    this.sizeBytes = sizeBytes;
  }

  #find(l1Index: number): L2Table | undefined {
    const known = this.#tables.get(l1Index);
    if (known !== undefined) {
      if (this.#tables.size > 1) {
        this.#tables.delete(l1Index);
        this.#tables.set(l1Index, known);
      }
      return this.#last = known;
    }
    const hostOffset = l1Index < this.#l1.length ? this.#l1[l1Index] : 0;
    if (hostOffset === 0) return undefined;
    const bytes = new Uint8Array(this.clusterBytes);
    must(this.#file.readBytes(bytes, hostOffset), "read second-level table");
    const table = this.#newTable(l1Index, hostOffset, bytes);
    table.isSuspicious = !this.#isPlausible(table);
    this.#keep(table);
    return table;
  }

  #newTable(l1Index: number, hostOffset: number, bytes: Uint8Array<ArrayBuffer>): L2Table {
    const start = l1Index * this.bytesPerTable;
    return {
      l1Index,
      start,
      end: start + this.bytesPerTable,
      bytes,
      view: new DataView(bytes.buffer),
      hostOffset,
      dirtyFrom: 0,
      dirtyTo: 0,
      isSuspicious: false,
    };
  }

  /** Entries point to whole clusters behind the header. */
  #isPlausible(table: L2Table): boolean {
    for (let at = 0; at < table.bytes.byteLength; at += ENTRY_BYTES) {
      const high = table.view.getUint32(at);
      const low = table.view.getUint32(at + 4);
      if ((high | low) === 0 || (high & COMPRESSED) !== 0) continue;
      const offset = hostOffsetOf(high, low);
      if (offset % this.clusterBytes !== 0 || (offset === 0 && (low & ZERO) === 0)) return false;
      if ((low & RESERVED_LOW) !== 0 || ((low & ZERO) !== 0 && this.#header.version === 2)) return false;
    }
    return true;
  }

  #keep(table: L2Table): void {
    const limit = Math.max(MIN_TABLES, Math.floor(CACHE_BYTES / this.clusterBytes));
    if (this.#tables.size >= limit) {
      const [index, oldest] = this.#tables.entries().next().value!;
      if (this.#dirtyTables.has(oldest)) this.commit();
      this.#tables.delete(index);
      if (this.#last === oldest) this.#last = undefined;
    }
    this.#tables.set(table.l1Index, table);
    this.#last = table;
  }

  #writeTable(table: L2Table): void {
    if (table.dirtyFrom >= table.dirtyTo) return;
    const from = ENTRY_BYTES * table.dirtyFrom;
    const part = table.bytes.subarray(from, ENTRY_BYTES * table.dirtyTo);
    must(this.#file.writeBytes(part, table.hostOffset + from), "write second-level table");
    table.dirtyFrom = table.dirtyTo = 0;
  }

  #releasePending(): void {
    if (this.#pendingFree.length === 0) return;
    this.#settleTransfers();
    if (this.#header.version === 2) must(this.#file.sync(), "sync tables");
    const freed = this.#pendingFree;
    this.#pendingFree = [];
    this.#pendingClusters = 0;
    for (const { cluster, count, punch } of freed) {
      this.refcounts.release(cluster, count);
      if (!punch || !this.#punchFreed) continue;
      for (let first = cluster; first < cluster + count; first++) {
        if (this.refcounts.get(first) !== 0) continue;
        let length = 1;
        while (first + length < cluster + count && this.refcounts.get(first + length) === 0) length++;
        // Only saves space: a host that cannot is no failure.
        this.#file.punch(first * this.clusterBytes, length * this.clusterBytes);
        first += length;
      }
    }
  }

  #readL1(fileBytes: number): void {
    const bytes = new Uint8Array(this.#l1.length * ENTRY_BYTES);
    if (must(this.#file.readBytes(bytes, this.#l1Offset), "read first-level table") < bytes.byteLength) {
      throw new ImageDamage("Invalid L1 table offset");
    }
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < this.#l1.length; i++) {
      const high = view.getUint32(ENTRY_BYTES * i);
      const offset = hostOffsetOf(high, view.getUint32(ENTRY_BYTES * i + 4));
      if (offset % this.clusterBytes !== 0 || offset >= fileBytes) {
        throw new ImageDamage(`first-level entry ${i} points to ${offset}`);
      }
      this.#l1[i] = offset;
      this.#l1Owned[i] = high >>> 31;
    }
  }

  /** Moves the first-level table to a larger place; offset and length in the header change in one write. */
  #growL1(entries: number): void {
    const clusters = Math.ceil(entries * ENTRY_BYTES / this.clusterBytes);
    const first = this.#allocateAdjacent(clusters);
    const bytes = new Uint8Array(clusters * this.clusterBytes);
    for (let i = 0; i < this.#l1.length; i++) {
      if (this.#l1[i] === 0) continue;
      bytes.set(bigEndian(this.#l1[i], this.#l1Owned[i] === 1 ? COPIED : 0), ENTRY_BYTES * i);
    }
    const offset = first * this.clusterBytes;
    this.refcounts.writeBack();
    must(this.#file.writeBytes(bytes, offset), "write first-level table");
    must(this.#file.sync(), "sync first-level table");
    const pointer = new DataView(new ArrayBuffer(12));
    pointer.setUint32(0, entries);
    new Uint8Array(pointer.buffer).set(bigEndian(offset), 4);
    must(this.#file.writeBytes(new Uint8Array(pointer.buffer), HeaderField.l1_size), "write header");
    must(this.#file.sync(), "sync header");
    const oldClusters = Math.ceil(this.#l1.length * ENTRY_BYTES / this.clusterBytes);
    const oldFirst = this.#l1Offset / this.clusterBytes;
    const l1 = new Float64Array(entries);
    l1.set(this.#l1);
    const owned = new Uint8Array(entries);
    owned.set(this.#l1Owned);
    this.#l1 = l1;
    this.#l1Owned = owned;
    this.#l1Offset = offset;
    if (oldClusters > 0 && oldFirst > 0) this.refcounts.release(oldFirst, oldClusters);
    this.refcounts.writeBack();
  }

  /** First of `count` adjacent free clusters. */
  #allocateAdjacent(count: number): number {
    for (;;) {
      this.refcounts.allocate(count);
      const { allocatedFirst: first, allocatedCount: got } = this.refcounts;
      if (got === count) return first;
      // Too small a gap: keep it taken until one large enough was found, so that the search moves on.
      try {
        return this.#allocateAdjacent(count);
      } finally {
        this.refcounts.release(first, got);
      }
    }
  }

  #markDirty(): void {
    if (this.#isDirty) return;
    if (this.#header.version === 3) {
      this.#writeFeatures(INCOMPATIBLE_DIRTY);
      must(this.#file.sync(), "sync header");
    }
    this.#isDirty = true;
  }

  #writeFeatures(bits: number): void {
    const kept = this.#header.hasCompressionType ? INCOMPATIBLE_COMPRESSION_TYPE : 0;
    must(this.#file.writeBytes(bigEndian(bits | kept), HeaderField.incompatible_features), "write header");
  }
}
