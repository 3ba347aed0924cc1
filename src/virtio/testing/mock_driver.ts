/**
 * Plays the guest's driver for tests: builds rings and buffers in a plain ArrayBuffer.
 *
 * L3, tests only.
 */
import { GuestMemory } from "@vmm/memory/guest_memory.ts";
import type { GuestFault } from "../guest_fault.ts";
import { SplitQueue, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from "../queue/split.ts";

/** A buffer of a request: bytes to send, or room to receive. */
export type MockBuffer = { readonly send: Uint8Array } | { readonly receive: number };

export interface MockOptions {
  readonly size?: number;
  readonly eventIndex?: boolean;
  readonly indirect?: boolean;
  readonly ramBytes?: number;
  /** Guest address of RAM. */
  readonly ramBase?: number;
}

/** A completed request. */
export interface MockCompletion {
  readonly head: number;
  readonly writtenBytes: number;
}

const ALIGNMENT = 16;

/** One queue with its own RAM, and the driver's side of it. */
export class MockDriver {
  readonly memory: GuestMemory;
  readonly view: DataView;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly size: number;
  readonly descriptors: number;
  readonly driver: number;
  readonly device: number;
  readonly eventIndex: boolean;
  readonly indirect: boolean;
  readonly #base: number;
  readonly #firstBuffer: number;
  #buffers: number;
  #freeDescriptor = 0;
  #available = 0;
  #used = 0;

  constructor(options: MockOptions = {}) {
    this.size = options.size ?? 16;
    this.eventIndex = options.eventIndex ?? false;
    this.indirect = options.indirect ?? false;
    this.#base = options.ramBase ?? 0x10_0000;
    const buffer = new ArrayBuffer(options.ramBytes ?? 0x10_0000);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.memory = new GuestMemory([
      { gpa: this.#base, sizeBytes: buffer.byteLength, hostAddress: BigInt(this.#base), buffer },
    ]);
    this.descriptors = this.#base;
    this.driver = this.descriptors + 16 * this.size;
    this.device = Math.ceil((this.driver + 6 + 2 * this.size) / 4) * 4;
    this.#firstBuffer = align(this.device + 6 + 8 * this.size);
    this.#buffers = this.#firstBuffer;
  }

  /** The device's side of the queue. @throws Error when it refuses the rings */
  queue(nextAvail = 0, nextUsed = 0): SplitQueue {
    const queue = this.tryQueue(nextAvail, nextUsed);
    if (!(queue instanceof SplitQueue)) throw new Error(queue.fault);
    return queue;
  }

  tryQueue(nextAvail = 0, nextUsed = 0): SplitQueue | GuestFault {
    return SplitQueue.create(this.memory, {
      size: this.size,
      descriptors: this.descriptors,
      driver: this.driver,
      device: this.device,
      eventIndex: this.eventIndex,
      indirect: this.indirect,
      nextAvail,
      nextUsed,
    });
  }

  /** Room in RAM that nothing else uses; taken from the start again once RAM is used up. */
  allocate(lengthBytes: number): number {
    if (this.#buffers + lengthBytes > this.#base + this.bytes.byteLength) this.#buffers = this.#firstBuffer;
    const at = this.#buffers;
    this.#buffers = align(at + lengthBytes);
    return at;
  }

  /** A view of guest bytes. */
  at(gpa: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(gpa - this.#base, gpa - this.#base + lengthBytes);
  }

  /** Writes descriptor `index` of the table at `table`. */
  describe(
    index: number,
    address: number,
    lengthBytes: number,
    flags: number,
    next = 0,
    table = this.descriptors,
  ): void {
    const at = table - this.#base + 16 * index;
    this.view.setBigUint64(at, BigInt(address), true);
    this.view.setUint32(at + 8, lengthBytes, true);
    this.view.setUint16(at + 12, flags, true);
    this.view.setUint16(at + 14, next, true);
  }

  /** Makes a chain of `buffers` available; returns its head and the guest address of each buffer. */
  submit(buffers: readonly MockBuffer[]): { head: number; addresses: number[] } {
    const addresses = buffers.map((buffer) => {
      const at = this.allocate("send" in buffer ? buffer.send.byteLength : buffer.receive);
      if ("send" in buffer) this.at(at, buffer.send.byteLength).set(buffer.send);
      return at;
    });
    const head = this.#freeDescriptor;
    const table = this.indirect ? this.allocate(16 * buffers.length) : this.descriptors;
    buffers.forEach((buffer, i) => {
      const index = this.indirect ? i : (head + i) % this.size;
      const last = i === buffers.length - 1;
      const flags = ("send" in buffer ? 0 : VIRTQ_DESC_F_WRITE) | (last ? 0 : VIRTQ_DESC_F_NEXT);
      const length = "send" in buffer ? buffer.send.byteLength : buffer.receive;
      this.describe(
        index,
        addresses[i],
        length,
        flags,
        this.indirect ? i + 1 : (head + i + 1) % this.size,
        table,
      );
    });
    if (this.indirect) this.describe(head, table, 16 * buffers.length, VIRTQ_DESC_F_INDIRECT);
    this.#freeDescriptor = (head + (this.indirect ? 1 : buffers.length)) % this.size;
    this.offer(head);
    return { head, addresses };
  }

  /** Puts `head` into the available ring. */
  offer(head: number): void {
    const ring = this.driver - this.#base;
    this.view.setUint16(ring + 4 + 2 * (this.#available % this.size), head, true);
    this.#available = (this.#available + 1) & 0xffff;
    this.view.setUint16(ring + 2, this.#available, true);
  }

  /** Sets the available index to anything. */
  setAvailableIndex(index: number): void {
    this.#available = index & 0xffff;
    this.view.setUint16(this.driver - this.#base + 2, this.#available, true);
  }

  /** Asks for no interrupts (flag), or sets the used event index. */
  suppressInterrupts(on: boolean): void {
    this.view.setUint16(this.driver - this.#base, on ? 1 : 0, true);
  }

  setUsedEvent(index: number): void {
    this.view.setUint16(this.driver - this.#base + 4 + 2 * this.size, index, true);
  }

  /** True if the device wants to be notified of a request made available now. */
  wantsNotification(): boolean {
    const used = this.device - this.#base;
    if (!this.eventIndex) return (this.view.getUint16(used, true) & 1) === 0;
    return this.view.getUint16(used + 4 + 8 * this.size, true) === this.#available;
  }

  /** Takes the next completion, if any. */
  complete(): MockCompletion | undefined {
    const used = this.device - this.#base;
    if (this.view.getUint16(used + 2, true) === this.#used) return undefined;
    const at = used + 4 + 8 * (this.#used % this.size);
    this.#used = (this.#used + 1) & 0xffff;
    return { head: this.view.getUint32(at, true), writtenBytes: this.view.getUint32(at + 4, true) };
  }
}

function align(value: number): number {
  return Math.ceil(value / ALIGNMENT) * ALIGNMENT;
}
