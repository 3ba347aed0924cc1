/**
 * Reference counts of a qcow2 image's clusters: which are free, and handing them out.
 *
 * L4, I/O Worker. Counts are kept in memory block by block and written back when asked; new blocks and a larger table reach
 * the disk at once, in an order that leaves a readable image at every moment (at worst with leaked clusters).
 * Source: QEMU docs/interop/qcow2.txt "Host cluster management".
 */
import { Errno } from "@ffi/abi/errno.ts";
import { HostFailure, ImageDamage, must } from "../host_failure.ts";
import type { ImageFile } from "../image_file.ts";
import { HeaderField } from "./header.ts";

/** What is needed of the image. */
export interface RefcountSurroundings {
  readonly file: ImageFile;
  readonly clusterBytes: number;
  readonly refcountOrder: number;
  readonly tableOffset: number;
  readonly tableClusters: number;
  /** Size of the image file when it was opened. */
  readonly fileBytes: number;
  /** Called before anything is written. */
  beforeChange(): void;
}

interface Block {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  /** Range of bytes that differ from the disk; empty when from ≥ to. */
  dirtyFrom: number;
  dirtyTo: number;
}

const ENTRY_BYTES = 8;
const MAX_TABLE_BYTES = 8 << 20;
/** Blocks kept in memory: at 64 KiB each they describe 128 GiB of image. */
const MAX_BLOCKS = 64;
/** The file grows by this much at a time; what is not used is cut off at the end. */
const GROW_BYTES = 4 << 20;
const OFFSET_LOW_MASK = 0xffff_fe00;
const OFFSET_HIGH_MASK = 0x00ff_ffff;
const WORD = 0x1_0000_0000;

/** See the module. */
export class Refcounts {
  /** Clusters handed out by the last `allocate`. */
  allocatedFirst = 0;
  allocatedCount = 0;
  /** They were never used: they read as zeroes. */
  allocatedFresh = false;

  readonly #around: RefcountSurroundings;
  readonly #file: ImageFile;
  readonly #clusterBytes: number;
  readonly #order: number;
  /** Clusters one block describes. */
  readonly #perBlock: number;
  #tableOffset: number;
  #tableClusters: number;
  /** Offset of each block, 0 for none. */
  #table: Float64Array;
  /** Oldest first. */
  readonly #blocks = new Map<number, Block>();
  /** No free cluster lies below. */
  #cursor = 1;
  /** Clusters from here on have never held anything. */
  #untouched: number;
  #fileBytes: number;
  /** One past the last cluster that must stay in the file. */
  #inUse: number;

  /** @throws HostFailure, ImageDamage */
  constructor(around: RefcountSurroundings) {
    this.#around = around;
    this.#file = around.file;
    this.#clusterBytes = around.clusterBytes;
    this.#order = around.refcountOrder;
    this.#perBlock = around.clusterBytes * 8 / 2 ** around.refcountOrder;
    this.#tableOffset = around.tableOffset;
    this.#tableClusters = around.tableClusters;
    this.#fileBytes = around.fileBytes;
    this.#untouched = this.#inUse = Math.ceil(around.fileBytes / around.clusterBytes);
    const bytes = new Uint8Array(around.tableClusters * around.clusterBytes);
    must(around.file.readBytes(bytes, around.tableOffset), "read refcount table");
    const view = new DataView(bytes.buffer);
    this.#table = new Float64Array(bytes.byteLength / ENTRY_BYTES);
    for (let i = 0; i < this.#table.length; i++) {
      const offset = (view.getUint32(8 * i) & OFFSET_HIGH_MASK) * WORD +
        ((view.getUint32(8 * i + 4) & OFFSET_LOW_MASK) >>> 0);
      if (offset % around.clusterBytes !== 0) throw new ImageDamage(`refcount block ${i} is not aligned`);
      this.#table[i] = offset;
    }
  }

  /** Length of the image file as far as it is known: it may be longer. */
  get fileBytes(): number {
    return this.#fileBytes;
  }

