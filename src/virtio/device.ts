/**
 * The contract between the virtio transport, the I/O Worker and a device's queue handler.
 *
 * L3. A virtio device is three parts: model (main: config to description), registers (vCPU Workers: config space; the
 * transport is shared code), queue handler (I/O Worker: started from one plain, cloneable `Activation`).
 */
import type { GuestMemory } from "@vmm/memory/guest_memory.ts";
import type { GuestFault } from "./guest_fault.ts";
import type { EndpointDescription } from "./iommu/translation.ts";
import type { SplitQueue } from "./queue/split.ts";

export type { GuestFault };

/** Virtio device ids (virtio 1.2 §5). */
export const VirtioId = {
  net: 1,
  block: 2,
  console: 3,
  rng: 4,
  balloon: 5,
  rtc: 17,
  vsock: 19,
  iommu: 23,
  mem: 24,
  fs: 26,
  pmem: 27,
  watchdog: 35,
} as const;

/** Everything an I/O Worker needs to know of a device, sent once when the device is made. Plain and cloneable. */
export interface VirtioDeviceDescriptor<Backend = unknown> {
  /** Device id such as `_disk0`. */
  readonly id: string;
  /** Key of the handler table, such as `"block"`. */
  readonly kind: string;
  /** The transport block (`VirtioPciBlock`): common config, queues, MSI-X table, PCI config, device config bytes. */
  readonly block: SharedArrayBuffer;
  /** One eventfd per queue; KVM adds to it when the guest notifies. */
  readonly kickFds: readonly number[];
  /** Set for a device behind the virtual IOMMU: who it is there. */
  readonly iommu?: EndpointDescription;
  /** Backend description: paths are opened by main, so descriptors and plain numbers only. */
  readonly backend: Backend;
  /** Queues that have to be served by one thread, by index; absent when that is all of them. The first group leads. */
  readonly queueGroups?: readonly (readonly number[])[];
  /** Host CPUs the thread of a queue is to run on. */
  readonly queueAffinity?: readonly { readonly queue: number; readonly cpus: readonly number[] }[];
}

/** A queue whose next request can be looked for: cheaper than being notified when it comes soon. Neither method throws. */
export interface AttendedQueue {
  /** Serves what has come; true if there was something. */
  look(): boolean;
  /** Nobody looks any more: asks for notifications. True: something came meanwhile. */
  rest(): boolean;
}

/** What a handler may ask of its Worker. */
export interface IoEnvironment {
  /** Calls `ready` on this thread whenever `fd` has one of `events` (EPOLLIN…). Level-triggered. */
  watch(fd: number, events: number, ready: (events: number) => void): void;
  /** Changes the awaited events of a watched descriptor (0: none for now). */
  rewatch(fd: number, events: number): void;
  /** Forgets a descriptor. It is not closed. */
  unwatch(fd: number): void;
  /** Calls `fire` once after `delayMs`; returns a function that cancels it. */
  timer(delayMs: number, fire: () => void): () => void;
  /**
   * Registers a queue that may be looked at instead of waited for. The returned function, called when the queue has run
   * empty, asks for that: true means the Worker looks at it for a moment and says when to ask for notifications again,
   * false that they are wanted now. Absent where nobody ever looks.
   */
  attend?(queue: AttendedQueue): () => boolean;
  /** Tells main something rare (log lines are rate-limited there by key). */
  post(event: { kind: string } & Record<string, unknown>): void;
}

/** What a started device works with. */
export interface Activation<Backend = unknown> {
  readonly id: string;
  readonly memory: GuestMemory;
  readonly queues: readonly SplitQueue[];
  /** Accepted feature bits 0–31 and 32–63. */
  readonly featuresLow: number;
  readonly featuresHigh: number;
  readonly backend: Backend;
  readonly env: IoEnvironment;
  /** Device config bytes in the block, guest-visible. */
  readonly config: Uint8Array;
  /** Raises the interrupt of queue `index`, honouring MSI-X masks. The handler asks the queue first if one is wanted. */
  interruptQueue(index: number): void;
  /** Bumps config generation and raises the config interrupt. */
  interruptConfig(): void;
  /**
   * The driver broke the rules: sets DEVICE_NEEDS_RESET, raises the config interrupt, stops the handler. Called inside
   * one of the handler's methods or callbacks it takes effect when that returns. A queue's own `fault` needs no call.
   */
  fail(fault: GuestFault): void;
  /** Which share of the device's queues the handler has: 0, or absent, leads. Queues of other shares are disabled here. */
  readonly share?: number;
}

/** The running part of a device, in an I/O Worker. No method may throw on anything the guest wrote. */
export interface QueueHandler {
  /** The guest notified queue `index` (or the device was just started or resumed: look at every queue). */
  onKick(index: number): void;
  /** Main sends a device-specific order (resize, new fd …). Returns the reply, plain and cloneable. */
  onCommand?(command: { kind: string } & Record<string, unknown>): unknown;
  /** Finishes everything in flight before returning, so that the queue indices tell the whole truth. */
  drain(): void;
  /** Device reset, failure or removal, after `drain`: forgets timers and watches. Backends stay open: the device can be activated again. */
  close(): void;
}

/** Starts a device. */
export type HandlerFactory<Backend = unknown> = (activation: Activation<Backend>) => QueueHandler;
