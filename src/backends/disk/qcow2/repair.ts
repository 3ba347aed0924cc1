/**
 * Makes the reference counts of a qcow2 image anew from what the image refers to.
 *
 * L4, I/O Worker, when an image marked dirty is opened for writing: its writer died, so its counts may be wrong. The new
 * counts are written behind everything else and put in place by one change of the header; a crash in between changes
 * nothing. Clusters nobody refers to become free.
 * Source: QEMU docs/interop/qcow2.txt "Incompatible features" (dirty bit), "Snapshots".
 */
import { Errno } from "@ffi/abi/errno.ts";
import { HostFailure, ImageDamage, must } from "../host_failure.ts";
import type { ImageFile } from "../image_file.ts";
import { compressedExtent } from "./compressed.ts";
import { HeaderField, type Qcow2Header } from "./header.ts";
import { COMPRESSED, COPIED, hostOffsetOf } from "./metadata.ts";
import { bigEndian } from "./refcounts.ts";

const ENTRY_BYTES = 8;
const SNAPSHOT_HEADER_BYTES = 40;
const MAX_COUNT = 0xffff;
/** An image file with more clusters than this is not counted in memory. */
const MAX_CLUSTERS = 2 ** 28;

/** Rebuilds the counts; returns the header that names them. @throws HostFailure, ImageDamage */
export function rebuildRefcounts(file: ImageFile, header: Qcow2Header): Qcow2Header {
  const clusterBytes = 2 ** header.clusterBits;
  const clusters = Math.ceil(file.sizeBytes() / clusterBytes);
  if (clusters > MAX_CLUSTERS) throw new HostFailure(Errno.EFBIG, "the image is too large to be counted");
  const counts = new Counts(clusters, clusterBytes);
  counts.add(0, clusterBytes);
  countTables(file, header, counts, header.l1Offset, header.l1Size);
  for (const snapshot of snapshots(file, header, counts)) {
    countTables(file, header, counts, snapshot.l1Offset, snapshot.l1Size);
  }
  correctFlags(file, header, counts);
  return writeCounts(file, header, counts);
}

/** References found, per cluster. */
class Counts {
  readonly values: Uint16Array;

  constructor(readonly clusters: number, private readonly clusterBytes: number) {
    this.values = new Uint16Array(clusters);
  }

  /** Notes a reference to each cluster of a range. @throws ImageDamage outside the file */
  add(offset: number, lengthBytes: number): void {
    const last = Math.floor((offset + Math.max(lengthBytes, 1) - 1) / this.clusterBytes);
    for (let cluster = Math.floor(offset / this.clusterBytes); cluster <= last; cluster++) {
      if (cluster >= this.clusters) throw new ImageDamage(`a reference points to ${offset}, behind the end`);
      if (this.values[cluster] === MAX_COUNT) throw new ImageDamage("a cluster has too many references");
      this.values[cluster]++;
    }
  }
}

function readTable(file: ImageFile, offset: number, entries: number): DataView<ArrayBuffer> {
  const bytes = new Uint8Array(entries * ENTRY_BYTES);
  if (must(file.readBytes(bytes, offset), "read table") < bytes.byteLength) {
    throw new ImageDamage(`a table at ${offset} is cut off`);
  }
  return new DataView(bytes.buffer);
}

/** Calls `visit` with each entry of a table that is not empty. */
function eachEntry(table: DataView, visit: (high: number, low: number, at: number) => void): void {
  for (let at = 0; at < table.byteLength; at += ENTRY_BYTES) {
    const high = table.getUint32(at);
    const low = table.getUint32(at + 4);
    if ((high | low) !== 0) visit(high, low, at);
  }
}

/** Notes what a first-level table refers to, and itself. */
function countTables(
  file: ImageFile,
  header: Qcow2Header,
  counts: Counts,
  l1Offset: number,
  l1Size: number,
): void {
  if (l1Size === 0) return;
  const clusterBytes = 2 ** header.clusterBits;
  counts.add(l1Offset, l1Size * ENTRY_BYTES);
  eachEntry(readTable(file, l1Offset, l1Size), (l1High, l1Low) => {
    const l2Offset = hostOffsetOf(l1High, l1Low);
    if (l2Offset % clusterBytes !== 0) throw new ImageDamage(`a second-level table at ${l2Offset}`);
    if (l2Offset === 0) return;
    counts.add(l2Offset, clusterBytes);
    eachEntry(readTable(file, l2Offset, clusterBytes / ENTRY_BYTES), (high, low) => {
      if ((high & COMPRESSED) !== 0) {
        const extent = compressedExtent(high, low, header.clusterBits);
        counts.add(extent.offset, extent.lengthBytes);
        return;
      }
      const offset = hostOffsetOf(high, low);
      if (offset % clusterBytes !== 0) throw new ImageDamage(`a data cluster at ${offset}`);
      if (offset !== 0) counts.add(offset, clusterBytes);
    });
  });
}

