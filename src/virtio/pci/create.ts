/**
 * Makes the block of a virtio-pci device: PCI identity, BARs, capabilities in the original's order and bytes.
 *
 * L3, main isolate, once per device. Source: virtio 1.2 §4.1.2, §4.1.4.
 */
import { PciHeaderBuilder } from "@vmm/pci/header.ts";
import { PCI_CAP_VENDOR, PCI_MSIX_ENABLE } from "@vmm/pci/layout.ts";
import { MsixTable } from "@vmm/pci/msix.ts";
import { VirtioId } from "../device.ts";
import { isQueueSize } from "../queue/split.ts";
import {
  MAX_DEVICE_CONFIG,
  newVirtioPci,
  QUEUE_WORDS,
  QueueWord,
  resetRegisters,
  type VirtioPciState,
} from "./block.ts";
import * as layout from "./layout.ts";

/** A window of host memory the device shares with the guest through BAR 2. */
export interface SharedMemoryBar {
  readonly base: number;
  readonly sizeBytes: number;
  readonly regions: readonly {
    readonly id: number;
    readonly offset: number;
    readonly lengthBytes: number;
  }[];
}

/** What a device's model says of it, and where main placed it. */
export interface VirtioPciDescription {
  readonly virtioId: number;
  /** Largest size of each queue, a power of two up to 32,768. */
  readonly queueSizes: readonly number[];
  readonly features: bigint;
  /** Device configuration bytes; empty for none. */
  readonly config: Uint8Array;
  /** Bits of `config` the guest may write; none when absent. */
  readonly configWritable?: Uint8Array;
  /** Writes to `config` go to a back-end. */
  readonly forwardsConfig?: boolean;
  readonly bar: { readonly kind: "memory32" | "memory64"; readonly base: number };
  readonly sharedMemory?: SharedMemoryBar;
}

const VIRTIO_VENDOR = 0x1af4;
const VIRTIO_DEVICE_BASE = 0x1040;
const SHARED_MEMORY_BAR = 2;

/** Class and subclass by virtio id; everything else is "unassigned". */
const CLASSES: Record<number, readonly [classCode: number, subclass: number]> = {
  [VirtioId.net]: [0x02, 0x00],
  [VirtioId.block]: [0x01, 0x80],
};
const UNASSIGNED = [0xff, 0xff] as const;

/** The alignment the original asks for its BAR0: its size in the 32-bit window, 8 MiB in the 64-bit one. */
export function barAlignment(kind: "memory32" | "memory64"): number {
  return kind === "memory32" ? layout.VIRTIO_BAR_SIZE : 16 * layout.VIRTIO_BAR_SIZE;
}

/** A new device's block. @throws RangeError when the description does not fit the block */
export function createVirtioPci(d: VirtioPciDescription): VirtioPciState {
  if (d.config.byteLength > MAX_DEVICE_CONFIG) {
    throw new RangeError(`A device config of ${d.config.byteLength} bytes is too long`);
  }
  const state = newVirtioPci(d.queueSizes.length);
  state.virtioId = d.virtioId;
  state.offeredLow = Number(d.features & 0xffff_ffffn);
  state.offeredHigh = Number(d.features >> 32n);
  state.configLength = d.config.byteLength;
  state.deviceConfig.set(d.config);
  if (d.configWritable !== undefined) state.configWritable.set(d.configWritable);
  state.configForwarded = d.forwardsConfig === true ? 1 : 0;
  d.queueSizes.forEach((size, i) => {
    if (!isQueueSize(size)) throw new RangeError(`A queue cannot have ${size} entries`);
    state.queues[i * QUEUE_WORDS + QueueWord.maxSize] = size;
  });
  resetRegisters(state);
  buildConfigSpace(state, d);
  MsixTable.reset(state);
  return state;
}

