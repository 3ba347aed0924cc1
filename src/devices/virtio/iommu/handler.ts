/**
 * Serves the requests of the virtual IOMMU's driver: they change the table that translates for the devices behind it.
 *
 * L4, I/O Worker. The order of checks is the original's, so that a request with several faults gets the same status.
 * Source: virtio 1.2 §5.13.6.
 */
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import type { RefusedAccess } from "@vmm/virtio/guest_fault.ts";
import type { MappingTable } from "@vmm/virtio/iommu/mapping_table.ts";
import type { PageRange } from "@vmm/virtio/iommu/interval_tree.ts";
import {
  LAST_PAGE,
  PAGE_BYTES,
  PAGE_SHIFT,
  PAGES_PER_HIGH_WORD,
  VIRTIO_IOMMU_MAP_F_MMIO,
  VIRTIO_IOMMU_MAP_F_READ,
  VIRTIO_IOMMU_MAP_F_WRITE,
  VIRTIO_IOMMU_S_INVAL,
  VIRTIO_IOMMU_S_OK,
  VIRTIO_IOMMU_S_RANGE,
} from "@vmm/virtio/iommu/spec.ts";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { QueueServer } from "@vmm/virtio/queue/server.ts";
import {
  AttachLayout,
  DetachLayout,
  FaultLayout,
  HEAD_BYTES,
  MapLayout,
  ProbeLayout,
  probeProperties,
  TAIL_BYTES,
  UnmapLayout,
  VIRTIO_IOMMU_ATTACH_F_BYPASS,
  VIRTIO_IOMMU_FAULT_F_ADDRESS,
  VIRTIO_IOMMU_FAULT_R_DOMAIN,
  VIRTIO_IOMMU_FAULT_R_MAPPING,
  VIRTIO_IOMMU_T_ATTACH,
  VIRTIO_IOMMU_T_DETACH,
  VIRTIO_IOMMU_T_MAP,
  VIRTIO_IOMMU_T_PROBE,
  VIRTIO_IOMMU_T_UNMAP,
} from "./spec.ts";

const REQUEST_QUEUE = 0;
const EVENT_QUEUE = 1;
const MAP_FLAGS = VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE | VIRTIO_IOMMU_MAP_F_MMIO;
const OFFSET_MASK = PAGE_BYTES - 1;
const WORD_BYTES = 4;

/** The order that makes the device tell its driver of a refused access: `endpoint` is an index in the table. */
export const REPORT_FAULT = "report-fault";

/** Goes to the I/O Worker. */
export interface IommuBackend {
  readonly table: SharedArrayBuffer;
  readonly addressBits: number;
}

/** What the handler is given besides the activation. */
export interface IommuHandlerOptions {
  /** Outlives activations. */
  readonly table: MappingTable;
  /** The last address a device may use. */
  readonly lastAddress: bigint;
}

/** Starts the virtual IOMMU: nothing is attached. */
export function createIommuHandler(activation: Activation, options: IommuHandlerOptions): QueueHandler {
  options.table.reset();
  return new IommuHandler(activation, options);
}

/** An access that was refused. */
interface FaultReport extends RefusedAccess {
  readonly endpoint: number;
}

class IommuHandler implements QueueHandler {
  readonly #server: QueueServer;
  readonly #table: MappingTable;
  readonly #lastHigh: number;
  readonly #lastLow: number;
  readonly #properties = probeProperties();
  readonly #range: PageRange = { first: 0, last: 0, target: 0, flags: 0 };

  readonly #event = new DescriptorChain();

  constructor(private readonly activation: Activation, options: IommuHandlerOptions) {
    this.#table = options.table;
    this.#lastHigh = Number(options.lastAddress >> 32n);
    this.#lastLow = Number(options.lastAddress & 0xffff_ffffn);
    this.#server = new QueueServer(activation, REQUEST_QUEUE, (chain) => this.#serve(chain));
  }

  onKick(index: number): void {
    if (index === REQUEST_QUEUE) this.#server.kick();
  }

