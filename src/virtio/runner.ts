/**
 * Runs one device's queue handler inside an I/O Worker: start, notifications, pause, reset, failure.
 *
 * L3, I/O Worker; pure: descriptors and system calls stay with the Worker around it. This is the one place that catches
 * what a handler throws (a bug of ours): the device then asks for a reset, and the others go on.
 * Source: virtio 1.2 §2.1, §2.4, §3.1.
 */
import type { MessageInterrupts } from "@vmm/bus/ports.ts";
import type { GuestMemory } from "@vmm/memory/guest_memory.ts";
import { MsixTable } from "@vmm/pci/msix.ts";
import type {
  GuestFault,
  HandlerFactory,
  IoEnvironment,
  QueueHandler,
  VirtioDeviceDescriptor,
} from "./device.ts";
import { DeviceEnvironment } from "./device_environment.ts";
import { hasFeature, VIRTIO_F_RING_EVENT_IDX, VIRTIO_F_RING_INDIRECT_DESC } from "./features.ts";
import {
  attachVirtioPci,
  Lifecycle,
  QUEUE_WORDS,
  QueueWord,
  resetRegisters,
  VirtioPciHead,
  type VirtioPciState,
} from "./pci/block.ts";
import { VIRTIO_STATUS_DRIVER_OK, VIRTIO_STATUS_NEEDS_RESET } from "./pci/layout.ts";
import { SplitQueue } from "./queue/split.ts";

/** What the Worker gives every device. */
export interface RunnerServices {
  readonly memory: GuestMemory;
  readonly interrupts: MessageInterrupts;
  readonly env: IoEnvironment;
}

const LIFECYCLE = VirtioPciHead.index.lifecycle;
const KICKED = VirtioPciHead.index.kicked;

/** The order that makes a device tell its driver of new config bytes; the runner handles it for every device. */
export const CONFIG_CHANGED = "config-changed";

export class DeviceRunner {
  readonly id: string;
  readonly #state: VirtioPciState;
  readonly #msix: MsixTable;
  readonly #env: DeviceEnvironment;
  #handler: QueueHandler | undefined;
  #queues: readonly SplitQueue[] = [];
  #paused = false;
  /** Depth of calls into the handler; a failure inside one takes effect when it returns. */
  #depth = 0;
  #failure: GuestFault | undefined;

  constructor(
    private readonly descriptor: VirtioDeviceDescriptor,
    private readonly start: HandlerFactory,
    private readonly services: RunnerServices,
    /** True for a device of a VM that starts paused (restore): nothing happens before `resume`. */
    paused = false,
  ) {
    this.id = descriptor.id;
    this.#state = attachVirtioPci(descriptor.block);
    this.#msix = new MsixTable(this.#state, services.interrupts);
    this.#env = new DeviceEnvironment(services.env, (call) => this.#guard(call));
    if (paused) {
      this.#paused = true;
      this.#env.pause();
    }
  }

  /** True while the handler runs (paused or not). */
  get active(): boolean {
    return this.#handler !== undefined;
  }

  /** Looks at what vCPUs left in the block: activation, reset, notifications. Cheap when there is nothing. */
  poll(): void {
    if (this.#paused) return;
    const lifecycle = Atomics.load(this.#state.words, LIFECYCLE);
    if (lifecycle === Lifecycle.activate) this.#activate();
    else if (lifecycle === Lifecycle.reset) this.#reset();
    if (Atomics.load(this.#state.words, KICKED) !== 0) this.#takeKicks();
  }

  /** The guest notified queue `index`. A queue the driver broke fails the device, whoever finds it. Before activation and while paused it is enough that `resume` looks again. */
  kick(index: number): void {
    const handler = this.#handler;
    if (handler === undefined || this.#paused || index >= this.#queues.length) return;
    this.#depth++;
    try {
      handler.onKick(index);
    } catch (error) {
      this.#bug(error);
    }
    const { fault } = this.#queues[index];
    if (fault !== undefined) this.#failure ??= fault;
    this.#left();
  }

  /** Finishes what is in flight and writes the indices to the block. vCPUs have stopped before. */
  pause(): void {
    if (this.#paused) return;
    this.poll();
    this.#drain();
    this.#paused = true;
    this.#env.pause();
  }

  /** Goes on after `pause`. */
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#env.resume();
    this.poll();
    this.#kickAll();
  }

  /** An order of main. A device that is not started answers undefined; `CONFIG_CHANGED` always works. */
  command(command: { kind: string } & Record<string, unknown>): unknown {
    if (command.kind === CONFIG_CHANGED) {
      this.#interruptConfig();
      return undefined;
    }
    return this.#guard(() => this.#handler?.onCommand?.(command));
  }

  /** The device goes away (hot-unplug, shutdown). */
  remove(): void {
    this.#stop();
  }

  #activate(): void {
    const queues = this.#openQueues();
    if (!Array.isArray(queues)) {
      this.#fail(queues as GuestFault);
      return;
    }
    this.#queues = queues;
    if (!this.#become(Lifecycle.activate, Lifecycle.active)) {
      this.poll(); // a reset came first
      return;
    }
    this.#guard(() => {
      this.#handler = this.start({
        id: this.id,
        memory: this.services.memory,
        queues,
        featuresLow: this.#state.acceptedLow,
        featuresHigh: this.#state.acceptedHigh,
        backend: this.descriptor.backend,
        env: this.#env,
        config: this.#state.deviceConfig.subarray(0, this.#state.configLength),
        interruptQueue: (index) => this.#interruptQueue(index),
        interruptConfig: () => this.#interruptConfig(),
        fail: (fault) => this.#fail(fault),
      });
    });
    if (this.#handler === undefined) return;
    this.services.env.post({ kind: "virtio", id: this.id, event: "activated" });
    this.#kickAll();
  }

  #openQueues(): readonly SplitQueue[] | GuestFault {
    const { queues: words, queueCount, acceptedLow, acceptedHigh } = this.#state;
    const queues: SplitQueue[] = [];
    for (let i = 0; i < queueCount; i++) {
      const at = i * QUEUE_WORDS;
      if (words[at + QueueWord.enabled] === 0) {
        queues.push(SplitQueue.disabled());
        continue;
      }
      const queue = SplitQueue.create(this.services.memory, {
        size: words[at + QueueWord.size],
        descriptors: address(words, at + QueueWord.descLow),
        driver: address(words, at + QueueWord.driverLow),
        device: address(words, at + QueueWord.deviceLow),
        eventIndex: hasFeature(acceptedLow, acceptedHigh, VIRTIO_F_RING_EVENT_IDX),
        indirect: hasFeature(acceptedLow, acceptedHigh, VIRTIO_F_RING_INDIRECT_DESC),
        nextAvail: words[at + QueueWord.nextAvail],
        nextUsed: words[at + QueueWord.nextUsed],
      });
      if (!(queue instanceof SplitQueue)) return { fault: `queue ${i}: ${queue.fault}` };
      queues.push(queue);
    }
    return queues;
  }

