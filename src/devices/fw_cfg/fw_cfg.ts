/**
 * Firmware configuration device: selector, data and DMA registers at ports, and the service that carries DMA out.
 *
 * L4: `FwCfgPorts` runs in vCPU Workers, `FwCfgDma` in the I/O Worker, which has guest memory. A vCPU that starts a DMA waits
 * for it: firmware may look at the result at once. Source: QEMU docs/specs/fw_cfg.rst.
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { ItemSource } from "@vmm/bus/item_source.ts";
import type { IoWake } from "@vmm/bus/ports.ts";
import type { GuestMemory } from "@vmm/memory/guest_memory.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";
import * as spec from "./spec.ts";

/** Values of `dma`: a vCPU moves none → posted, the I/O Worker posted → none. */
const Dma = { none: 0, posted: 1 } as const;

export const FwCfgBlock = defineBlock("fw-cfg", {
  key: "u32",
  offset: "u32",
  dmaHigh: "u32",
  dmaLow: "u32",
  dma: "u32",
});
export type FwCfgState = BlockOf<typeof FwCfgBlock>;

const DMA = FwCfgBlock.index.dma;
/** How long a vCPU waits for its DMA. */
const DMA_TIMEOUT_MS = 5000;
const CACHE_BYTES = 4096;
const HIGH = 0x1_0000_0000;
const MAX_U32 = 0xffff_ffff;

function swap(value: number): number {
  return (value << 24 | (value & 0xff00) << 8 | value >>> 8 & 0xff00 | value >>> 24) >>> 0;
}

/** The twelve ports. */
export class FwCfgPorts implements IoDevice {
  readonly #cache = new Uint8Array(CACHE_BYTES);
  #cachedKey = -1;
  #cachedFrom = 0;

  constructor(
    private readonly state: FwCfgState,
    private readonly items: ItemSource,
    private readonly wake: IoWake,
  ) {}

  read(offset: number, size: 1 | 2 | 4): number {
    if (offset === spec.Port.data && size === 1) return this.#next();
    if (offset < spec.Port.dmaHigh) return 0;
    let value = 0;
    for (let i = size - 1; i >= 0; i--) {
      value = value << 8 | spec.FW_CFG_SIGNATURE.charCodeAt(offset - spec.Port.dmaHigh + i);
    }
    return value >>> 0;
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    const { state } = this;
    if (offset === spec.Port.selector && size === 2) {
      state.lock();
      state.key = value;
      state.offset = 0;
      state.unlock();
    } else if (offset === spec.Port.dmaHigh && size === 4) {
      state.dmaHigh = swap(value);
    } else if (offset === spec.Port.dmaLow && size === 4) {
      state.dmaLow = swap(value);
      this.#startDma();
    }
  }

  #startDma(): void {
    const { words } = this.state;
    if (Atomics.compareExchange(words, DMA, Dma.none, Dma.posted) !== Dma.none) return;
    this.wake.wake();
    Atomics.wait(words, DMA, Dma.posted, DMA_TIMEOUT_MS);
  }

  /** The next byte of the selected item; zeros behind its end. */
  #next(): number {
    const { state } = this;
    state.lock();
    const { key, offset } = state;
    const inside = offset < this.items.sizeOf(key);
    if (inside) state.offset = offset + 1;
    state.unlock();
    return inside ? this.#byte(key, offset) : 0;
  }

  #byte(key: number, offset: number): number {
    if (key !== this.#cachedKey || offset < this.#cachedFrom || offset >= this.#cachedFrom + CACHE_BYTES) {
      this.#cachedKey = key;
      this.#cachedFrom = offset;
      const length = Math.min(CACHE_BYTES, this.items.sizeOf(key) - offset);
      if (!this.items.read(key, offset, this.#cache.subarray(0, length))) this.#cachedKey = -1;
    }
    return this.#cachedKey < 0 ? 0 : this.#cache[offset - this.#cachedFrom];
  }
}

/** Carries out DMA requests. */
export class FwCfgDma {
  constructor(
    private readonly state: FwCfgState,
    private readonly items: ItemSource,
    private readonly memory: GuestMemory,
  ) {}

  /** vCPUs may have left a request. Cheap when they have not. */
  poll(): void {
    const { words } = this.state;
    if (Atomics.load(words, DMA) !== Dma.posted) return;
    const gpa = this.state.dmaHigh * HIGH + this.state.dmaLow;
    this.state.dmaHigh = 0;
    const access = this.memory.bytes(gpa, spec.DmaAccess.size);
    if (access !== undefined) {
      const view = new DataView(access.buffer, access.byteOffset, spec.DmaAccess.size);
      const ok = this.#carryOut(
        view.getUint32(spec.DmaAccess.control),
        view.getUint32(spec.DmaAccess.length),
        view.getUint32(spec.DmaAccess.address) * HIGH + view.getUint32(spec.DmaAccess.address + 4),
      );
      view.setUint32(spec.DmaAccess.control, ok ? 0 : spec.DMA_ERROR);
    }
    Atomics.store(words, DMA, Dma.none);
    Atomics.notify(words, DMA);
  }

  #carryOut(control: number, lengthBytes: number, gpa: number): boolean {
    const { state } = this;
    if ((control & spec.DMA_SELECT) !== 0) {
      state.key = control >>> 16;
      state.offset = 0;
    }
    const ok = (control & spec.DMA_READ) !== 0
      ? this.#read(lengthBytes, gpa)
      : (control & spec.DMA_WRITE) === 0; // items are read-only
    if (ok && (control & (spec.DMA_READ | spec.DMA_SKIP)) !== 0) {
      state.offset = Math.min(state.offset + lengthBytes, MAX_U32);
    }
    return ok;
  }

  /** Copies item bytes, and zeros behind its end. */
  #read(lengthBytes: number, gpa: number): boolean {
    const { key, offset } = this.state;
    const available = Math.max(0, this.items.sizeOf(key) - offset);
    for (let done = 0; done < lengthBytes;) {
      const region = this.memory.find(gpa + done, 1);
      if (region === undefined) return false;
      const room = Math.min(lengthBytes - done, region.end - gpa - done);
      const length = done < available ? Math.min(room, available - done) : room;
      const target = new Uint8Array(region.buffer, gpa + done - region.gpa, length);
      if (done >= available) target.fill(0);
      else if (!this.items.read(key, offset + done, target)) return false;
      done += length;
    }
    return true;
  }
}
