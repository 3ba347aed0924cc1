/**
 * One request as the driver described it: device-readable buffers first, then device-writable ones.
 *
 * L3, runs in an I/O Worker. Made once and filled again for every request; it allocates only when a chain is longer than
 * any before. Every buffer was checked to lie in RAM; what the guest does to the bytes meanwhile is its own business.
 * Source: virtio 1.2 §2.7.5, §2.7.4.2 (readable before writable).
 */
import type { MappedRegion } from "@vmm/memory/guest_memory.ts";

const INITIAL_SEGMENTS = 16;
/** Entries one vectored system call takes (IOV_MAX). */
const MAX_VECTORS = 1024;
const VECTOR_WORDS = 4;
const VECTOR_BYTES = 16;
/** Below this a byte loop beats making a view. */
const SMALL_COPY = 128;

/** A reusable descriptor chain. */
export class DescriptorChain {
  /** Index of the first descriptor: what `SplitQueue.push` wants back. */
  head = 0;
  /** Buffers, and how many of them (the first ones) are readable. Empty descriptors are left out. */
  count = 0;
  readableCount = 0;
  readableBytes = 0;
  writableBytes = 0;
  /** Bytes covered by the entries that `gather` left in `iovec`. */
  gatheredBytes = 0;
  /** `struct iovec` entries for vectored calls, filled by `gather`; its address is stable between two gathers. */
  iovec = new Uint8Array(INITIAL_SEGMENTS * VECTOR_BYTES);

  #vectors = new Uint32Array(this.iovec.buffer);
  #regions: MappedRegion[] = [];
  #offsets = new Float64Array(INITIAL_SEGMENTS);
  #lengths = new Uint32Array(INITIAL_SEGMENTS);

