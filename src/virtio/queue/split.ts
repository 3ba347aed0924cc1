/**
 * The device side of a split virtqueue.
 *
 * L3, runs in an I/O Worker; nothing is allocated per request. Rings are windows on guest memory: the two indices, the
 * event words and flags go through `Atomics` (sequentially consistent, so a store followed by a load is ordered as
 * virtio 1.2 §2.7.13.4 and §2.7.10 need), the rest through plain views. Everything in them is the guest's word: what makes
 * no sense stops the queue with a `GuestFault`.
 * Source: virtio 1.2 §2.7.
 */
import { GuestMemory, MappedRegion } from "@vmm/memory/guest_memory.ts";
import type { GuestFault, RefusedAccess } from "../guest_fault.ts";
import { VIRTIO_IOMMU_MAP_F_READ, VIRTIO_IOMMU_MAP_F_WRITE } from "../iommu/spec.ts";
import type { RingMirror } from "../iommu/ring_mirror.ts";
import type { EndpointTranslation } from "../iommu/translation.ts";
import type { DescriptorChain } from "./chain.ts";

export const VIRTQ_DESC_F_NEXT = 1;
export const VIRTQ_DESC_F_WRITE = 2;
export const VIRTQ_DESC_F_INDIRECT = 4;
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
export const VIRTQ_USED_F_NO_NOTIFY = 1;

/** Bytes of a descriptor; a used element has half. */
export const DESCRIPTOR_SIZE = 16;
const USED_ELEMENT_SIZE = 8;
const MAX_QUEUE_SIZE = 32768;
/** Alignment of the rings (virtio 1.2 §2.7). */
const ALIGNMENT = { descriptors: 16, driver: 2, device: 4 } as const;

/** Longest chain an indirect table may hold on a short queue. */
const MIN_CHAIN_LIMIT = 1024;
const MAX_TOTAL_BYTES = 0xffff_ffff;
/** Pieces that mappings of an IOMMU may cut the buffers of one chain into. */
const MAX_PIECES = 8192;
const WORD_BASE = 2 ** 32;

/** 16-bit words of the two rings. */
const FLAGS = 0;
const INDEX = 1;
const RING = 2;

/** Whether a queue can have `size` entries: a power of two that is not too large (virtio 1.2 §2.7). */
export function isQueueSize(size: number): boolean {
  return size >= 1 && size <= MAX_QUEUE_SIZE && (size & (size - 1)) === 0;
}

/** Where a queue lies and what was negotiated. */
export interface SplitQueueLayout {
  readonly size: number;
  /** Guest physical addresses. */
  readonly descriptors: number;
  readonly driver: number;
  readonly device: number;
  readonly eventIndex: boolean;
  readonly indirect: boolean;
  /** Next available entry to take, next used entry to fill; 0 for a fresh queue. */
  readonly nextAvail: number;
  readonly nextUsed: number;
}

/** One queue of a running device. */
export class SplitQueue {
  /** What the driver broke; the queue gives no further requests. */
  fault: GuestFault | undefined;

  readonly #avail: Uint16Array;
  readonly #used: Uint16Array;
  readonly #elements: Uint32Array;
  readonly #table: DataView;
  readonly #tableBase: number;
  readonly #mask: number;
  readonly #limit: number;
  /** Where the last buffer was found. */
  #region: MappedRegion;
  #next: number;
  /** The driver's index as last seen. */
  #seen: number;
  #filled: number;
  #published: number;

  private constructor(
    private readonly memory: GuestMemory,
    table: MappedRegion,
    driver: MappedRegion,
    device: MappedRegion,
    readonly layout: SplitQueueLayout,
    /** False: the driver did not enable this queue; it never has requests. */
    readonly enabled: boolean,
    /** What addresses in descriptors mean; absent: guest physical ones. */
    private readonly translation?: EndpointTranslation,
    /** Set when the rings are copies. */
    private readonly mirror?: RingMirror,
  ) {
    const { size } = layout;
    const availAt = layout.driver - driver.gpa;
    const usedAt = layout.device - device.gpa;
    this.#avail = new Uint16Array(driver.buffer, availAt, RING + size + (layout.eventIndex ? 1 : 0));
    this.#used = new Uint16Array(device.buffer, usedAt, usedBytes(layout) / 2);
    this.#elements = new Uint32Array(device.buffer, usedAt, 1 + 2 * size);
    this.#table = table.view;
    this.#tableBase = layout.descriptors - table.gpa;
    // No buffer lies in a region of nothing: each is looked up with its translation.
    this.#region = translation === undefined ? table : new MappedRegion(0, 0, table.buffer, 0n);
    this.#mask = size - 1;
    this.#limit = Math.max(size, MIN_CHAIN_LIMIT);
    this.#next = this.#seen = layout.nextAvail & 0xffff;
    this.#filled = this.#published = layout.nextUsed & 0xffff;
  }