/** The first-level tables of internal snapshots; notes the snapshot table itself. */
function snapshots(
  file: ImageFile,
  header: Qcow2Header,
  counts: Counts,
): { readonly l1Offset: number; readonly l1Size: number }[] {
  const found: { l1Offset: number; l1Size: number }[] = [];
  let at = header.snapshotsOffset;
  for (let i = 0; i < header.snapshotCount; i++) {
    const bytes = new Uint8Array(SNAPSHOT_HEADER_BYTES);
    if (must(file.readBytes(bytes, at), "read snapshot") < bytes.byteLength) {
      throw new ImageDamage("the snapshot table is cut off");
    }
    const view = new DataView(bytes.buffer);
    const l1Offset = hostOffsetOf(view.getUint32(0), view.getUint32(4));
    const l1Size = view.getUint32(8);
    if (l1Size * ENTRY_BYTES > counts.clusters * 2 ** header.clusterBits) {
      throw new ImageDamage("a snapshot's first-level table is larger than the image");
    }
    found.push({ l1Offset, l1Size });
    const lengthBytes = SNAPSHOT_HEADER_BYTES + view.getUint32(36) + view.getUint16(12) + view.getUint16(14);
    at += Math.ceil(lengthBytes / 8) * 8;
  }
  if (header.snapshotCount > 0) counts.add(header.snapshotsOffset, at - header.snapshotsOffset);
  return found;
}

/** "This is the only reference" must not stand where there are more. */
function correctFlags(file: ImageFile, header: Qcow2Header, counts: Counts): void {
  const clusterBytes = 2 ** header.clusterBits;
  const clear = (high: number, low: number, where: number) => {
    const cluster = hostOffsetOf(high, low) / clusterBytes;
    if ((high & COPIED) === 0 || cluster === 0 || counts.values[cluster] === 1) return;
    const word = new DataView(new ArrayBuffer(4));
    word.setUint32(0, high & ~COPIED);
    must(file.writeBytes(new Uint8Array(word.buffer), where), "write table entry");
  };
  eachEntry(readTable(file, header.l1Offset, header.l1Size), (l1High, l1Low, l1At) => {
    clear(l1High, l1Low, header.l1Offset + l1At);
    const l2Offset = hostOffsetOf(l1High, l1Low);
    if (l2Offset === 0) return;
    eachEntry(readTable(file, l2Offset, clusterBytes / ENTRY_BYTES), (high, low, at) => {
      if ((high & COMPRESSED) === 0) clear(high, low, l2Offset + at);
    });
  });
}

/** Writes blocks and table behind the image, then the header. */
function writeCounts(file: ImageFile, header: Qcow2Header, counts: Counts): Qcow2Header {
  const clusterBytes = 2 ** header.clusterBits;
  const bits = 2 ** header.refcountOrder;
  const perBlock = clusterBytes * 8 / bits;
  const perTable = clusterBytes / ENTRY_BYTES;
  let blocks = 0;
  let tableClusters = 0;
  // Blocks and table are described as well, so their number depends on itself.
  for (;;) {
    const total = counts.clusters + blocks + tableClusters;
    const neededBlocks = Math.ceil(total / perBlock);
    const neededTable = Math.ceil(neededBlocks / perTable);
    if (neededBlocks === blocks && neededTable === tableClusters) break;
    blocks = Math.max(blocks, neededBlocks);
    tableClusters = Math.max(tableClusters, neededTable);
  }
  const total = counts.clusters + blocks + tableClusters;
  const countOf = (cluster: number) =>
    cluster < counts.clusters ? counts.values[cluster] : cluster < total ? 1 : 0;
  const table = new Uint8Array(tableClusters * clusterBytes);
  for (let index = 0; index < blocks; index++) {
    const offset = (counts.clusters + index) * clusterBytes;
    const block = new DataView(new ArrayBuffer(clusterBytes));
    for (let entry = 0; entry < perBlock; entry++) {
      const count = countOf(index * perBlock + entry);
      if (count !== 0) putCount(block, entry, count, bits);
    }
    must(file.writeBytes(new Uint8Array(block.buffer), offset), "write refcount block");
    table.set(bigEndian(offset), ENTRY_BYTES * index);
  }
  const tableOffset = (counts.clusters + blocks) * clusterBytes;
  must(file.writeBytes(table, tableOffset), "write refcount table");
  must(file.sync(), "sync refcounts");
  const pointer = new Uint8Array(12);
  pointer.set(bigEndian(tableOffset));
  new DataView(pointer.buffer).setUint32(8, tableClusters);
  must(file.writeBytes(pointer, HeaderField.refcount_table_offset), "write header");
  must(file.sync(), "sync header");
  return { ...header, refcountTableOffset: tableOffset, refcountTableClusters: tableClusters };
}

function putCount(block: DataView, entry: number, count: number, bits: number): void {
  if (bits < 16 && count >= 2 ** bits) throw new ImageDamage("a cluster has too many references");
  if (bits === 16) block.setUint16(2 * entry, count);
  else if (bits === 32) block.setUint32(4 * entry, count);
  else if (bits === 64) block.setUint32(8 * entry + 4, count);
  else {
    const at = entry * bits;
    block.setUint8(at >> 3, block.getUint8(at >> 3) | count << (at & 7));
  }
}
