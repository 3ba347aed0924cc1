/**
 * A PCI function as configuration accesses see it: masked registers, and BARs that move when the guest says so.
 *
 * L3, runs in the vCPU Worker that took the exit. As in the original, a BAR is decoded whether or not the command register
 * enables memory; a new address takes effect once memory is enabled (at once if it is), and that of a 64-bit BAR with the
 * write of its upper half. If the move cannot be done the registers show the old address again.
 * Source: PCI Local Bus 3.0 §6.2.5.1.
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import { barBase, BarKind, barSize, type PciFunctionState, setBarBase } from "./function_block.ts";
import { PCI_BAR_FLAGS, PCI_BARS, PCI_COMMAND_MEMORY, PCI_CONFIG_SIZE, PciHeader } from "./layout.ts";

/** What moving a BAR needs of the machine. */
export interface BarMoves {
  /**
   * Claims the new range and moves what the kernel keeps at the old one (ioeventfds, memory slots). False: it cannot be,
   * nothing changed. Called with the function's lock held.
   */
  relocate(bar: number, oldBase: number, newBase: number, sizeBytes: number): boolean;
  /** The block holds the new address: buses have to read their windows again. */
  moved(): void;
}

/** What a bus needs of a function. Both calls hold the function's lock inside. */
export interface PciFunction {
  readonly state: PciFunctionState;
  readConfig(offset: number, size: 1 | 2 | 4): number;
  writeConfig(offset: number, size: 1 | 2 | 4, value: number): void;
  /** The registers behind BAR `index`; undefined for none, or when the kernel maps memory there. */
  bar(index: number): IoDevice | undefined;
}

/** Configuration space over a block. Devices with side effects extend `afterWrite`. */
export class ConfigSpace implements PciFunction {
  constructor(
    readonly state: PciFunctionState,
    private readonly moves: BarMoves,
    private readonly bars: readonly (IoDevice | undefined)[] = [],
  ) {}

  bar(index: number): IoDevice | undefined {
    return this.bars[index];
  }

  readConfig(offset: number, size: 1 | 2 | 4): number {
    if (offset + size > PCI_CONFIG_SIZE) return 0;
    const config = this.state.config;
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | config[offset + i];
    return value >>> 0;
  }

  writeConfig(offset: number, size: 1 | 2 | 4, value: number): void {
    if (offset + size > PCI_CONFIG_SIZE) return;
    this.state.lock();
    const { config, writable } = this.state;
    for (let i = 0; i < size; i++) {
      const mask = writable[offset + i];
      config[offset + i] = (config[offset + i] & ~mask) | ((value >>> (8 * i)) & mask);
    }
    if (offset < PciHeader.end) this.#headerWritten(offset, size, value);
    this.state.unlock();
    this.afterWrite(offset, size);
  }

  /** Called after a write, without the lock. */
  protected afterWrite(_offset: number, _size: number): void {}

  #headerWritten(offset: number, size: number, value: number): void {
    if ((this.state.config[PciHeader.command] & PCI_COMMAND_MEMORY) === 0) return;
    if (offset <= PciHeader.command && offset + size > PciHeader.command) {
      for (let bar = 0; bar < PCI_BARS; bar++) this.#follow(bar);
      return;
    }
    const register = (offset - PciHeader.bar0) >> 2;
    if (register < 0 || register >= PCI_BARS || (size === 4 && value === 0xffff_ffff)) return; // sizing
    if (this.state.barKind[register] === BarKind.memory32) this.#follow(register);
    else if (register > 0 && this.state.barKind[register - 1] === BarKind.memory64) {
      this.#follow(register - 1);
    }
  }

  /** Moves BAR `bar` to the address its registers hold, or puts the old address back. */
  #follow(bar: number): void {
    const kind = this.state.barKind[bar];
    if (kind === BarKind.none) return;
    const registers = this.#registers(bar, kind);
    const old = barBase(this.state, bar);
    if (registers === old || this.#sizing(bar, kind)) return;
    if (this.moves.relocate(bar, old, registers, barSize(this.state, bar))) {
      setBarBase(this.state, bar, registers);
      this.moves.moved();
    } else {
      this.#restore(bar, kind, old);
    }
  }

  #registers(bar: number, kind: number): number {
    const at = PciHeader.bar0 + 4 * bar;
    const low = (this.readConfig(at, 4) & ~PCI_BAR_FLAGS) >>> 0;
    return kind === BarKind.memory64 ? this.readConfig(at + 4, 4) * 2 ** 32 + low : low;
  }

  /** All address bits set: left there by sizing, never an address. */
  #sizing(bar: number, kind: number): boolean {
    const at = PciHeader.bar0 + 4 * bar;
    const last = kind === BarKind.memory64 ? at + 8 : at + 4;
    for (let i = at; i < last; i++) {
      if ((this.state.config[i] & this.state.writable[i]) !== this.state.writable[i]) return false;
    }
    return true;
  }

  #restore(bar: number, kind: number, base: number): void {
    const at = PciHeader.bar0 + 4 * bar;
    const { config } = this.state;
    const flags = config[at] & PCI_BAR_FLAGS;
    for (let i = 0; i < 4; i++) config[at + i] = (base >>> (8 * i)) & 0xff;
    config[at] |= flags;
    if (kind !== BarKind.memory64) return;
    const high = Math.floor(base / 2 ** 32);
    for (let i = 0; i < 4; i++) config[at + 4 + i] = (high >>> (8 * i)) & 0xff;
  }
}
