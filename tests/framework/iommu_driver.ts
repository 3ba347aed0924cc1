/**
 * The driver of a virtual IOMMU in a test, on top of a puppet's virtio driver.
 *
 * Test framework. Source: virtio 1.2 §5.13.6.
 *
 * @module
 */

import { type Buffer, type Completion, type DriverMemory, VirtioDriver } from "./virtio_driver.ts";

/** Virtio device id of the IOMMU. */
export const IOMMU = 23;
const REQUEST_QUEUE = 0;

export const VIRTIO_IOMMU_T_ATTACH = 1;
export const VIRTIO_IOMMU_T_DETACH = 2;
export const VIRTIO_IOMMU_T_MAP = 3;
export const VIRTIO_IOMMU_T_UNMAP = 4;
export const VIRTIO_IOMMU_T_PROBE = 5;
export const READ_WRITE = 3;
const HEAD_BYTES = 4;
const TAIL_BYTES = 4;
const PROBE_RESERVED_BYTES = 64;
/** Bytes of the properties a probe answers with. */
const PROBE_BYTES = 24;

/** A request's bytes: words of 4 (number) or 8 (bigint) bytes after the head. */
export function requestBytes(type: number, ...fields: (number | bigint)[]): Uint8Array {
  const sizes: number[] = fields.map((field) => typeof field === "bigint" ? 8 : 4);
  const view = new DataView(new ArrayBuffer(sizes.reduce((sum, size) => sum + size, HEAD_BYTES)));
  view.setUint8(0, type);
  let at = HEAD_BYTES;
  fields.forEach((field, index) => {
    if (typeof field === "bigint") view.setBigUint64(at, field, true);
    else view.setUint32(at, field, true);
    at += sizes[index];
  });
  return new Uint8Array(view.buffer);
}

/** See the module. */
export class IommuDriver {
  private constructor(readonly device: VirtioDriver) {}

  static async start(memory: DriverMemory): Promise<IommuDriver> {
    return new IommuDriver(await VirtioDriver.start(memory, IOMMU));
  }

  /** Sends buffers as they are; returns what came back in the writable ones. */
  async exchange(
    buffers: Buffer[],
    timeoutMs?: number,
  ): Promise<{ completion: Completion; received: Uint8Array[] }> {
    const queue = this.device.queues[REQUEST_QUEUE];
    const { puppet } = queue.memory;
    const { addresses } = await queue.submit(...buffers);
    await this.device.notify(REQUEST_QUEUE);
    const completion = await queue.complete(timeoutMs);
    const received = [];
    for (const [index, buffer] of buffers.entries()) {
      if ("receive" in buffer) received.push(await puppet.readMemory(addresses[index], buffer.receive));
    }
    return { completion, received };
  }

  /** Sends one request; returns its status. */
  async request(type: number, ...fields: (number | bigint)[]): Promise<number> {
    const { received } = await this.exchange([
      { send: requestBytes(type, ...fields) },
      { receive: TAIL_BYTES },
    ]);
    return received[0][0];
  }

  attach(domain: number, endpoint: number, flags = 0): Promise<number> {
    return this.request(VIRTIO_IOMMU_T_ATTACH, domain, endpoint, flags, 0);
  }

  detach(domain: number, endpoint: number): Promise<number> {
    return this.request(VIRTIO_IOMMU_T_DETACH, domain, endpoint, 0n);
  }

  /** Maps `[start, end]`, both included. */
  map(domain: number, start: bigint, end: bigint, physical: bigint, flags = READ_WRITE): Promise<number> {
    return this.request(VIRTIO_IOMMU_T_MAP, domain, start, end, physical, flags);
  }

  /** Unmaps `[start, end]`, both included. */
  unmap(domain: number, start: bigint, end: bigint): Promise<number> {
    return this.request(VIRTIO_IOMMU_T_UNMAP, domain, start, end, 0);
  }

  /** Asks for an endpoint's properties; returns them, and the status. */
  async probe(endpoint: number): Promise<{ properties: Uint8Array; status: number }> {
    const reserved = Array<bigint>(PROBE_RESERVED_BYTES / 8).fill(0n);
    const { received } = await this.exchange([
      { send: requestBytes(VIRTIO_IOMMU_T_PROBE, endpoint, ...reserved) },
      { receive: PROBE_BYTES + TAIL_BYTES },
    ]);
    return { properties: received[0].subarray(0, PROBE_BYTES), status: received[0][PROBE_BYTES] };
  }
}