function buildConfigSpace(state: VirtioPciState, d: VirtioPciDescription): void {
  const [classCode, subclass] = CLASSES[d.virtioId] ?? UNASSIGNED;
  const header = new PciHeaderBuilder(state, {
    vendorId: VIRTIO_VENDOR,
    deviceId: VIRTIO_DEVICE_BASE + d.virtioId,
    subsystemVendorId: VIRTIO_VENDOR,
    subsystemId: VIRTIO_DEVICE_BASE + d.virtioId,
    revision: 1,
    classCode,
    subclass,
  });
  header.memoryBar(layout.VIRTIO_BAR, d.bar.kind, d.bar.base, layout.VIRTIO_BAR_SIZE);
  const window = (type: number, offset: number, lengthBytes: number, tail: readonly number[] = []) =>
    header.capability(PCI_CAP_VENDOR, windowCapability(type, 0, 0, offset, lengthBytes, tail));
  window(layout.VIRTIO_PCI_CAP_COMMON_CFG, layout.COMMON_OFFSET, layout.COMMON_SIZE);
  window(layout.VIRTIO_PCI_CAP_ISR_CFG, layout.ISR_OFFSET, layout.ISR_SIZE);
  if (d.config.byteLength > 0) {
    window(layout.VIRTIO_PCI_CAP_DEVICE_CFG, layout.DEVICE_OFFSET, layout.DEVICE_SIZE);
  }
  window(layout.VIRTIO_PCI_CAP_NOTIFY_CFG, layout.NOTIFY_OFFSET, layout.NOTIFY_SIZE, [
    layout.NOTIFY_MULTIPLIER,
  ]);
  state.configAccess = header.capability(
    PCI_CAP_VENDOR,
    windowCapability(layout.VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0, 0, [0]),
    // bar (with its padding), offset and length belong to the guest; the data window is computed
    windowCapability(0, 0xff, 0xff, 0xffff_ffff, 0xffff_ffff, [0]).fill(0, 0, 2).fill(0xff, 4, 6),
  );
  state.msixVectors = d.queueSizes.length + 1;
  state.msixCapability = header.msix(
    state.msixVectors,
    layout.VIRTIO_BAR,
    layout.MSIX_TABLE_OFFSET,
    layout.VIRTIO_BAR,
    layout.MSIX_PENDING_OFFSET,
  );
  // the original's functions come up with MSI-X enabled and every vector masked
  state.config[state.msixCapability + 3] |= PCI_MSIX_ENABLE >>> 8;
  if (d.sharedMemory !== undefined) addSharedMemory(header, d.sharedMemory);
}

function addSharedMemory(header: PciHeaderBuilder, memory: SharedMemoryBar): void {
  header.memoryBar(SHARED_MEMORY_BAR, "memory64", memory.base, memory.sizeBytes);
  for (const { id, offset, lengthBytes } of memory.regions) {
    const high = [Math.floor(offset / 2 ** 32), Math.floor(lengthBytes / 2 ** 32)];
    header.capability(
      PCI_CAP_VENDOR,
      windowCapability(
        layout.VIRTIO_PCI_CAP_SHARED_MEMORY_CFG,
        SHARED_MEMORY_BAR,
        id,
        offset >>> 0,
        lengthBytes >>> 0,
        high,
      ),
    );
  }
}

/** struct virtio_pci_cap after its id and link bytes, followed by the words of `tail`. */
function windowCapability(
  type: number,
  bar: number,
  id: number,
  offset: number,
  lengthBytes: number,
  tail: readonly number[],
): Uint8Array {
  const view = new DataView(new ArrayBuffer(14 + 4 * tail.length));
  view.setUint8(0, 16 + 4 * tail.length);
  view.setUint8(1, type);
  view.setUint8(2, bar);
  view.setUint8(3, id);
  view.setUint32(6, offset, true);
  view.setUint32(10, lengthBytes, true);
  tail.forEach((word, i) => view.setUint32(14 + 4 * i, word, true));
  return new Uint8Array(view.buffer);
}