  onCommand(command: { kind: string } & Record<string, unknown>): undefined {
    if (command.kind === REPORT_FAULT) this.#report(command as unknown as FaultReport);
  }

  /** Without a buffer for it, a report is lost: the driver was told that it should have given one. */
  #report({ endpoint, high, low, access }: FaultReport): void {
    const queue = this.activation.queues[EVENT_QUEUE];
    const chain = this.#event;
    if (queue.pop(chain)) {
      const hasRoom = chain.writableBytes >= FaultLayout.sizeBytes;
      if (hasRoom) {
        const isAttached = this.#table.isAttached(endpoint);
        chain.writeBytes(0, new Uint8Array(FaultLayout.sizeBytes));
        chain.writeU8(
          FaultLayout.reason,
          isAttached ? VIRTIO_IOMMU_FAULT_R_MAPPING : VIRTIO_IOMMU_FAULT_R_DOMAIN,
        );
        chain.writeU32(FaultLayout.flags, access | VIRTIO_IOMMU_FAULT_F_ADDRESS);
        chain.writeU32(FaultLayout.endpoint, this.#table.endpointId(endpoint));
        chain.writeU32(FaultLayout.address, low);
        chain.writeU32(FaultLayout.address + WORD_BYTES, high);
      }
      queue.push(chain.head, hasRoom ? FaultLayout.sizeBytes : 0);
      if (queue.publish()) this.activation.interruptQueue(EVENT_QUEUE);
    }
    if (queue.fault !== undefined) this.activation.fail(queue.fault);
  }

  drain(): void {
    this.#server.stop(); // no request waits for anything
  }

  close(): void {
    // A driver that broke its queue does not open memory to the devices it had fenced in.
    if (this.#server.queue.fault === undefined) this.#table.reset();
  }

  /** Returns the bytes written. What is no request at all, or leaves no room for the answer, is given back as it came. */
  #serve(chain: DescriptorChain): number {
    if (chain.readableBytes < HEAD_BYTES || chain.writableBytes < TAIL_BYTES) return 0;
    switch (chain.readU8(0)) {
      case VIRTIO_IOMMU_T_ATTACH:
        return answer(
          chain,
          fits(chain, AttachLayout.sizeBytes) ? this.#attach(chain) : VIRTIO_IOMMU_S_INVAL,
        );
      case VIRTIO_IOMMU_T_DETACH:
        return answer(
          chain,
          fits(chain, DetachLayout.sizeBytes) ? this.#detach(chain) : VIRTIO_IOMMU_S_INVAL,
        );
      case VIRTIO_IOMMU_T_MAP:
        return answer(chain, fits(chain, MapLayout.sizeBytes) ? this.#map(chain) : VIRTIO_IOMMU_S_INVAL);
      case VIRTIO_IOMMU_T_UNMAP:
        return answer(chain, fits(chain, UnmapLayout.sizeBytes) ? this.#unmap(chain) : VIRTIO_IOMMU_S_INVAL);
      case VIRTIO_IOMMU_T_PROBE:
        return this.#probe(chain);
      default:
        return 0;
    }
  }

  #attach(chain: DescriptorChain): number {
    const flags = chain.readU32(AttachLayout.flags);
    if ((flags & ~VIRTIO_IOMMU_ATTACH_F_BYPASS) !== 0 || chain.readU32(AttachLayout.reserved) !== 0) {
      return VIRTIO_IOMMU_S_INVAL;
    }
    const domain = chain.readU32(AttachLayout.domain);
    const endpoint = chain.readU32(AttachLayout.endpoint);
    return this.#table.attach(domain, endpoint, (flags & VIRTIO_IOMMU_ATTACH_F_BYPASS) !== 0);
  }

  #detach(chain: DescriptorChain): number {
    this.#table.detach(chain.readU32(DetachLayout.domain), chain.readU32(DetachLayout.endpoint));
    return VIRTIO_IOMMU_S_OK;
  }

