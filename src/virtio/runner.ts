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
import { VIRTIO_IOMMU_MAP_F_READ, VIRTIO_IOMMU_MAP_F_WRITE } from "./iommu/spec.ts";
import { RingMirror } from "./iommu/ring_mirror.ts";
import { EndpointTranslation } from "./iommu/translation.ts";
import { VIRTIO_STATUS_DRIVER_OK, VIRTIO_STATUS_NEEDS_RESET } from "./pci/layout.ts";
import { availBytes, DESCRIPTOR_SIZE, SplitQueue, type SplitQueueLayout, usedBytes } from "./queue/split.ts";

/** What the Worker gives every device. */
export interface RunnerServices {
  readonly memory: GuestMemory;
  readonly interrupts: MessageInterrupts;
  readonly env: IoEnvironment;
}

/**
 * A device whose queues are shared out: each share has a runner with a handler of its own, in a Worker of its own. Share 0
 * leads: it starts and resets the device. The others follow the lifecycle word, and it waits for them before a reset is done.
 */
export interface RunnerShare {
  readonly number: number;
  readonly queues: readonly number[];
  /** A word per share: 1 while its handler may touch guest memory. The same array in all Workers. */
  readonly running: Int32Array;
  /** Makes the Worker of another share look at the device. */
  wake(share: number): void;
}

const LEADER = 0;

const LIFECYCLE = VirtioPciHead.index.lifecycle;
const KICKED = VirtioPciHead.index.kicked;

/** The order that makes a device tell its driver of new config bytes; the runner handles it for every device. */
export const CONFIG_CHANGED = "config-changed";

export class DeviceRunner {
  readonly id: string;
  readonly #state: VirtioPciState;
  readonly #msix: MsixTable;
  readonly #env: DeviceEnvironment;
  /** Set behind the virtual IOMMU: every address the driver gives goes through it. */
  readonly #translation: EndpointTranslation | undefined;
  #handler: QueueHandler | undefined;
  #queues: readonly SplitQueue[] = [];
  #paused = false;
  /** Depth of calls into the handler; a failure inside one takes effect when it returns. */
  #depth = 0;
  #failure: GuestFault | undefined;
  /** A started device is being reset: main is told when that is done. */
  #tellsReset = false;

  constructor(
    private readonly descriptor: VirtioDeviceDescriptor,
    private readonly start: HandlerFactory,
    private readonly services: RunnerServices,
    /** True for a device of a VM that starts paused (restore): nothing happens before `resume`. */
    paused = false,
    /** Absent: this runner has all queues. */
    private readonly share?: RunnerShare,
  ) {
    this.id = descriptor.id;
    this.#state = attachVirtioPci(descriptor.block);
    this.#msix = new MsixTable(this.#state, services.interrupts);
    this.#env = new DeviceEnvironment(services.env, (call) => this.#guard(call));
    this.#translation = descriptor.iommu && new EndpointTranslation(descriptor.iommu);
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
    const { share } = this;
    if (share !== undefined && share.number !== LEADER) {
      this.#follow(share, lifecycle);
      return;
    }
    if (lifecycle === Lifecycle.activate) this.#activate();
    else if (lifecycle === Lifecycle.reset) this.#reset();
    else if (lifecycle === Lifecycle.failed) this.#stop(); // by another share
    if (Atomics.load(this.#state.words, KICKED) !== 0) this.#takeKicks();
  }

  /** Does what the leader or the driver has brought about. */
  #follow(share: RunnerShare, lifecycle: number): void {
    if (lifecycle !== Lifecycle.active) {
      this.#stop();
      this.#setRunning(0);
      return;
    }
    if (this.#handler === undefined && this.#setRunning(1)) {
      // The leader waits for this share from here on, unless it reset the device before it could know.
      if (Atomics.load(this.#state.words, LIFECYCLE) !== Lifecycle.active) {
        this.#setRunning(0);
        return;
      }
      const queues = this.#openQueues();
      if (Array.isArray(queues)) this.#run(queues);
      else this.#fail(queues as GuestFault);
    }
    for (const index of share.queues) {
      const word = index * QUEUE_WORDS + QueueWord.kick;
      if (Atomics.exchange(this.#state.queues, word, 0) !== 0) this.kick(index);
    }
  }

  /** Says whether this share's handler runs; false if that had been said already. Who waits for its end is woken. */
  #setRunning(value: 0 | 1): boolean {
    const { share } = this;
    if (share === undefined || share.number === LEADER) return true;
    if (Atomics.exchange(share.running, share.number, value) === value) return false;
    if (value === 0) share.wake(LEADER);
    return true;
  }

  /** Makes all other shares look. */
  #wakeOthers(): void {
    const { share } = this;
    if (share === undefined) return;
    for (let other = 0; other < share.running.length; other++) if (other !== share.number) share.wake(other);
  }

  #owns(queue: number): boolean {
    return this.share === undefined || this.share.queues.includes(queue);
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
    this.#setRunning(0);
  }

  #activate(): void {
    const queues = this.#openQueues();
    if (!Array.isArray(queues)) {
      this.#fail(queues as GuestFault);
      return;
    }
    if (!this.#become(Lifecycle.activate, Lifecycle.active)) {
      this.poll(); // a reset came first
      return;
    }
    this.#wakeOthers();
    this.#run(queues);
  }

