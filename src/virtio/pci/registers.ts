/**
 * The registers of BAR0: common configuration, ISR, device configuration, notifications, MSI-X.
 *
 * L3, runs in the vCPU Worker that took the exit, over the shared block; allocates nothing. Reads that name no register of
 * that width give 0, as with the original (32-bit reads answer at 0, 4 and 8 only).
 * Source: virtio 1.2 §3.1, §4.1.4.3–§4.1.4.6; `machine-model` of the original for what it leaves open.
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { IoWake } from "@vmm/bus/ports.ts";
import { MSIX_NO_VECTOR, type MsixTable } from "@vmm/pci/msix.ts";
import { hasFeature, VIRTIO_F_VERSION_1 } from "../features.ts";
import {
  ConfigWrite,
  Lifecycle,
  QUEUE_WORDS,
  QueueWord,
  resetRegisters,
  VirtioPciHead,
  type VirtioPciState,
} from "./block.ts";
import {
  Common,
  COMMON_SIZE,
  DEVICE_OFFSET,
  DEVICE_SIZE,
  ISR_OFFSET,
  MSIX_PENDING_OFFSET,
  MSIX_PENDING_SIZE,
  MSIX_TABLE_OFFSET,
  MSIX_TABLE_SIZE,
  NOTIFY_MULTIPLIER,
  NOTIFY_OFFSET,
  NOTIFY_SIZE,
  STATUS_READY,
  VIRTIO_STATUS_FAILED,
  VIRTIO_STATUS_FEATURES_OK,
  VIRTIO_STATUS_NEEDS_RESET,
} from "./layout.ts";

/** How long a reset waits for the I/O Worker. Later the guest sees the old status until the reset is done. */
const RESET_TIMEOUT_MS = 5000;

/** How long a write to the device configuration waits for a back-end. */
const CONFIG_TIMEOUT_MS = 1000;

const LIFECYCLE = VirtioPciHead.index.lifecycle;
const CONFIG_WRITE = VirtioPciHead.index.configWrite;
const KICKED = VirtioPciHead.index.kicked;

/** Word of a queue behind each 32-bit address register. */
const ADDRESS_WORDS: Record<number, number> = {
  [Common.queueDescLow]: QueueWord.descLow,
  [Common.queueDescHigh]: QueueWord.descHigh,
  [Common.queueDriverLow]: QueueWord.driverLow,
  [Common.queueDriverHigh]: QueueWord.driverHigh,
  [Common.queueDeviceLow]: QueueWord.deviceLow,
  [Common.queueDeviceHigh]: QueueWord.deviceHigh,
};

export class VirtioPciRegisters implements IoDevice {
  constructor(
    private readonly state: VirtioPciState,
    private readonly msix: MsixTable,
    private readonly wake: IoWake,
    private readonly resetTimeoutMs = RESET_TIMEOUT_MS,
  ) {}

  read(offset: number, size: 1 | 2 | 4): number {
    if (offset < COMMON_SIZE) return this.#readCommon(offset, size);
    if (inWindow(offset, DEVICE_OFFSET, DEVICE_SIZE)) return this.#readConfig(offset - DEVICE_OFFSET, size);
    if (inWindow(offset, MSIX_TABLE_OFFSET, MSIX_TABLE_SIZE)) {
      return this.msix.readTable(offset - MSIX_TABLE_OFFSET, size);
    }
    if (inWindow(offset, MSIX_PENDING_OFFSET, MSIX_PENDING_SIZE)) {
      return this.msix.readPending(offset - MSIX_PENDING_OFFSET, size);
    }
    return offset === ISR_OFFSET ? Atomics.exchange(this.state.words, VirtioPciHead.index.isr, 0) : 0;
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    if (inWindow(offset, NOTIFY_OFFSET, NOTIFY_SIZE)) {
      this.#notify((offset - NOTIFY_OFFSET) / NOTIFY_MULTIPLIER | 0);
    } else if (offset === Common.status && size === 1) this.#writeStatus(value);
    else if (offset < COMMON_SIZE) this.#writeCommon(offset, size, value);
    else if (inWindow(offset, DEVICE_OFFSET, DEVICE_SIZE)) {
      this.#writeConfig(offset - DEVICE_OFFSET, size, value);
    } else if (inWindow(offset, MSIX_TABLE_OFFSET, MSIX_TABLE_SIZE)) {
      this.state.lock();
      this.msix.writeTable(offset - MSIX_TABLE_OFFSET, size, value);
      this.state.unlock();
      this.vectorsChanged();
    }
  }

