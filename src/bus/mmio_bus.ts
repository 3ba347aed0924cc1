/**
 * Memory-mapped I/O: sorted windows, the last one hit first.
 *
 * L3, one per vCPU Worker; an access allocates nothing. Windows move when the guest moves a BAR, possibly on another vCPU:
 * the shared generation word says when to read them again.
 * Source: KVM_EXIT_MMIO in Documentation/virt/kvm/api.rst.
 */
import { BusBlock, type BusState } from "./bus_block.ts";
import type { IoDevice } from "./io_device.ts";
import { fillOnes, transfer } from "./operand.ts";

interface MmioWindow {
  readonly base: number;
  readonly end: number;
  readonly device: IoDevice;
}

/** Dispatches MMIO accesses of one vCPU. */
export class MmioBus {
  #windows: MmioWindow[] = [];
  #last: MmioWindow | undefined;
  #generation: number;

  /** `refill` adds every window there is now; it is called at once and whenever the generation moved. */
  constructor(private readonly state: BusState, private readonly refill: (bus: MmioBus) => void) {
    this.#generation = this.#current();
    this.#read();
  }

  /** Adds a window; only `refill` calls this. Of windows that overlap the one added first wins its start. */
  add(base: number, sizeBytes: number, device: IoDevice): void {
    const window = { base, end: base + sizeBytes, device };
    let at = this.#windows.length;
    while (at > 0 && this.#windows[at - 1].base > base) at--;
    this.#windows.splice(at, 0, window);
  }

  /** One exit: `size` operand bytes at `dataOffset` of `view`. */
  access(gpa: number, view: DataView, dataOffset: number, size: number, isWrite: boolean): void {
    if (this.#current() !== this.#generation) {
      this.#generation = this.#current();
      this.#read();
    }
    const window = this.#find(gpa);
    if (window === undefined) {
      if (!isWrite) fillOnes(view, dataOffset, size);
      Atomics.add(this.state.words, BusBlock.index.unassignedMmio, 1);
    } else if (gpa + size <= window.end) {
      transfer(window.device, gpa - window.base, view, dataOffset, size, isWrite);
    } else {
      for (let i = 0; i < size; i++) this.access(gpa + i, view, dataOffset + i, 1, isWrite);
    }
  }

  #current(): number {
    return Atomics.load(this.state.words, BusBlock.index.generation);
  }

  #read(): void {
    this.#windows = [];
    this.#last = undefined;
    this.refill(this);
  }

  #find(gpa: number): MmioWindow | undefined {
    const last = this.#last;
    if (last !== undefined && gpa >= last.base && gpa < last.end) return last;
    let low = 0;
    let high = this.#windows.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#windows[middle].base <= gpa) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return undefined;
    const window = this.#windows[low - 1];
    if (gpa >= window.end) return undefined;
    this.#last = window;
    return window;
  }
}