  /** Stores buffer `index`; the walker calls it for each in turn, then `set`. It has checked the bounds. */
  put(index: number, region: MappedRegion, offset: number, lengthBytes: number): void {
    if (index >= this.#offsets.length) this.#grow();
    this.#regions[index] = region;
    this.#offsets[index] = offset;
    this.#lengths[index] = lengthBytes;
  }

  /** Completes the chain: how many buffers there are, and what they hold. */
  set(
    head: number,
    count: number,
    readableCount: number,
    readableBytes: number,
    writableBytes: number,
  ): void {
    this.head = head;
    this.count = count;
    this.readableCount = readableCount;
    this.readableBytes = readableBytes;
    this.writableBytes = writableBytes;
  }

  /** Empties the chain: it is put together by `append` from parts of others, so that one call moves the data of many. */
  clear(): void {
    this.set(0, 0, 0, 0, 0);
  }

  /**
   * Adds `lengthBytes` from `offset` of the readable or writable part of `source`, as far as they exist. All that is added
   * to one chain is of one kind.
   */
  append(source: DescriptorChain, writable: boolean, offset: number, lengthBytes: number): void {
    const end = writable ? source.count : source.readableCount;
    let skip = offset;
    let left = lengthBytes;
    for (let i = writable ? source.readableCount : 0; i < end && left > 0; i++) {
      const length = source.#lengths[i];
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const take = length - skip < left ? length - skip : left;
      this.put(this.count++, source.#regions[i], source.#offsets[i] + skip, take);
      left -= take;
      skip = 0;
    }
    if (writable) this.writableBytes += lengthBytes - left;
    else {
      this.readableCount = this.count;
      this.readableBytes += lengthBytes - left;
    }
  }

  /** Guest address of buffer `index`. */
  address(index: number): number {
    return this.#regions[index].gpa + this.#offsets[index];
  }

  /** Length of buffer `index` in bytes. */
  lengthBytes(index: number): number {
    return this.#lengths[index];
  }

  /**
   * Fills `iovec` with host addresses of `lengthBytes` bytes from `offset` of the readable or writable part, as far as
   * they exist. Returns the number of entries, at most 1,024; `gatheredBytes` says how much they cover.
   */
  gather(writable: boolean, offset: number, lengthBytes: number): number {
    const vectors = this.#vectors;
    const end = writable ? this.count : this.readableCount;
    let skip = offset;
    let left = lengthBytes;
    let entries = 0;
    for (let i = writable ? this.readableCount : 0; i < end && left > 0 && entries < MAX_VECTORS; i++) {
      const length = this.#lengths[i];
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const take = length - skip < left ? length - skip : left;
      const host = this.#regions[i].hostBase + (this.#offsets[i] + skip);
      const at = entries * VECTOR_WORDS;
      vectors[at] = host >>> 0;
      vectors[at + 1] = (host / 0x1_0000_0000) >>> 0;
      vectors[at + 2] = take;
      vectors[at + 3] = 0;
      entries++;
      left -= take;
      skip = 0;
    }
    this.gatheredBytes = lengthBytes - left;
    return entries;
  }

  /** Copies the first `entries` that `gather` left into a longer list, from word `at` on. */
  copyVectors(entries: number, target: Uint32Array, at: number): void {
    const vectors = this.#vectors;
    for (let i = 0; i < entries * VECTOR_WORDS; i++) target[at + i] = vectors[i];
  }

  /** A byte of the readable part; 0 past its end. */
  readU8(offset: number): number {
    let skip = offset;
    for (let i = 0; i < this.readableCount; i++) {
      const length = this.#lengths[i];
      if (skip < length) return this.#regions[i].view.getUint8(this.#offsets[i] + skip);
      skip -= length;
    }
    return 0;
  }

  readU16(offset: number): number {
    return this.readU8(offset) | (this.readU8(offset + 1) << 8);
  }

  readU32(offset: number): number {
    if (this.readableCount > 0 && offset + 4 <= this.#lengths[0]) {
      return this.#regions[0].view.getUint32(this.#offsets[0] + offset, true);
    }
    return (this.readU16(offset) | (this.readU16(offset + 2) << 16)) >>> 0;
  }

  /** A 64-bit value as a number: exact below 2^53, larger ones stay larger. */
  readU64(offset: number): number {
    return this.readU32(offset) + this.readU32(offset + 4) * 0x1_0000_0000;
  }

  /** A byte of the writable part; dropped past its end. */
  writeU8(offset: number, value: number): void {
    let skip = offset;
    for (let i = this.readableCount; i < this.count; i++) {
      const length = this.#lengths[i];
      if (skip < length) {
        this.#regions[i].view.setUint8(this.#offsets[i] + skip, value);
        return;
      }
      skip -= length;
    }
  }

  writeU16(offset: number, value: number): void {
    this.writeU8(offset, value & 0xff);
    this.writeU8(offset + 1, value >>> 8);
  }

  writeU32(offset: number, value: number): void {
    this.writeU16(offset, value & 0xffff);
    this.writeU16(offset + 2, value >>> 16);
  }

  writeU64(offset: number, value: number): void {
    this.writeU32(offset, value >>> 0);
    this.writeU32(offset + 4, Math.floor(value / 0x1_0000_0000) >>> 0);
  }

  /** Copies from `offset` of the readable part into `target`; returns the bytes copied. */
  readBytes(offset: number, target: Uint8Array): number {
    return this.#copy(0, this.readableCount, offset, target, false);
  }

  /** Copies `source` to `offset` of the writable part; returns the bytes copied. */
  writeBytes(offset: number, source: Uint8Array): number {
    return this.#copy(this.readableCount, this.count, offset, source, true);
  }

  #copy(first: number, end: number, offset: number, bytes: Uint8Array, toGuest: boolean): number {
    let skip = offset;
    let done = 0;
    for (let i = first; i < end && done < bytes.byteLength; i++) {
      const length = this.#lengths[i];
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const take = Math.min(length - skip, bytes.byteLength - done);
      copyPiece(this.#regions[i], this.#offsets[i] + skip, take, bytes, done, toGuest);
      done += take;
      skip = 0;
    }
    return done;
  }

  #grow(): void {
    const capacity = this.#offsets.length * 2;
    const offsets = new Float64Array(capacity);
    offsets.set(this.#offsets);
    const lengths = new Uint32Array(capacity);
    lengths.set(this.#lengths);
    this.#offsets = offsets;
    this.#lengths = lengths;
    this.iovec = new Uint8Array(Math.min(capacity, MAX_VECTORS) * VECTOR_BYTES);
    this.#vectors = new Uint32Array(this.iovec.buffer);
  }
}

function copyPiece(
  region: MappedRegion,
  at: number,
  length: number,
  bytes: Uint8Array,
  from: number,
  toGuest: boolean,
): void {
  if (length <= SMALL_COPY) {
    const { view } = region;
    if (toGuest) { for (let i = 0; i < length; i++) view.setUint8(at + i, bytes[from + i]); }
    else for (let i = 0; i < length; i++) bytes[from + i] = view.getUint8(at + i);
    return;
  }
  const guest = new Uint8Array(region.buffer, at, length);
  if (toGuest) guest.set(bytes.subarray(from, from + length));
  else bytes.set(guest, from);
}
