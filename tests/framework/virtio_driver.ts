/**
 * A virtio driver in a test: a puppet guest touches the registers, rings and buffers lie in its memory file.
 *
 * Test framework. Works the same on both programs, finds everything through PCI as a driver has to, and uses no interrupts.
 * Source: virtio 1.2 §2.7, §3.1.1, §4.1.
 *
 * @module
 */

import { eventually } from "./deadline.ts";
import type { Puppet } from "./puppet.ts";

const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const CONFIG_ENABLE = 0x8000_0000;
const SLOTS = 32;
const PCI_COMMAND = 0x04;
const PCI_COMMAND_MEMORY_AND_MASTER = 6;
const PCI_BAR0 = 0x10;
const PCI_CAPABILITIES = 0x34;
const PCI_CAP_VENDOR = 0x09;
const VIRTIO_VENDOR = 0x1af4;
const VIRTIO_DEVICE_BASE = 0x1040;

/** Registers of the common configuration structure. */
const COMMON = {
  device_feature_select: 0,
  device_feature: 4,
  driver_feature_select: 8,
  driver_feature: 12,
  num_queues: 18,
  device_status: 20,
  queue_select: 22,
  queue_size: 24,
  queue_enable: 28,
  queue_notify_off: 30,
  queue_desc: 32,
  queue_driver: 40,
  queue_device: 48,
} as const;

const CFG_COMMON = 1;
const CFG_NOTIFY = 2;
const CFG_DEVICE = 4;

const ACKNOWLEDGE = 1;
const DRIVER = 2;
const DRIVER_OK = 4;
const FEATURES_OK = 8;
/** The device has failed and wants to be reset. */
export const NEEDS_RESET = 0x40;

const DESC_F_NEXT = 1;
const DESC_F_WRITE = 2;
const DESCRIPTOR_BYTES = 16;

/** Guest memory from here on belongs to drivers; the puppet itself lives below. */
const FIRST_FREE_GPA = 8 << 20;
const WORD_BASE = 2 ** 32;

/** A buffer of a request: bytes to send, or room to receive. */
export type Buffer = { readonly send: Uint8Array } | { readonly receive: number };

/** A finished request. */
export interface Completion {
  readonly head: number;
  readonly writtenBytes: number;
}

/** Guest memory for rings and buffers; one for all drivers of a puppet. */
export class DriverMemory {
  /** What a device behind an IOMMU is told instead of an address: this much more. */
  deviceOffset = 0;
  #next = FIRST_FREE_GPA;

  constructor(readonly puppet: Puppet) {}