  /** Count of a cluster. @throws HostFailure */
  get(cluster: number): number {
    const index = Math.floor(cluster / this.#perBlock);
    if (index >= this.#table.length || this.#table[index] === 0) return 0;
    return this.#read(this.#block(index), cluster - index * this.#perBlock);
  }

  /**
   * Takes up to `wanted` adjacent free clusters, at least one; see `allocatedFirst` and its neighbours.
   * @throws HostFailure, ENOSPC when the file cannot grow
   */
  allocate(wanted: number): void {
    this.#around.beforeChange();
    const first = this.#findFree();
    const index = Math.floor(first / this.#perBlock);
    const block = this.#block(index);
    const inBlock = first - index * this.#perBlock;
    // What a device holds where nothing was written is anybody's guess.
    const fresh = first >= this.#untouched && !this.#file.isBlockDevice;
    let count = 1;
    while (
      count < wanted && inBlock + count < this.#perBlock &&
      (first + count >= this.#untouched && !this.#file.isBlockDevice) === fresh &&
      this.#read(block, inBlock + count) === 0
    ) count++;
    this.#reach(first + count);
    for (let i = 0; i < count; i++) this.#write(block, inBlock + i, 1);
    this.#touch(first, count);
    this.#cursor = first + count;
    this.allocatedFirst = first;
    this.allocatedCount = count;
    this.allocatedFresh = fresh;
  }

  /** Takes one reference from each of `count` clusters. @throws ImageDamage when one has none, HostFailure */
  release(first: number, count = 1): void {
    this.#around.beforeChange();
    for (let cluster = first; cluster < first + count; cluster++) {
      const before = this.get(cluster);
      if (before === 0) throw new ImageDamage(`cluster ${cluster} is freed but has no references`);
      const index = Math.floor(cluster / this.#perBlock);
      this.#write(this.#block(index), cluster - index * this.#perBlock, before - 1);
      if (before === 1) this.#cursor = Math.min(this.#cursor, cluster);
    }
  }

  /** True if something differs from the disk. */
  get isDirty(): boolean {
    for (const block of this.#blocks.values()) if (block.dirtyFrom < block.dirtyTo) return true;
    return false;
  }

  /** Writes all changed counts. @throws HostFailure */
  writeBack(): void {
    for (const [index, block] of this.#blocks) this.#writeBlock(index, block);
  }

  /** Cuts off what the file has grown by and nothing uses. @throws HostFailure */
  trim(): void {
    if (this.#file.isBlockDevice) return;
    while (this.#inUse > 0 && this.get(this.#inUse - 1) === 0) this.#inUse--;
    const wanted = this.#inUse * this.#clusterBytes;
    if (wanted >= this.#fileBytes) return;
    must(this.#file.setSize(wanted), "shorten image");
    this.#fileBytes = wanted;
    this.#untouched = Math.min(this.#untouched, this.#inUse);
  }

  /** The first free cluster from the cursor on, in a block that exists afterwards. */
  #findFree(): number {
    for (let cluster = this.#cursor;;) {
      const index = Math.floor(cluster / this.#perBlock);
      if (index >= this.#table.length) {
        this.#growTable(index);
        continue;
      }
      if (this.#table[index] === 0) {
        this.#addBlock(index, cluster);
        cluster++;
        continue;
      }
      const start = index * this.#perBlock;
      const block = this.#block(index);
      for (let i = cluster - start; i < this.#perBlock; i++) {
        if (this.#read(block, i) === 0) return start + i;
      }
      cluster = start + this.#perBlock;
    }
  }

  /** Makes a block for range `index` at `cluster` of that range. The block first, then what points to it. */
  #addBlock(index: number, cluster: number): void {
    this.#reach(cluster + 1);
    const bytes = new Uint8Array(this.#clusterBytes);
    const block: Block = { bytes, view: new DataView(bytes.buffer), dirtyFrom: 0, dirtyTo: 0 };
    const start = index * this.#perBlock;
    this.#write(block, cluster - start, 1);
    const offset = cluster * this.#clusterBytes;
    must(this.#file.writeBytes(bytes, offset), "write refcount block");
    must(this.#file.sync(), "sync refcount block");
    must(
      this.#file.writeBytes(bigEndian(offset), this.#tableOffset + ENTRY_BYTES * index),
      "write refcount table",
    );
    block.dirtyFrom = block.dirtyTo = 0;
    this.#table[index] = offset;
    this.#touch(cluster, 1);
    this.#keep(index, block);
  }

  /** Moves the table to a larger place at the end, so that block `index` fits. */
  #growTable(index: number): void {
    const perCluster = this.#clusterBytes / ENTRY_BYTES;
    const entries = Math.max(index + 1 + (index >> 1), this.#table.length * 2);
    const clusters = Math.ceil(entries / perCluster);
    if (clusters * this.#clusterBytes > MAX_TABLE_BYTES) {
      throw new HostFailure(Errno.EFBIG, "refcount table is as large as it may be");
    }
    // New blocks, then the table: together they describe themselves.
    const blocks = Math.ceil(clusters / (this.#perBlock - 1));
    const first = index * this.#perBlock;
    const total = blocks + clusters;
    this.#reach(first + total);
    const table = new Float64Array(clusters * perCluster);
    table.set(this.#table);
    for (let i = 0; i < blocks; i++) {
      const bytes = new Uint8Array(this.#clusterBytes);
      const block: Block = { bytes, view: new DataView(bytes.buffer), dirtyFrom: 0, dirtyTo: 0 };
      const described = Math.min(total - i * this.#perBlock, this.#perBlock);
      for (let entry = 0; entry < described; entry++) this.#write(block, entry, 1);
      table[index + i] = (first + i) * this.#clusterBytes;
      must(this.#file.writeBytes(bytes, table[index + i]), "write refcount block");
      block.dirtyFrom = block.dirtyTo = 0;
      this.#keep(index + i, block);
    }
    const bytes = new Uint8Array(clusters * this.#clusterBytes);
    table.forEach((offset, i) => bytes.set(bigEndian(offset), ENTRY_BYTES * i));
    const offset = (first + blocks) * this.#clusterBytes;
    must(this.#file.writeBytes(bytes, offset), "write refcount table");
    must(this.#file.sync(), "sync refcount table");
    // Offset and length stand side by side: one write moves the table.
    const pointer = new Uint8Array(12);
    pointer.set(bigEndian(offset));
    new DataView(pointer.buffer).setUint32(8, clusters);
    must(this.#file.writeBytes(pointer, HeaderField.refcount_table_offset), "write header");
    must(this.#file.sync(), "sync header");
    const old = { first: this.#tableOffset / this.#clusterBytes, count: this.#tableClusters };
    this.#table = table;
    this.#tableOffset = offset;
    this.#tableClusters = clusters;
    this.#touch(first, total);
    this.release(old.first, old.count);
  }

  /** Makes the file long enough for clusters below `end`. */
  #reach(end: number): void {
    const needed = end * this.#clusterBytes;
    if (needed <= this.#fileBytes) return;
    if (this.#file.isBlockDevice) throw new HostFailure(Errno.ENOSPC, "the device is full");
    // A last cluster that was cut off may have been written since: never shorten the file here.
    this.#fileBytes = this.#file.sizeBytes();
    if (needed <= this.#fileBytes) return;
    const wanted = Math.ceil(needed / GROW_BYTES) * GROW_BYTES;
    let result = this.#file.setSize(Math.max(wanted, needed));
    let size = Math.max(wanted, needed);
    if (result < 0) {
      result = this.#file.setSize(needed);
      size = needed;
    }
    must(result, "extend image");
    this.#fileBytes = size;
  }

  #touch(first: number, count: number): void {
    this.#untouched = Math.max(this.#untouched, first + count);
    this.#inUse = Math.max(this.#inUse, first + count);
  }

  #block(index: number): Block {
    const known = this.#blocks.get(index);
    if (known !== undefined) return known;
    const bytes = new Uint8Array(this.#clusterBytes);
    must(this.#file.readBytes(bytes, this.#table[index]), "read refcount block");
    const block = { bytes, view: new DataView(bytes.buffer), dirtyFrom: 0, dirtyTo: 0 };
    this.#keep(index, block);
    return block;
  }

  #keep(index: number, block: Block): void {
    if (this.#blocks.size >= MAX_BLOCKS) {
      const [oldest, evicted] = this.#blocks.entries().next().value!;
      // Counts on disk may be too high for a while, never too low: they can be written at any time.
      this.#writeBlock(oldest, evicted);
      this.#blocks.delete(oldest);
    }
    this.#blocks.set(index, block);
  }

  #writeBlock(index: number, block: Block): void {
    if (block.dirtyFrom >= block.dirtyTo) return;
    const part = block.bytes.subarray(block.dirtyFrom, block.dirtyTo);
    must(this.#file.writeBytes(part, this.#table[index] + block.dirtyFrom), "write refcounts");
    block.dirtyFrom = block.dirtyTo = 0;
  }

  #read(block: Block, entry: number): number {
    switch (this.#order) {
      case 4:
        return block.view.getUint16(2 * entry);
      case 3:
        return block.bytes[entry];
      case 5:
        return block.view.getUint32(4 * entry);
      case 6:
        return block.view.getUint32(8 * entry) * WORD + block.view.getUint32(8 * entry + 4);
      default: {
        const bits = 2 ** this.#order;
        const at = entry * bits;
        return block.bytes[at >> 3] >> (at & 7) & (2 ** bits - 1);
      }
    }
  }

  #write(block: Block, entry: number, count: number): void {
    const bits = 2 ** this.#order;
    if (bits < 53 && count >= 2 ** bits) throw new HostFailure(Errno.EFBIG, "a reference count is full");
    const at = Math.floor(entry * bits / 8);
    switch (this.#order) {
      case 4:
        block.view.setUint16(at, count);
        break;
      case 3:
        block.bytes[at] = count;
        break;
      case 5:
        block.view.setUint32(at, count);
        break;
      case 6:
        block.view.setUint32(at, Math.floor(count / WORD));
        block.view.setUint32(at + 4, count >>> 0);
        break;
      default: {
        const shift = entry * bits & 7;
        const mask = (2 ** bits - 1) << shift;
        block.bytes[at] = block.bytes[at] & ~mask | count << shift;
      }
    }
    const end = at + Math.max(1, bits / 8);
    if (block.dirtyFrom >= block.dirtyTo) {
      block.dirtyFrom = at;
      block.dirtyTo = end;
    } else {
      block.dirtyFrom = Math.min(block.dirtyFrom, at);
      block.dirtyTo = Math.max(block.dirtyTo, end);
    }
  }
}

/** A 64-bit number as the format stores it, with `flags` in its upper half. */
export function bigEndian(value: number, flags = 0): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint32(0, (Math.floor(value / WORD) | flags) >>> 0);
  view.setUint32(4, value >>> 0);
  return new Uint8Array(view.buffer);
}