  #takeKicks(): void {
    Atomics.store(this.#state.words, KICKED, 0);
    for (let i = 0; i < this.#state.queueCount; i++) {
      const word = i * QUEUE_WORDS + QueueWord.kick;
      if (Atomics.exchange(this.#state.queues, word, 0) !== 0) this.kick(i);
    }
  }

  #kickAll(): void {
    for (let i = 0; i < this.#queues.length; i++) if (this.#queues[i].enabled) this.kick(i);
  }

  #reset(): void {
    const wasActive = this.#handler !== undefined;
    this.#stop();
    const { words } = this.#state;
    this.#state.lock();
    resetRegisters(this.#state);
    Atomics.store(words, LIFECYCLE, Lifecycle.idle);
    this.#state.unlock();
    Atomics.notify(words, LIFECYCLE);
    if (wasActive) this.services.env.post({ kind: "virtio", id: this.id, event: "reset" });
  }

  /** Drains and closes the handler; the guest may use its memory for other things afterwards. */
  #stop(): void {
    const handler = this.#handler;
    if (handler === undefined) return;
    this.#drain();
    this.#handler = undefined;
    this.#guard(() => handler.close());
    this.#env.forgetAll();
    this.#queues = [];
    this.#failure = undefined;
  }

  #drain(): void {
    const handler = this.#handler;
    if (handler === undefined) return;
    this.#guard(() => handler.drain());
    for (let i = 0; i < this.#queues.length; i++) {
      this.#state.queues[i * QUEUE_WORDS + QueueWord.nextAvail] = this.#queues[i].nextAvail;
      this.#state.queues[i * QUEUE_WORDS + QueueWord.nextUsed] = this.#queues[i].nextUsed;
    }
  }

  #interruptQueue(index: number): void {
    this.#msix.signal(this.#state.queues[index * QUEUE_WORDS + QueueWord.vector]);
  }

  #interruptConfig(): void {
    Atomics.add(this.#state.words, VirtioPciHead.index.configGeneration, 1);
    if ((this.#state.status & VIRTIO_STATUS_DRIVER_OK) !== 0) this.#msix.signal(this.#state.configVector);
  }

  /** Calls into the handler; what it throws breaks this device only. */
  #guard<T>(call: () => T): T | undefined {
    this.#depth++;
    let result: T | undefined;
    try {
      result = call();
    } catch (error) {
      this.#bug(error);
    }
    this.#left();
    return result;
  }

  #left(): void {
    if (--this.#depth > 0 || this.#failure === undefined) return;
    const failure = this.#failure;
    this.#failure = undefined;
    this.#fail(failure);
  }

  #bug(error: unknown): void {
    const text = error instanceof Error ? error.stack ?? error.message : String(error);
    this.#log("error", `Device "${this.id}" failed: ${text}`);
    this.#failure ??= { fault: "internal error" };
  }

  /** The driver broke the rules, or we did: the device needs a reset. */
  #fail(fault: GuestFault): void {
    if (this.#depth > 0) {
      this.#failure ??= fault;
      return;
    }
    this.#stop();
    if (
      !this.#become(Lifecycle.active, Lifecycle.failed) && !this.#become(Lifecycle.activate, Lifecycle.failed)
    ) {
      return; // already failed, or being reset
    }
    this.#state.lock();
    this.#state.status |= VIRTIO_STATUS_NEEDS_RESET;
    this.#state.faults += 1;
    this.#state.unlock();
    this.#log("warn", `Device "${this.id}" needs a reset: ${fault.fault}`);
    this.#interruptConfig();
  }

  #become(from: number, to: number): boolean {
    return Atomics.compareExchange(this.#state.words, LIFECYCLE, from, to) === from;
  }

  #log(level: "error" | "warn", text: string): void {
    this.services.env.post({ kind: "log", level, key: `virtio:${this.id}`, text });
  }
}

function address(words: Uint32Array, low: number): number {
  return words[low] + words[low + 1] * 0x1_0000_0000;
}