  /** Zeroed memory nobody else has, 4 KiB aligned if it is that long. */
  take(lengthBytes: number): number {
    const alignment = lengthBytes >= 4096 ? 4096 : 16;
    const at = Math.ceil(this.#next / alignment) * alignment;
    this.#next = at + lengthBytes;
    if (this.#next > this.puppet.sizeBytes) throw new RangeError("The puppet's memory is used up");
    return at;
  }
}

/** A virtio function on PCI segment 0, found by its virtio device id. */
export class VirtioDriver {
  readonly queues: DriverQueue[] = [];
  features = 0n;
  #common = 0;
  #device = 0;
  #notify = 0;
  #notifyMultiplier = 0;

  private constructor(readonly memory: DriverMemory, readonly slot: number) {}

  /**
   * Finds the device, negotiates all it offers (or `features`), sets up every queue and starts it.
   *
   * @param nth of several devices of a kind, from 0 on
   * @throws Error if there is no such device, or it does not accept the features
   */
  static async start(
    memory: DriverMemory,
    virtioId: number,
    features = ~0n,
    queueSize = 16,
    nth = 0,
  ): Promise<VirtioDriver> {
    const driver = new VirtioDriver(memory, await findSlot(memory.puppet, virtioId, nth));
    await driver.#locate();
    await driver.restart(features, queueSize);
    return driver;
  }

  /** Resets the device and starts it again with fresh queues. */
  async restart(features = ~0n, queueSize = 16): Promise<void> {
    await this.#setStatus(0);
    await this.#setStatus(ACKNOWLEDGE | DRIVER);
    this.features = await this.#negotiate(features);
    await this.#setStatus(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if ((await this.status() & FEATURES_OK) === 0) throw new Error("The device refuses the features");
    const count = await this.#read16(COMMON.num_queues);
    this.queues.length = 0;
    for (let index = 0; index < count; index++) this.queues.push(await this.#addQueue(index, queueSize));
    await this.#setStatus(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
  }

  /** The device status register. */
  async status(): Promise<number> {
    return (await this.#run(["readb", COMMON.device_status]))[0];
  }

  /** A 32-bit word of the device configuration. */
  async readConfig(offset: number): Promise<number> {
    const at = await this.#map(this.#device + offset);
    return (await this.memory.puppet.run(["readl", at]))[0];
  }

  /** Writes a 32-bit word of the device configuration. */
  async writeConfig(offset: number, value: number): Promise<void> {
    const at = await this.#map(this.#device + offset);
    await this.memory.puppet.run(["writel", at, value]);
  }

  /** Writes one byte of the device configuration. */
  async writeConfigByte(offset: number, value: number): Promise<void> {
    const at = await this.#map(this.#device + offset);
    await this.memory.puppet.run(["writeb", at, value]);
  }

  /** Tells the device of new buffers in a queue. */
  async notify(index: number): Promise<void> {
    const at = await this.#map(this.#notify + this.queues[index].notifyOffset * this.#notifyMultiplier);
    await this.memory.puppet.run(["writew", at, index]);
  }

  async #negotiate(wanted: bigint): Promise<bigint> {
    const [low, high] = [
      (await this.#run(["writel", COMMON.device_feature_select, 0], ["readl", COMMON.device_feature]))[1],
      (await this.#run(["writel", COMMON.device_feature_select, 1], ["readl", COMMON.device_feature]))[1],
    ];
    const features = (BigInt(high) << 32n | BigInt(low)) & wanted;
    await this.#run(
      ["writel", COMMON.driver_feature_select, 0],
      ["writel", COMMON.driver_feature, Number(features & 0xffff_ffffn)],
      ["writel", COMMON.driver_feature_select, 1],
      ["writel", COMMON.driver_feature, Number(features >> 32n)],
    );
    return features;
  }

  async #addQueue(index: number, wantedSize: number): Promise<DriverQueue> {
    const [, maxSize, notifyOffset] = await this.#run(
      ["writew", COMMON.queue_select, index],
      ["readw", COMMON.queue_size],
      ["readw", COMMON.queue_notify_off],
    );
    const size = Math.min(maxSize, wantedSize);
    const queue = new DriverQueue(this.memory, size, maxSize, notifyOffset);
    const address = (register: number, gpa: number) => {
      const at = gpa + this.memory.deviceOffset;
      return [["writel", register, at % WORD_BASE], [
        "writel",
        register + 4,
        Math.floor(at / WORD_BASE),
      ]] as const;
    };
    await this.#run(
      ["writew", COMMON.queue_size, size],
      ...address(COMMON.queue_desc, queue.descriptors),
      ...address(COMMON.queue_driver, queue.available),
      ...address(COMMON.queue_device, queue.used),
      ["writew", COMMON.queue_enable, 1],
    );
    return queue;
  }

  /** Follows BAR 0 and the vendor capabilities. */
  async #locate(): Promise<void> {
    const { puppet } = this.memory;
    const config = (offset: number) => readPci(puppet, this.slot, offset);
    await writePci(puppet, this.slot, PCI_COMMAND, PCI_COMMAND_MEMORY_AND_MASTER);
    const bar = ((await config(PCI_BAR0)) & ~0xf) >>> 0;
    const base = bar + (((await config(PCI_BAR0)) & 4) === 0 ? 0 : await config(PCI_BAR0 + 4) * WORD_BASE);
    for (let at = (await config(PCI_CAPABILITIES)) & 0xfc; at !== 0;) {
      const head = await config(at);
      if ((head & 0xff) === PCI_CAP_VENDOR) {
        const offset = base + await config(at + 8);
        const type = head >>> 24;
        if (type === CFG_COMMON) this.#common = offset;
        if (type === CFG_DEVICE) this.#device = offset;
        if (type === CFG_NOTIFY) {
          this.#notify = offset;
          this.#notifyMultiplier = await config(at + 16);
        }
      }
      at = (head >>> 8) & 0xfc;
    }
  }