  /**
   * The queue, or what is wrong with the driver's size or addresses.
   *
   * @param translation of the addresses in descriptors; those of `layout` are physical
   * @param mirror holds the rings, where they do not lie in one piece; then the layout is its
   */
  static create(
    memory: GuestMemory,
    layout: SplitQueueLayout,
    translation?: EndpointTranslation,
    mirror?: RingMirror,
  ): SplitQueue | GuestFault {
    const { size, descriptors, driver, device } = layout;
    if (!isQueueSize(size)) return { fault: `queue size ${size}` };
    const ringMemory = mirror?.memory ?? memory;
    const isAligned = descriptors % ALIGNMENT.descriptors === 0 && driver % ALIGNMENT.driver === 0 &&
      device % ALIGNMENT.device === 0;
    if (!isAligned) return { fault: "a ring is not aligned" };
    const table = ringMemory.find(descriptors, size * DESCRIPTOR_SIZE);
    const avail = ringMemory.find(driver, availBytes(layout));
    const used = ringMemory.find(device, usedBytes(layout));
    if (table === undefined || avail === undefined || used === undefined) {
      return { fault: "a ring lies outside RAM" };
    }
    return new SplitQueue(memory, table, avail, used, layout, true, translation, mirror);
  }

  /** Stands in for a queue the driver did not enable, or that somebody else serves, from `nextAvail` on. */
  static disabled(nextAvail = 0): SplitQueue {
    const memory = new GuestMemory([{ gpa: 0, sizeBytes: 64, hostAddress: 0n, buffer: new ArrayBuffer(64) }]);
    const layout = {
      size: 1,
      descriptors: 0,
      driver: 16,
      device: 32,
      eventIndex: false,
      indirect: false,
      nextAvail,
      nextUsed: 0,
    };
    const region = memory.regions[0];
    return new SplitQueue(memory, region, region, region, layout, false);
  }

  get size(): number {
    return this.layout.size;
  }

  /** Next available entry to take: saved with the device. */
  get nextAvail(): number {
    return this.#next;
  }

  /** Next used entry to fill: saved with the device. */
  get nextUsed(): number {
    return this.#filled;
  }

