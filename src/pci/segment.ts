/**
 * One PCI segment: a bus of 32 slots, its ECAM window, and for segment 0 the port window.
 *
 * L3, one per vCPU Worker and segment; the slots' presence is shared. Bus 0, function 0 only: anything else reads as ones.
 * Source: PCI Express Base 3.0 §7.2.2 (ECAM), PCI Local Bus 3.0 §3.2.2.3.2 (mechanism #1).
 */
import { allOnes, type IoDevice } from "@vmm/bus/io_device.ts";
import type { MmioBus } from "@vmm/bus/mmio_bus.ts";
import { barBase, barSize } from "./function_block.ts";
import type { PciFunction } from "./function.ts";
import { PCI_BARS, PCI_SLOTS } from "./layout.ts";
import { PciBlock, type PciState } from "./pci_block.ts";

/** Slots of one segment, and its ECAM window as an `IoDevice`. */
export class PciSegment implements IoDevice {
  readonly #functions: (PciFunction | undefined)[] = new Array(PCI_SLOTS).fill(undefined);

  constructor(readonly index: number, private readonly pci: PciState) {}

  /** Puts this isolate's view of a function into its slot. It answers once main has set the slot's `present` bit. */
  register(slot: number, fn: PciFunction): void {
    this.#functions[slot] = fn;
  }

  /** Forgets the function in `slot`. */
  remove(slot: number): void {
    this.#functions[slot] = undefined;
  }

  /** The function that answers in `slot`. */
  at(slot: number): PciFunction | undefined {
    const present = Atomics.load(this.pci.words, PciBlock.index.present + this.index);
    return (present >>> slot & 1) === 1 ? this.#functions[slot] : undefined;
  }

  /** Adds the register windows of all present functions: part of `MmioBus`'s refill. */
  addBars(bus: MmioBus): void {
    for (let slot = 0; slot < PCI_SLOTS; slot++) {
      const fn = this.at(slot);
      for (let bar = 0; fn !== undefined && bar < PCI_BARS; bar++) {
        const device = fn.bar(bar);
        if (device !== undefined) bus.add(barBase(fn.state, bar), barSize(fn.state, bar), device);
      }
    }
  }

  /** ECAM: bits 15–19 slot, 12–14 function, 0–11 register. An access stays within one 32-bit register. */
  read(offset: number, size: 1 | 2 | 4): number {
    const fn = this.#target(offset, size);
    return fn === undefined ? allOnes(size) : fn.readConfig(offset & 0xfff, size);
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    this.#target(offset, size)?.writeConfig(offset & 0xfff, size, value);
  }

  #target(offset: number, size: number): PciFunction | undefined {
    const crosses = (offset & 3) + size > 4;
    return crosses || (offset & 0x7000) !== 0 ? undefined : this.at(offset >>> 15 & 31);
  }
}

/** Address and data, four ports each. */
const CONFIG_PORTS_SIZE = 8;

const CONFIG_ENABLE = 0x8000_0000;

/** Ports 0xcf8 (address) and 0xcfc (data) for segment 0. */
export class ConfigPorts implements IoDevice {
  constructor(private readonly segment: PciSegment, private readonly pci: PciState) {}

  read(offset: number, size: 1 | 2 | 4): number {
    if (offset < 4) {
      return offset + size > 4 ? allOnes(size) : low(this.pci.configAddress >>> (8 * offset), size);
    }
    const fn = offset + size > CONFIG_PORTS_SIZE ? undefined : this.#target();
    return fn === undefined ? allOnes(size) : fn.readConfig(this.#register(offset), size);
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    if (offset < 4) {
      if (offset + size > 4) return;
      const shift = 8 * offset;
      const mask = (size === 4 ? 0xffff_ffff : ((1 << (8 * size)) - 1) << shift) >>> 0;
      this.pci.configAddress = ((this.pci.configAddress & ~mask) | ((value << shift) & mask)) >>> 0;
      return;
    }
    if (offset + size <= CONFIG_PORTS_SIZE) this.#target()?.writeConfig(this.#register(offset), size, value);
  }

  #register(offset: number): number {
    return (this.pci.configAddress & 0xfc) + (offset - 4);
  }

  #target(): PciFunction | undefined {
    const address = this.pci.configAddress;
    const elsewhere = (address & 0x00ff_0700) !== 0; // another bus or function
    if ((address & CONFIG_ENABLE) === 0 || elsewhere) return undefined;
    return this.segment.at(address >>> 11 & 31);
  }
}

function low(value: number, size: number): number {
  return size === 4 ? value >>> 0 : value & ((1 << (8 * size)) - 1);
}