  async #setStatus(value: number): Promise<void> {
    await this.#run(["writeb", COMMON.device_status, value]);
  }

  async #read16(register: number): Promise<number> {
    return (await this.#run(["readw", register]))[0];
  }

  /** Runs accesses to the common configuration structure. */
  async #run(
    ...accesses: (readonly [
      operation: "readb" | "readw" | "readl" | "writeb" | "writew" | "writel",
      register: number,
      value?: number,
    ])[]
  ): Promise<number[]> {
    const base = await this.#map(this.#common);
    return await this.memory.puppet.run(
      ...accesses.map(([operation, register, value]) => [operation, base + register, value] as const),
    );
  }

  #map(gpa: number): Promise<number> {
    return this.memory.puppet.map(gpa);
  }
}

/** The driver's side of a split queue. */
export class DriverQueue {
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  #offered = 0;
  #taken = 0;
  #nextDescriptor = 0;

  constructor(
    readonly memory: DriverMemory,
    readonly size: number,
    readonly maxSize: number,
    readonly notifyOffset: number,
  ) {
    this.descriptors = memory.take(Math.max(4096, size * DESCRIPTOR_BYTES));
    this.available = memory.take(4096);
    this.used = memory.take(4096);
  }

  /** Makes a request available, without notifying. @returns its head and where its buffers lie */
  async submit(...buffers: Buffer[]): Promise<{ head: number; addresses: number[] }> {
    const { puppet } = this.memory;
    const head = this.#nextDescriptor;
    const addresses: number[] = [];
    for (const [index, buffer] of buffers.entries()) {
      const length = "send" in buffer ? buffer.send.length : buffer.receive;
      const at = this.memory.take(length);
      addresses.push(at);
      if ("send" in buffer) await puppet.writeMemory(at, buffer.send);
      const last = index === buffers.length - 1;
      const view = new DataView(new ArrayBuffer(DESCRIPTOR_BYTES));
      view.setBigUint64(0, BigInt(at + this.memory.deviceOffset), true);
      view.setUint32(8, length, true);
      view.setUint16(12, ("send" in buffer ? 0 : DESC_F_WRITE) | (last ? 0 : DESC_F_NEXT), true);
      view.setUint16(14, (head + index + 1) % this.size, true);
      await puppet.writeMemory(
        this.descriptors + ((head + index) % this.size) * DESCRIPTOR_BYTES,
        new Uint8Array(view.buffer),
      );
    }
    this.#nextDescriptor = (head + buffers.length) % this.size;
    await puppet.writeMemory(this.available + 4 + 2 * (this.#offered % this.size), word16(head));
    this.#offered = (this.#offered + 1) & 0xffff;
    await puppet.writeMemory(this.available + 2, word16(this.#offered));
    return { head, addresses };
  }

  /** The next finished request, if there is one. */
  async poll(): Promise<Completion | undefined> {
    const { puppet } = this.memory;
    const index = new DataView((await puppet.readMemory(this.used + 2, 2)).buffer).getUint16(0, true);
    if (index === this.#taken) return undefined;
    const at = this.used + 4 + 8 * (this.#taken % this.size);
    this.#taken = (this.#taken + 1) & 0xffff;
    const element = new DataView((await puppet.readMemory(at, 8)).buffer);
    return { head: element.getUint32(0, true), writtenBytes: element.getUint32(4, true) };
  }

  /** Waits for the next finished request. */
  async complete(timeoutMs?: number): Promise<Completion> {
    return await eventually("a finished request", () => this.poll(), timeoutMs);
  }
}

async function findSlot(puppet: Puppet, virtioId: number, nth: number): Promise<number> {
  const wanted = (VIRTIO_DEVICE_BASE + virtioId) * 0x1_0000 + VIRTIO_VENDOR;
  let skip = nth;
  for (let slot = 0; slot < SLOTS; slot++) {
    if (await readPci(puppet, slot, 0) === wanted && skip-- === 0) return slot;
  }
  throw new Error(`No virtio device ${virtioId} on PCI segment 0`);
}

const configAddress = (slot: number, offset: number) => (CONFIG_ENABLE + (slot << 11) + offset) >>> 0;

/** A 32-bit word of a function's configuration space. */
export async function readPci(puppet: Puppet, slot: number, offset: number): Promise<number> {
  const [, value] = await puppet.run(
    ["outl", CONFIG_ADDRESS, configAddress(slot, offset)],
    ["inl", CONFIG_DATA],
  );
  return value;
}

/** Writes a 32-bit word of a function's configuration space. */
export async function writePci(puppet: Puppet, slot: number, offset: number, value: number): Promise<void> {
  await puppet.run(["outl", CONFIG_ADDRESS, configAddress(slot, offset)], ["outl", CONFIG_DATA, value]);
}

function word16(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >>> 8);
}