  /** Starts the handler; requests may be waiting. */
  #run(queues: readonly SplitQueue[]): void {
    this.#queues = queues;
    const number = this.share?.number ?? LEADER;
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
        share: number,
      });
    });
    if (this.#handler === undefined) return;
    if (number === LEADER) this.services.env.post({ kind: "virtio", id: this.id, event: "activated" });
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
      if (!this.#owns(i)) {
        queues.push(SplitQueue.disabled(words[at + QueueWord.nextAvail]));
        continue;
      }
      const queue = this.#openQueue(at, {
        size: words[at + QueueWord.size],
        eventIndex: hasFeature(acceptedLow, acceptedHigh, VIRTIO_F_RING_EVENT_IDX),
        indirect: hasFeature(acceptedLow, acceptedHigh, VIRTIO_F_RING_INDIRECT_DESC),
        nextAvail: words[at + QueueWord.nextAvail],
        nextUsed: words[at + QueueWord.nextUsed],
      });
      if (!(queue instanceof SplitQueue)) return { ...queue, fault: `queue ${i}: ${queue.fault}` };
      queues.push(queue);
    }
    return queues;
  }

  /** Opens the queue at word `at`, whose rings the driver may have given in addresses of the device. */
  #openQueue(
    at: number,
    given: Omit<SplitQueueLayout, "descriptors" | "driver" | "device">,
  ): SplitQueue | GuestFault {
    const { queues: words } = this.#state;
    const { memory } = this.services;
    const translation = this.#translation;
    if (translation === undefined) {
      return SplitQueue.create(memory, {
        ...given,
        descriptors: address(words, at + QueueWord.descLow),
        driver: address(words, at + QueueWord.driverLow),
        device: address(words, at + QueueWord.deviceLow),
      });
    }
    const find = (low: number, lengthBytes: number, access: number) =>
      translation.findAll(words[at + low + 1], words[at + low], lengthBytes, access);
    const both = VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE;
    const table = find(QueueWord.descLow, DESCRIPTOR_SIZE * given.size, VIRTIO_IOMMU_MAP_F_READ);
    const available = table && find(QueueWord.driverLow, availBytes(given), VIRTIO_IOMMU_MAP_F_READ);
    const used = available && find(QueueWord.deviceLow, usedBytes(given), both);
    if (used === undefined) {
      return { fault: "a ring is not mapped for the device", refused: translation.refused };
    }
    if (table!.length + available!.length + used.length === 3) {
      const layout = { ...given, descriptors: table![0].gpa, driver: available![0].gpa, device: used[0].gpa };
      return SplitQueue.create(memory, layout, translation);
    }
    const mirror = RingMirror.create(memory, table!, available!, used);
    if (mirror === undefined) return { fault: "a ring lies outside RAM, or is not aligned" };
    const { descriptors, driver, device } = mirror;
    return SplitQueue.create(memory, { ...given, descriptors, driver, device }, translation, mirror);
  }

  #takeKicks(): void {
    Atomics.store(this.#state.words, KICKED, 0);
    for (let i = 0; i < this.#state.queueCount; i++) {
      if (!this.#owns(i)) continue;
      const word = i * QUEUE_WORDS + QueueWord.kick;
      if (Atomics.exchange(this.#state.queues, word, 0) !== 0) this.kick(i);
    }
    this.#wakeOthers();
  }

  #kickAll(): void {
    for (let i = 0; i < this.#queues.length; i++) if (this.#queues[i].enabled) this.kick(i);
  }

  #reset(): void {
    if (this.#handler !== undefined) this.#tellsReset = true;
    this.#stop();
    if (this.share?.running.some((_, other) => Atomics.load(this.share!.running, other) !== 0)) {
      this.#wakeOthers();
      return; // the last share to stop wakes this one
    }
    const { words } = this.#state;
    this.#state.lock();
    resetRegisters(this.#state);
    Atomics.store(words, LIFECYCLE, Lifecycle.idle);
    this.#state.unlock();
    Atomics.notify(words, LIFECYCLE);
    if (this.#tellsReset) this.services.env.post({ kind: "virtio", id: this.id, event: "reset" });
    this.#tellsReset = false;
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
      if (!this.#owns(i)) continue;
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
    const isNew = this.#become(Lifecycle.active, Lifecycle.failed) ||
      this.#become(Lifecycle.activate, Lifecycle.failed);
    this.#setRunning(0);
    if (!isNew) return; // already failed, or being reset
    this.#wakeOthers();
    this.#state.lock();
    this.#state.status |= VIRTIO_STATUS_NEEDS_RESET;
    this.#state.faults += 1;
    this.#state.unlock();
    this.#log("warn", `Device "${this.id}" needs a reset: ${fault.fault}`);
    const { iommu } = this.descriptor;
    if (iommu !== undefined && fault.refused !== undefined) {
      this.services.env.post({ kind: "iommu-fault", endpoint: iommu.endpoint, ...fault.refused });
    }
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
