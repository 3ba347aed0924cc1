/**
 * A block driver in a test: requests on any queue, configuration fields by name.
 *
 * Test framework. Source: virtio 1.2 §5.2.
 *
 * @module
 */

import { eventually } from "./deadline.ts";
import { type Buffer, type DriverMemory, VirtioDriver } from "./virtio_driver.ts";

const BLOCK = 2;
export const SECTOR = 512;

/** Request types and statuses. */
export const T = { in: 0, out: 1, flush: 4, getId: 8, discard: 11, writeZeroes: 13 } as const;
export const S = { ok: 0, ioError: 1, unsupported: 2 } as const;
/** A status byte that no device wrote. */
export const UNTOUCHED = 0xee;
/** Feature bits. */
export const F = {
  segMax: 2,
  readonly: 5,
  blockSize: 6,
  flush: 9,
  topology: 10,
  mq: 12,
  discard: 13,
  writeZeroes: 14,
};

/** Fields of the configuration: offset and width in bytes. */
const CONFIG = {
  segMax: [12, 4],
  blockSize: [20, 4],
  physicalExponent: [24, 1],
  minIo: [26, 2],
  optIo: [28, 4],
  numQueues: [34, 2],
  maxDiscardSectors: [36, 4],
  maxWriteZeroesSectors: [48, 4],
  mayUnmap: [56, 1],
} as const;

/** See the module. */
export class BlockDriver {
  private constructor(readonly virtio: VirtioDriver) {}

  /** @param nth of several disks @param features to accept; by default all but event indices: a puppet may always notify */
  static async start(memory: DriverMemory, nth = 0, features = ~(1n << 29n)): Promise<BlockDriver> {
    return new BlockDriver(await VirtioDriver.start(memory, BLOCK, features, 64, nth));
  }

  has(bit: number): boolean {
    return (this.virtio.features >> BigInt(bit) & 1n) === 1n;
  }

  async capacityBytes(): Promise<number> {
    return SECTOR * (await this.virtio.readConfig(0) + await this.virtio.readConfig(4) * 2 ** 32);
  }

  async field(name: keyof typeof CONFIG): Promise<number> {
    const [offset, width] = CONFIG[name];
    const word = await this.virtio.readConfig(offset & ~3);
    return Math.floor(word / 2 ** (8 * (offset & 3))) % 2 ** (8 * width);
  }

  /** Makes a request available without notifying. */
  async submit(queue: number, type: number, sector: number, ...data: Buffer[]): Promise<number[]> {
    const header = new DataView(new ArrayBuffer(16));
    header.setUint32(0, type, true);
    header.setBigUint64(8, BigInt(sector), true);
    const { addresses } = await this.virtio.queues[queue].submit(
      { send: new Uint8Array(header.buffer) },
      ...data,
      { receive: 1 },
    );
    return addresses;
  }

  /** Notifies and waits until `count` more requests have finished. */
  async finish(queue: number, count = 1): Promise<void> {
    await this.virtio.notify(queue);
    for (let done = 0; done < count; done++) {
      await eventually(`an answer on queue ${queue}`, async () => {
        const completion = await this.virtio.queues[queue].poll();
        // The original loses a notification now and then.
        if (completion === undefined) await this.virtio.notify(queue);
        return completion;
      });
    }
  }

  /** Carries out a request; its status byte and the data of a read. */
  async request(
    type: number,
    sector: number,
    data?: Buffer,
    queue = 0,
  ): Promise<{ status: number; data: Uint8Array }> {
    const { puppet } = this.virtio.memory;
    const addresses = await this.submit(queue, type, sector, ...(data === undefined ? [] : [data]));
    await puppet.writeMemory(addresses.at(-1)!, Uint8Array.of(UNTOUCHED));
    await this.finish(queue);
    const [status] = await puppet.readMemory(addresses.at(-1)!, 1);
    const length = data !== undefined && "receive" in data ? data.receive : 0;
    return { status, data: await puppet.readMemory(addresses[1], length) };
  }

  /** Reads sectors. @throws Error unless the device says it did */
  async read(sector: number, sectors = 1, queue = 0): Promise<Uint8Array> {
    const { status, data } = await this.request(T.in, sector, { receive: sectors * SECTOR }, queue);
    if (status !== S.ok) throw new Error(`Reading sector ${sector}: status ${status}`);
    return data;
  }

  /** Writes whole sectors. @throws Error unless the device says it did */
  async write(sector: number, data: Uint8Array, queue = 0): Promise<void> {
    const { status } = await this.request(T.out, sector, { send: data }, queue);
    if (status !== S.ok) throw new Error(`Writing sector ${sector}: status ${status}`);
  }

  /** Discards or zeroes a range; the status byte. */
  async range(type: number, sector: number, sectors: number, flags = 0): Promise<number> {
    const segment = new DataView(new ArrayBuffer(16));
    segment.setBigUint64(0, BigInt(sector), true);
    segment.setUint32(8, sectors, true);
    segment.setUint32(12, flags, true);
    return (await this.request(type, 0, { send: new Uint8Array(segment.buffer) })).status;
  }

  async flush(): Promise<void> {
    const { status } = await this.request(T.flush, 0);
    if (status !== S.ok) throw new Error(`Flushing: status ${status}`);
  }
}
