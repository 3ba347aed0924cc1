/**
 * MSI-X over a shared block: table, pending bits, masks, delivery.
 *
 * L3. vCPU Workers write the table, any thread signals. No lock: a message that finds its vector masked leaves a pending
 * bit and looks at the mask again; unmasking looks at the pending bits afterwards, so one of the two delivers it.
 * Source: PCI Local Bus 3.0 §6.8.2.
 */
import { allOnes } from "@vmm/bus/io_device.ts";
import type { MessageInterrupts } from "@vmm/bus/ports.ts";
import { PCI_MSIX_ENABLE, PCI_MSIX_FUNCTION_MASK } from "./layout.ts";

/** The fields of a device's block that MSI-X uses. */
export interface MsixState {
  /** Configuration bytes; message control lies at `msixCapability` + 2. */
  readonly config: Uint8Array;
  readonly msixCapability: number;
  readonly msixVectors: number;
  /** Per vector: address low, address high, data, vector control. */
  readonly msixTable: Uint32Array;
  /** One bit per vector. */
  readonly msixPending: Uint32Array;
}

/** "No vector" in registers that hold a vector number. */
export const MSIX_NO_VECTOR = 0xffff;

const ENTRY_WORDS = 4;
const CONTROL = 3;
/** Vectors per 64-bit entry of the pending bit array. */
const PENDING_UNIT = 64;
const VECTOR_MASKED = 1;

const EXTENDED_ID = 0xfe0;
const REMAPPABLE = 0x10;

/** True if address bits 5–11 carry an extended destination id (KVM_FEATURE_MSI_EXT_DEST_ID). */
function hasExtendedId(low: number, high: number): boolean {
  return high === 0 && (low & REMAPPABLE) === 0;
}

/** Address low as KVM takes it: without the extended destination id. */
export function kvmAddressLow(low: number, high: number): number {
  return hasExtendedId(low, high) ? (low & ~EXTENDED_ID) >>> 0 : low;
}

/** Address high as KVM takes it: the extended destination id in bits 8–14. */
export function kvmAddressHigh(low: number, high: number): number {
  return hasExtendedId(low, high) ? (low & EXTENDED_ID) << 3 : high;
}

/** One function's MSI-X. */
export class MsixTable {
  constructor(private readonly state: MsixState, private readonly interrupts: MessageInterrupts) {}

  /** Masks every vector: the state after power-on. */
  static reset(state: MsixState): void {
    state.msixTable.fill(0);
    for (let v = 0; v < state.msixVectors; v++) state.msixTable[v * ENTRY_WORDS + CONTROL] = VECTOR_MASKED;
    state.msixPending.fill(0);
  }

  /** Sends the message of `vector`, or remembers it while masked. Any thread; allocates nothing. */
  signal(vector: number): void {
    const { state } = this;
    if (vector >= state.msixVectors || (this.#control() & PCI_MSIX_ENABLE) === 0) return;
    if (!this.#masked(vector)) {
      this.#send(vector);
      return;
    }
    Atomics.or(state.msixPending, vector >>> 5, 1 << (vector & 31));
    if (!this.#masked(vector)) this.#flush(vector);
  }

  /** The message of `vector` as KVM takes it; undefined while it cannot be sent. */
  message(vector: number): { addressLow: number; addressHigh: number; data: number } | undefined {
    const enabled = vector < this.state.msixVectors && (this.#control() & PCI_MSIX_ENABLE) !== 0;
    if (!enabled || this.#masked(vector)) return undefined;
    const [low, high, data] = this.state.msixTable.subarray(vector * ENTRY_WORDS);
    return { addressLow: kvmAddressLow(low, high), addressHigh: kvmAddressHigh(low, high), data };
  }

  /** Guest access to the table; `offset` from its start. Partial words work; past the end it reads as ones. */
  readTable(offset: number, size: 1 | 2 | 4): number {
    return this.#within(offset, size)
      ? part(this.state.msixTable[offset >>> 2], offset, size)
      : allOnes(size);
  }

  writeTable(offset: number, size: 1 | 2 | 4, value: number): void {
    if (!this.#within(offset, size)) return;
    const word = offset >>> 2;
    const shift = 8 * (offset & 3);
    const mask = size === 4 ? 0xffff_ffff : ((1 << (8 * size)) - 1) << shift;
    const next = (this.state.msixTable[word] & ~mask) | ((value << shift) & mask);
    Atomics.store(this.state.msixTable, word, next >>> 0);
    if ((word & 3) === CONTROL) this.#flush(word >>> 2);
  }

  /** Guest read of the pending bits. */
  readPending(offset: number, size: 1 | 2 | 4): number {
    const word = offset >>> 2;
    const words = 2 * Math.ceil(this.state.msixVectors / PENDING_UNIT);
    if (word >= words || (offset & 3) + size > 4) return allOnes(size);
    if (word >= this.state.msixPending.length) return 0;
    return part(Atomics.load(this.state.msixPending, word), offset, size);
  }

  /** Message control was written: vectors may have been unmasked. */
  controlWritten(): void {
    for (let vector = 0; vector < this.state.msixVectors; vector++) this.#flush(vector);
  }

  #within(offset: number, size: number): boolean {
    return (offset & 3) + size <= 4 && offset < this.state.msixVectors * ENTRY_WORDS * 4;
  }

  #control(): number {
    const at = this.state.msixCapability + 2;
    return this.state.config[at] | (Atomics.load(this.state.config, at + 1) << 8);
  }

  #masked(vector: number): boolean {
    return (this.#control() & PCI_MSIX_FUNCTION_MASK) !== 0 ||
      (Atomics.load(this.state.msixTable, vector * ENTRY_WORDS + CONTROL) & VECTOR_MASKED) !== 0;
  }

  /** Sends what is pending and no longer masked; whoever clears the bit sends. */
  #flush(vector: number): void {
    if ((this.#control() & PCI_MSIX_ENABLE) === 0 || this.#masked(vector)) return;
    const bit = 1 << (vector & 31);
    if ((Atomics.load(this.state.msixPending, vector >>> 5) & bit) === 0) return;
    if ((Atomics.and(this.state.msixPending, vector >>> 5, ~bit) & bit) !== 0) this.#send(vector);
  }

  #send(vector: number): void {
    const table = this.state.msixTable;
    const at = vector * ENTRY_WORDS;
    const low = table[at];
    const high = table[at + 1];
    this.interrupts.signal(kvmAddressLow(low, high), kvmAddressHigh(low, high), table[at + 2]);
  }
}

function part(word: number, offset: number, size: number): number {
  const value = word >>> (8 * (offset & 3));
  return size === 4 ? value : value & ((1 << (8 * size)) - 1);
}
