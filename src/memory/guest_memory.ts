/**
 * Guest physical memory as one isolate sees it: regions wrapped once, every access checked.
 *
 * L2, any isolate; pure (tests give plain ArrayBuffers). Nothing here throws on a guest's address: scalar reads outside
 * RAM give 0, writes are dropped, and ranges are asked for with `host` or `bytes` first.
 */

/** One RAM region. `hostAddress` is where the kernel finds it (0 in tests); `buffer` is this isolate's view. */
export interface MemoryRegion {
  readonly gpa: number;
  readonly sizeBytes: number;
  readonly hostAddress: bigint;
  readonly buffer: ArrayBuffer;
  /** Where its pages live, for memory that is shared with a file. */
  readonly file?: RegionFile;
}

/** The file behind a shared region: giving pages back means punching holes into it. Plain and cloneable. */
export interface RegionFile {
  readonly fd: number;
  /** Offset in the file where the region starts, bytes. */
  readonly offset: number;
}

/** A region with the accessors the hot paths use. */
export class MappedRegion {
  readonly end: number;
  readonly view: DataView<ArrayBuffer>;
  readonly hostBase: number;

  constructor(
    readonly gpa: number,
    readonly sizeBytes: number,
    readonly buffer: ArrayBuffer,
    hostAddress: bigint,
    readonly file?: RegionFile,
  ) {
    this.end = gpa + sizeBytes;
    this.view = new DataView(buffer);
    this.hostBase = Number(hostAddress); // user addresses are below 2^47
  }
}

/** Guest RAM. Regions do not overlap and are kept in ascending order. */
export class GuestMemory {
  #regions: MappedRegion[];
  #last: MappedRegion;

  /** @throws RangeError without any region */
  constructor(regions: readonly MemoryRegion[]) {
    if (regions.length === 0) throw new RangeError("Guest memory needs at least one region");
    this.#regions = regions
      .map(mapped)
      .sort((a, b) => a.gpa - b.gpa);
    this.#last = this.#regions[0];
  }

  /** The regions, ascending. */
  get regions(): readonly MappedRegion[] {
    return this.#regions;
  }

  /** Adds a hot-plugged region. */
  add(region: MemoryRegion): void {
    this.#regions = [...this.#regions, mapped(region)].sort((a, b) => a.gpa - b.gpa);
  }

  /** The region that holds all of `[gpa, gpa + lengthBytes)`, or undefined. Allocates nothing. */
  find(gpa: number, lengthBytes: number): MappedRegion | undefined {
    const last = this.#last;
    if (gpa >= last.gpa && gpa + lengthBytes <= last.end) return last;
    for (let i = 0; i < this.#regions.length; i++) {
      const region = this.#regions[i];
      if (gpa >= region.gpa && gpa + lengthBytes <= region.end) {
        this.#last = region;
        return region;
      }
    }
    return undefined;
  }

  /** Host address of a guest range for system calls, or −1 when any byte of it is not RAM. */
  host(gpa: number, lengthBytes: number): number {
    const region = this.find(gpa, lengthBytes);
    return region === undefined ? -1 : region.hostBase + (gpa - region.gpa);
  }

  /** A view of a guest range for bulk copies, or undefined when any byte of it is not RAM. Allocates a view. */
  bytes(gpa: number, lengthBytes: number): Uint8Array<ArrayBuffer> | undefined {
    const region = this.find(gpa, lengthBytes);
    return region && new Uint8Array(region.buffer, gpa - region.gpa, lengthBytes);
  }

  readU8(gpa: number): number {
    const region = this.find(gpa, 1);
    return region === undefined ? 0 : region.view.getUint8(gpa - region.gpa);
  }

  readU16(gpa: number): number {
    const region = this.find(gpa, 2);
    return region === undefined ? 0 : region.view.getUint16(gpa - region.gpa, true);
  }

  readU32(gpa: number): number {
    const region = this.find(gpa, 4);
    return region === undefined ? 0 : region.view.getUint32(gpa - region.gpa, true);
  }

  /** A 64-bit value as a number: exact below 2^53, and any larger value stays larger than every valid address. */
  readU64(gpa: number): number {
    const region = this.find(gpa, 8);
    if (region === undefined) return 0;
    const at = gpa - region.gpa;
    return region.view.getUint32(at, true) + region.view.getUint32(at + 4, true) * 0x1_0000_0000;
  }

  writeU8(gpa: number, value: number): void {
    const region = this.find(gpa, 1);
    if (region !== undefined) region.view.setUint8(gpa - region.gpa, value);
  }

  writeU16(gpa: number, value: number): void {
    const region = this.find(gpa, 2);
    if (region !== undefined) region.view.setUint16(gpa - region.gpa, value, true);
  }

  writeU32(gpa: number, value: number): void {
    const region = this.find(gpa, 4);
    if (region !== undefined) region.view.setUint32(gpa - region.gpa, value, true);
  }

  writeU64(gpa: number, value: number): void {
    const region = this.find(gpa, 8);
    if (region === undefined) return;
    const at = gpa - region.gpa;
    region.view.setUint32(at, value >>> 0, true);
    region.view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000) >>> 0, true);
  }

  /** Copies `source` into guest memory, across neighbouring regions; false when a part of the range is not RAM. */
  write(gpa: number, source: Uint8Array): boolean {
    let done = 0;
    while (done < source.byteLength) {
      const region = this.find(gpa + done, 1);
      if (region === undefined) return false;
      const lengthBytes = Math.min(source.byteLength - done, region.end - gpa - done);
      new Uint8Array(region.buffer, gpa + done - region.gpa, lengthBytes).set(
        source.subarray(done, done + lengthBytes),
      );
      done += lengthBytes;
    }
    return true;
  }
}

function mapped(region: MemoryRegion): MappedRegion {
  return new MappedRegion(region.gpa, region.sizeBytes, region.buffer, region.hostAddress, region.file);
}