  #map(chain: DescriptorChain): number {
    const domain = chain.readU32(MapLayout.domain);
    const startLow = chain.readU32(MapLayout.start);
    const startHigh = chain.readU32(MapLayout.start + WORD_BYTES);
    const endLow = chain.readU32(MapLayout.end);
    const endHigh = chain.readU32(MapLayout.end + WORD_BYTES);
    const physicalLow = chain.readU32(MapLayout.physical);
    const physicalHigh = chain.readU32(MapLayout.physical + WORD_BYTES);
    const flags = chain.readU32(MapLayout.flags);
    if ((flags & ~MAP_FLAGS) !== 0) return VIRTIO_IOMMU_S_INVAL;
    if (this.#isTooHigh(startHigh, startLow) || this.#isTooHigh(endHigh, endLow)) return VIRTIO_IOMMU_S_RANGE;
    const status = this.#table.checkMappable(domain);
    if (status !== VIRTIO_IOMMU_S_OK) return status;
    const aligned = ((startLow | physicalLow) & OFFSET_MASK) === 0 && (endLow & OFFSET_MASK) === OFFSET_MASK;
    const range = this.#range;
    range.first = pageOf(startHigh, startLow);
    range.last = pageOf(endHigh, endLow);
    range.target = pageOf(physicalHigh, physicalLow);
    range.flags = flags;
    // Neither range may reach the very end of the address space: there its end would not be a number of 64 bits.
    const physicalEnd = range.target + (range.last - range.first);
    if (!aligned || range.last < range.first || range.last === LAST_PAGE || physicalEnd >= LAST_PAGE) {
      return VIRTIO_IOMMU_S_RANGE;
    }
    return this.#table.map(domain, range);
  }

  #unmap(chain: DescriptorChain): number {
    const domain = chain.readU32(UnmapLayout.domain);
    const startLow = chain.readU32(UnmapLayout.start);
    const startHigh = chain.readU32(UnmapLayout.start + WORD_BYTES);
    const endLow = chain.readU32(UnmapLayout.end);
    const endHigh = chain.readU32(UnmapLayout.end + WORD_BYTES);
    if (this.#isTooHigh(startHigh, startLow) || this.#isTooHigh(endHigh, endLow)) return VIRTIO_IOMMU_S_RANGE;
    const status = this.#table.checkMappable(domain);
    if (status !== VIRTIO_IOMMU_S_OK) return status;
    const first = pageOf(startHigh, startLow);
    const last = pageOf(endHigh, endLow);
    const isBackwards = last < first || (last === first && endLow < startLow);
    // 2^64 bytes are more than the original can count.
    const isEverything = first === 0 && startLow === 0 && last === LAST_PAGE &&
      (endLow & OFFSET_MASK) === OFFSET_MASK;
    if (isBackwards || isEverything) return VIRTIO_IOMMU_S_RANGE;
    const wholeFirst = (startLow & OFFSET_MASK) === 0 ? first : first + 1;
    const wholeLast = (endLow & OFFSET_MASK) === OFFSET_MASK ? last : last - 1;
    return this.#table.unmap(domain, wholeFirst, wholeLast, first, last);
  }

  #probe(chain: DescriptorChain): number {
    if (!fits(chain, ProbeLayout.sizeBytes)) return answer(chain, VIRTIO_IOMMU_S_INVAL);
    const { length } = this.#properties;
    if (chain.writableBytes < length + TAIL_BYTES) return 0;
    chain.writeBytes(0, this.#properties);
    chain.writeU32(length, VIRTIO_IOMMU_S_OK);
    return length + TAIL_BYTES;
  }

  #isTooHigh(high: number, low: number): boolean {
    return high > this.#lastHigh || (high === this.#lastHigh && low > this.#lastLow);
  }
}

/** True if the driver sent just what such a request has. */
function fits(chain: DescriptorChain, sizeBytes: number): boolean {
  return chain.readableBytes === sizeBytes;
}

/** Writes the tail; returns its length. */
function answer(chain: DescriptorChain, status: number): number {
  chain.writeU32(0, status);
  return TAIL_BYTES;
}

function pageOf(high: number, low: number): number {
  return high * PAGES_PER_HIGH_WORD + (low >>> PAGE_SHIFT);
}
