/**
 * All guest-visible state of one virtio-pci device, and the words by which vCPU Workers and the I/O Worker hand it over.
 *
 * L3, any isolate. The PCI function's fields come first, so that `PciFunctionBlock.attach` works on the same buffer. The
 * arrays at the end are sized by the number of queues; `attachVirtioPci` reads it from the head.
 */
import { pciFunctionFields } from "@vmm/pci/function_block.ts";
import { MSIX_NO_VECTOR } from "@vmm/pci/msix.ts";
import { type BlockLayout, defineBlock, type SharedBlock } from "@vmm/sync/shared_block.ts";
import { STATUS_READY } from "./layout.ts";

export const MAX_DEVICE_CONFIG = 1024;
/** The notify window has room for this many. */
export const MAX_QUEUES = 1024;

const headFields = {
  ...pciFunctionFields,
  queueCount: "u32",
  virtioId: "u32",
  offeredLow: "u32",
  offeredHigh: "u32",
  acceptedLow: "u32",
  acceptedHigh: "u32",
  deviceFeatureSelect: "u32",
  driverFeatureSelect: "u32",
  status: "u32",
  configGeneration: "u32",
  configVector: "u32",
  queueSelect: "u32",
  isr: "u32",
  /** Bytes of `deviceConfig` that exist; reads beyond give 0. */
  configLength: "u32",
  /** Offset of the configuration access capability. */
  configAccess: "u32",
  msixCapability: "u32",
  msixVectors: "u32",
  /** A value of `Lifecycle`. */
  lifecycle: "u32",
  /** 1: some queue's `kick` word is set. */
  kicked: "u32",
  /** 1: what the driver writes into the device configuration goes to a back-end, and its vCPU waits for that. */
  configForwarded: "u32",
  /** A value of `ConfigWrite`. */
  configWrite: "u32",
  /** 1: the I/O Worker follows the vectors of the queues: it is woken when they change. */
  vectorsFollowed: "u32",
  /** Times the driver (or a bug of ours) broke the device. */
  faults: "u32",
  deviceConfig: { u8: MAX_DEVICE_CONFIG },
  /** Bits of `deviceConfig` the guest may write. */
  configWritable: { u8: MAX_DEVICE_CONFIG },
} as const;

/** The part that does not depend on the number of queues: word indices for `Atomics` hold for every layout. */
export const VirtioPciHead = defineBlock("virtio-pci", headFields);

type Fields = typeof headFields & {
  queues: { u32: number };
  msixTable: { u32: number };
  msixPending: { u32: number };
};

export type VirtioPciState = SharedBlock<Fields>;

/** Words per queue in `queues`. */
export const QUEUE_WORDS = 16;

/** Word of a queue: `queues[index * QUEUE_WORDS + QueueWord.size]`. */
export const QueueWord = {
  size: 0,
  maxSize: 1,
  enabled: 2,
  vector: 3,
  descLow: 4,
  descHigh: 5,
  driverLow: 6,
  driverHigh: 7,
  deviceLow: 8,
  deviceHigh: 9,
  /** A notification that came as an MMIO write. */
  kick: 10,
  /** Next available entry to take and next used entry to fill, valid while the device is stopped or paused. */
  nextAvail: 11,
  nextUsed: 12,
} as const;

/**
 * Who has the device. vCPU Workers move idle → activate and any → reset; the I/O Worker moves activate → active or
 * failed, active → failed and reset → idle (and wakes the waiting vCPU).
 */
export const Lifecycle = { idle: 0, activate: 1, active: 2, reset: 3, failed: 4 } as const;

/** Configuration bytes on their way to a back-end. vCPU Workers move any → posted; the I/O Worker posted → taken → none. */
export const ConfigWrite = { none: 0, posted: 1, taken: 2 } as const;

const layouts = new Map<number, BlockLayout<Fields>>();

function layoutFor(queueCount: number): BlockLayout<Fields> {
  let capacity = 8;
  while (capacity < queueCount) capacity *= 4;
  let layout = layouts.get(capacity);
  if (layout === undefined) {
    layout = defineBlock("virtio-pci", {
      ...headFields,
      queues: { u32: capacity * QUEUE_WORDS },
      msixTable: { u32: (capacity + 1) * 4 },
      msixPending: { u32: Math.ceil((capacity + 1) / 32) },
    });
    layouts.set(capacity, layout);
  }
  return layout;
}

/** A zeroed block for `queueCount` queues. @throws RangeError for more than `MAX_QUEUES` */
export function newVirtioPci(queueCount: number): VirtioPciState {
  if (queueCount > MAX_QUEUES) throw new RangeError(`A device cannot have ${queueCount} queues`);
  const state = layoutFor(queueCount).create();
  state.queueCount = queueCount;
  return state;
}

/** A view of a device's block. */
export function attachVirtioPci(buffer: SharedArrayBuffer): VirtioPciState {
  return layoutFor(VirtioPciHead.attach(buffer).queueCount).attach(buffer);
}

/** The registers a device reset clears. Call it with the lock held, or before anyone else has the block. */
export function resetRegisters(state: VirtioPciState): void {
  state.status = 0;
  state.acceptedLow = 0;
  state.acceptedHigh = 0;
  state.deviceFeatureSelect = 0;
  state.driverFeatureSelect = 0;
  state.configVector = MSIX_NO_VECTOR;
  state.queueSelect = 0;
  state.isr = 0;
  state.kicked = 0;
  for (let i = 0; i < state.queueCount; i++) {
    const at = i * QUEUE_WORDS;
    const maxSize = state.queues[at + QueueWord.maxSize];
    state.queues.fill(0, at, at + QUEUE_WORDS);
    state.queues[at + QueueWord.size] = maxSize;
    state.queues[at + QueueWord.maxSize] = maxSize;
    state.queues[at + QueueWord.vector] = MSIX_NO_VECTOR;
  }
}

/** Makes a restored block start its device: the I/O Worker activates it at its next look, with the saved indices. */
export function restartAfterRestore(state: VirtioPciState): void {
  const ready = (state.status & STATUS_READY) === STATUS_READY;
  const was = state.lifecycle;
  if (was === Lifecycle.reset) resetRegisters(state);
  if (was !== Lifecycle.failed) {
    state.lifecycle = ready && (was === Lifecycle.active || was === Lifecycle.activate)
      ? Lifecycle.activate
      : Lifecycle.idle;
  }
}