  /** Where the used ring is, whoever fills it. */
  usedIndex(): number {
    return Atomics.load(this.#used, INDEX);
  }

  /** Somebody else served this queue and has stopped. `nextAvail`: what it would have taken next; unless known, all it took is used. */
  takeBack(nextAvail = this.usedIndex()): void {
    this.#next = this.#seen = nextAvail & 0xffff;
    this.#filled = this.#published = this.usedIndex();
  }

  /** Fills `chain` with the next request. False: there is none, or the driver broke the queue (`fault`). */
  pop(chain: DescriptorChain): boolean {
    if (this.#next === this.#seen && !this.#look()) return false;
    const head = this.#avail[RING + (this.#next & this.#mask)];
    if (!this.#walk(head, chain)) return false;
    this.#next = (this.#next + 1) & 0xffff;
    return true;
  }

  /** True if a request is waiting. */
  hasRequests(): boolean {
    return this.#next !== this.#seen || this.#look();
  }

  /** Gives the last `count` popped requests back: they will be popped again. Nothing popped later may be outstanding. */
  rewind(count = 1): void {
    this.#next = (this.#next - count) & 0xffff;
  }

  /** Returns a request to the driver; it sees it after `publish`. `writtenBytes` counts from the writable part's start. */
  push(head: number, writtenBytes: number): void {
    const at = 1 + 2 * (this.#filled & this.#mask);
    this.#elements[at] = head;
    this.#elements[at + 1] = writtenBytes;
    this.#filled = (this.#filled + 1) & 0xffff;
  }

  /** Shows all pushed requests to the driver. True: it wants an interrupt. */
  publish(): boolean {
    const before = this.#published;
    const now = this.#filled;
    if (before === now) return false;
    Atomics.store(this.#used, INDEX, now);
    this.mirror?.flush();
    this.#published = now;
    if (!this.layout.eventIndex) {
      return (Atomics.load(this.#avail, FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    }
    const usedEvent = Atomics.load(this.#avail, RING + this.layout.size);
    return ((now - usedEvent - 1) & 0xffff) < ((now - before) & 0xffff);
  }

  /** Asks for notifications again. True: requests arrived meanwhile, take them first. */
  enableNotifications(): boolean {
    if (!this.enabled || this.fault !== undefined) return false;
    if (this.layout.eventIndex) Atomics.store(this.#used, this.#used.length - 1, this.#next);
    else Atomics.store(this.#used, FLAGS, 0);
    this.mirror?.flush();
    return this.#next !== this.#seen || this.#look();
  }

  /** Tells the driver that the queue is being looked at. */
  disableNotifications(): void {
    // with event indices an event word left behind does the same
    if (!this.enabled || this.layout.eventIndex) return;
    Atomics.store(this.#used, FLAGS, VIRTQ_USED_F_NO_NOTIFY);
    this.mirror?.flush();
  }

  /** Reads the driver's index; true if it has moved on. */
  #look(): boolean {
    if (this.fault !== undefined) return false;
    this.mirror?.fetch();
    const index = Atomics.load(this.#avail, INDEX);
    if (index === this.#next) return false;
    if (((index - this.#next) & 0xffff) > this.layout.size) {
      this.#seen = this.#next;
      return this.#broken(`available index ${index} is more than a queue ahead of ${this.#next}`);
    }
    this.#seen = index;
    return true;
  }

  #broken(fault: string, refused?: RefusedAccess): false {
    this.fault = { fault, refused };
    this.#seen = this.#next;
    return false;
  }

  /**
   * Collects the buffers of the chain at `head`. Each descriptor word is read once: the guest may change it meanwhile.
   * Written out in one loop over local variables: this is the hottest code of the data path.
   */
  #walk(head: number, chain: DescriptorChain): boolean {
    let table = this.#table;
    let base = this.#tableBase | 0;
    let limit = this.#mask + 1;
    let budget = limit;
    let direct = true;
    let index = head;
    let region = this.#region;
    let count = 0;
    let readable = 0;
    let readableBytes = 0;
    let totalBytes = 0;
    for (;;) {
      if (index >= limit) return this.#broken(`descriptor ${index} of a table of ${limit}`);
      if (--budget < 0) return this.#broken("a chain is too long or loops");
      const at = base + index * DESCRIPTOR_SIZE;
      const high = table.getUint32(at + 4, true);
      const low = table.getUint32(at, true);
      let address = low;
      if (high !== 0) address += high * 0x1_0000_0000; // a slow addition: most buffers lie below 4 GiB
      const length = table.getUint32(at + 8, true);
      const tail = table.getUint32(at + 12, true);
      if ((tail & VIRTQ_DESC_F_INDIRECT) !== 0) {
        const found = direct ? this.#indirectTable(address, length, tail) : undefined;
        if (found === undefined) {
          return this.#broken(`an indirect table of ${length} bytes is not allowed here`);
        }
        table = found.view;
        base = (address - found.gpa) | 0;
        limit = length / DESCRIPTOR_SIZE;
        budget = Math.min(limit, this.#limit);
        direct = false;
        index = 0;
        continue;
      }
      if (length !== 0) { // empty buffers are left out
        let pieces = 1;
        if (address >= region.gpa && address + length <= region.end) {
          chain.put(count, region, address - region.gpa, length);
        } else {
          pieces = this.translation === undefined
            ? this.#putElsewhere(chain, count, address, length)
            : this.#putTranslated(
              this.translation,
              chain,
              count,
              high,
              low,
              length,
              (tail & VIRTQ_DESC_F_WRITE) === 0 ? VIRTIO_IOMMU_MAP_F_READ : VIRTIO_IOMMU_MAP_F_WRITE,
            );
          if (pieces === 0) {
            const where = `a buffer of ${length} bytes at 0x${address.toString(16)}`;
            return this.translation === undefined
              ? this.#broken(`${where} lies outside RAM`)
              : this.#broken(`${where} is not mapped for the device`, this.translation.refused);
          }
          region = this.#region;
        }
        if ((tail & VIRTQ_DESC_F_WRITE) === 0) {
          if (readable !== count) return this.#broken("a readable buffer follows a writable one");
          readable += pieces;
          readableBytes += length;
        }
        count += pieces;
        totalBytes += length;
      }
      if ((tail & VIRTQ_DESC_F_NEXT) === 0) break;
      index = tail >>> 16;
    }
    if (totalBytes > MAX_TOTAL_BYTES) return this.#broken("a chain describes more than 4 GiB");
    chain.set(head, count, readable, readableBytes, totalBytes - readableBytes);
    return true;
  }

  /** Puts a buffer into the chain that is not in the region of the last one; returns the pieces, 0 if some of it is not RAM. */
  #putElsewhere(chain: DescriptorChain, index: number, address: number, length: number): number {
    const region = this.memory.find(address, length);
    if (region === undefined) return this.#putAcross(chain, index, address, length);
    if (this.translation === undefined) this.#region = region;
    chain.put(index, region, address - region.gpa, length);
    return 1;
  }

  /**
   * Puts a buffer at a device address into the chain, a piece for each mapping; returns the pieces, 0 if the device may not
   * use some of it so.
   */
  #putTranslated(
    translation: EndpointTranslation,
    chain: DescriptorChain,
    index: number,
    high: number,
    low: number,
    length: number,
    access: number,
  ): number {
    let pieces = 0;
    for (let done = 0; done < length;) {
      const start = low + done;
      const carry = start >= WORD_BASE ? 1 : 0;
      const physical = translation.find(high + carry, start - carry * WORD_BASE, access);
      if (physical < 0 || index + pieces >= MAX_PIECES) return 0;
      const take = Math.min(length - done, translation.runBytes);
      const put = this.#putElsewhere(chain, index + pieces, physical, take);
      if (put === 0) return 0;
      pieces += put;
      done += take;
    }
    return pieces;
  }

  /** Puts a buffer over the seam of adjacent regions into the chain; returns the pieces, 0 if some of it is not RAM. */
  #putAcross(chain: DescriptorChain, index: number, address: number, length: number): number {
    let pieces = 0;
    for (let at = address, left = length; left > 0;) {
      const region = this.memory.find(at, 1);
      if (region === undefined) return 0;
      const take = Math.min(left, region.end - at);
      chain.put(index + pieces, region, at - region.gpa, take);
      pieces++;
      at += take;
      left -= take;
    }
    return pieces;
  }

  /** The region of an indirect table, if it may be one. */
  #indirectTable(address: number, lengthBytes: number, flags: number): MappedRegion | undefined {
    const wellFormed = (flags & VIRTQ_DESC_F_NEXT) === 0 && lengthBytes !== 0 &&
      lengthBytes % DESCRIPTOR_SIZE === 0;
    // Behind an IOMMU indirect tables are not offered.
    if (!this.layout.indirect || !wellFormed || this.translation !== undefined) return undefined;
    const region = this.#region;
    const near = address >= region.gpa && address + lengthBytes <= region.end;
    return near ? region : this.memory.find(address, lengthBytes);
  }
}

/** Length of an available ring in bytes. The event words exist only if negotiated; a legacy-minded driver may end its ring at the end of RAM. */
export function availBytes(layout: Pick<SplitQueueLayout, "size" | "eventIndex">): number {
  return 2 * (RING + layout.size + (layout.eventIndex ? 1 : 0));
}

/** Length of a used ring in bytes. */
export function usedBytes(layout: Pick<SplitQueueLayout, "size" | "eventIndex">): number {
  return 4 + USED_ELEMENT_SIZE * layout.size + (layout.eventIndex ? 2 : 0);
}