  /** Messages, masks or vectors are others now. */
  vectorsChanged(): void {
    if (this.state.vectorsFollowed !== 0) this.wake.wake();
  }

  /** A notification that no ioeventfd took. */
  #notify(index: number): void {
    if (index >= this.state.queueCount) return;
    Atomics.store(this.state.queues, index * QUEUE_WORDS + QueueWord.kick, 1);
    Atomics.store(this.state.words, KICKED, 1);
    this.wake.wake();
  }

  #readCommon(offset: number, size: number): number {
    const { state } = this;
    if (size === 1) {
      if (offset === Common.status) return state.status;
      return offset === Common.configGeneration ? state.configGeneration & 0xff : 0;
    }
    if (size === 4) {
      if (offset === Common.deviceFeatureSelect) return state.deviceFeatureSelect;
      if (offset === Common.deviceFeature) return offered(state);
      return offset === Common.driverFeatureSelect ? state.driverFeatureSelect : 0;
    }
    switch (offset) {
      case Common.configVector:
        return state.configVector;
      case Common.numQueues:
        return state.queueCount;
      case Common.queueSelect:
        return state.queueSelect;
      case Common.queueSize:
        return this.#queue(QueueWord.size, 0);
      case Common.queueVector:
        return this.#queue(QueueWord.vector, MSIX_NO_VECTOR);
      case Common.queueEnable:
        return this.#queue(QueueWord.enabled, 0);
      case Common.queueNotifyOff:
        return state.queueSelect;
      default:
        return 0;
    }
  }

  #queue(word: number, otherwise: number): number {
    const { state } = this;
    return state.queueSelect < state.queueCount
      ? state.queues[state.queueSelect * QUEUE_WORDS + word]
      : otherwise;
  }

  #writeCommon(offset: number, size: number, value: number): void {
    const { state } = this;
    state.lock();
    // as long as no driver has said that it is there, the device stays as reset left it
    if (state.status !== 0 && Atomics.load(state.words, LIFECYCLE) !== Lifecycle.reset) {
      if (size === 2) this.#writeWord(offset, value);
      else if (size === 4) this.#writeDoubleWord(offset, value);
    }
    state.unlock();
    if (offset === Common.queueVector) this.vectorsChanged();
  }

  #writeWord(offset: number, value: number): void {
    const { state } = this;
    const queue = state.queueSelect < state.queueCount ? state.queueSelect * QUEUE_WORDS : -1;
    const idle = state.lifecycle === Lifecycle.idle;
    const vector = value < state.msixVectors ? value : MSIX_NO_VECTOR;
    if (offset === Common.configVector) state.configVector = vector;
    else if (offset === Common.queueSelect) state.queueSelect = value;
    else if (queue < 0) return;
    else if (offset === Common.queueVector) state.queues[queue + QueueWord.vector] = vector;
    else if (!idle) return; // sizes and addresses belong to the running device
    else if (offset === Common.queueSize) {
      const powerOfTwo = value > 0 && (value & (value - 1)) === 0;
      if (powerOfTwo && value <= state.queues[queue + QueueWord.maxSize]) {
        state.queues[queue + QueueWord.size] = value;
      }
    } else if (offset === Common.queueEnable) {
      state.queues[queue + QueueWord.enabled] = value === 1 ? 1 : 0;
      this.#activateIfReady();
    }
  }

  #writeDoubleWord(offset: number, value: number): void {
    const { state } = this;
    if (offset === Common.deviceFeatureSelect) state.deviceFeatureSelect = value;
    else if (offset === Common.driverFeatureSelect) state.driverFeatureSelect = value;
    else if (offset === Common.driverFeature) {
      if ((state.status & VIRTIO_STATUS_FEATURES_OK) !== 0) return;
      // bits that were never offered are dropped rather than refused
      if (state.driverFeatureSelect === 0) state.acceptedLow = (value & state.offeredLow) >>> 0;
      else if (state.driverFeatureSelect === 1) state.acceptedHigh = (value & state.offeredHigh) >>> 0;
    } else if (state.lifecycle === Lifecycle.idle && state.queueSelect < state.queueCount) {
      const word = ADDRESS_WORDS[offset];
      if (word !== undefined) state.queues[state.queueSelect * QUEUE_WORDS + word] = value;
    }
  }

  #writeStatus(value: number): void {
    const { state } = this;
    if (value === 0) {
      this.#reset();
      return;
    }
    state.lock();
    if (Atomics.load(state.words, LIFECYCLE) !== Lifecycle.reset) {
      const before = state.status;
      let next = value | (before & VIRTIO_STATUS_NEEDS_RESET);
      const negotiated = (next & ~before & VIRTIO_STATUS_FEATURES_OK) !== 0;
      if (negotiated && !hasFeature(state.acceptedLow, state.acceptedHigh, VIRTIO_F_VERSION_1)) {
        next &= ~VIRTIO_STATUS_FEATURES_OK;
      }
      state.status = next;
      this.#activateIfReady();
    }
    state.unlock();
  }

  /** Hands the device to the I/O Worker once the driver is ready and a queue is enabled. */
  #activateIfReady(): void {
    const { state } = this;
    const broken = (state.status & (VIRTIO_STATUS_FAILED | VIRTIO_STATUS_NEEDS_RESET)) !== 0;
    if ((state.status & STATUS_READY) !== STATUS_READY || broken) return;
    if (state.lifecycle !== Lifecycle.idle) return;
    for (let i = 0; i < state.queueCount; i++) {
      if (state.queues[i * QUEUE_WORDS + QueueWord.enabled] === 0) continue;
      Atomics.store(state.words, LIFECYCLE, Lifecycle.activate);
      this.wake.wake();
      return;
    }
  }

  /** Resets at once, or has the I/O Worker do it when the device was started, and waits. */
  #reset(): void {
    const { state } = this;
    state.lock();
    if (state.lifecycle === Lifecycle.idle) {
      resetRegisters(state);
      state.unlock();
      return;
    }
    Atomics.store(state.words, LIFECYCLE, Lifecycle.reset);
    state.unlock();
    this.wake.wake();
    Atomics.wait(state.words, LIFECYCLE, Lifecycle.reset, this.resetTimeoutMs);
  }

  #readConfig(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) {
      const byte = offset + i < this.state.configLength ? this.state.deviceConfig[offset + i] : 0;
      value = (value << 8) | byte;
    }
    return value >>> 0;
  }

  /** A write that touches a byte the driver may not change is dropped whole. */
  #writeConfig(offset: number, size: number, value: number): void {
    const { state } = this;
    for (let i = 0; i < size; i++) {
      if (offset + i >= state.configLength || state.configWritable[offset + i] === 0) return;
    }
    state.lock();
    for (let i = 0; i < size; i++) {
      const mask = state.configWritable[offset + i];
      const old = state.deviceConfig[offset + i];
      state.deviceConfig[offset + i] = (old & ~mask) | ((value >>> (8 * i)) & mask);
    }
    state.unlock();
    if (state.configForwarded !== 0) this.#forwardConfig();
  }

  /** Has the I/O Worker pass the configuration on, and waits: the driver may read at once what its write brought about. */
  #forwardConfig(): void {
    const { words } = this.state;
    Atomics.store(words, CONFIG_WRITE, ConfigWrite.posted);
    this.wake.wake();
    for (let now = ConfigWrite.posted as number; now !== ConfigWrite.none;) {
      if (Atomics.wait(words, CONFIG_WRITE, now, CONFIG_TIMEOUT_MS) === "timed-out") return;
      now = Atomics.load(words, CONFIG_WRITE);
    }
  }
}

function inWindow(offset: number, base: number, sizeBytes: number): boolean {
  return offset >= base && offset < base + sizeBytes;
}

function offered(state: VirtioPciState): number {
  if (state.deviceFeatureSelect === 0) return state.offeredLow;
  return state.deviceFeatureSelect === 1 ? state.offeredHigh : 0;
}
