/**
 * Port I/O: 65,536 ports, a byte of table each.
 *
 * L3, one per vCPU Worker; an access allocates nothing. Ports are fixed for the life of the VM.
 * Source: Intel SDM vol. 1 §19; KVM_EXIT_IO in Documentation/virt/kvm/api.rst.
 */
import { BusBlock, type BusState } from "./bus_block.ts";
import type { IoDevice } from "./io_device.ts";
import { fillOnes, transfer } from "./operand.ts";

const PORTS = 0x1_0000;
const MAX_DEVICES = 255;

/** Dispatches port accesses of one vCPU. */
export class PioBus {
  /** 0: nothing there; n: `#windows[n − 1]`. */
  readonly #table = new Uint8Array(PORTS);
  readonly #devices: IoDevice[] = [];
  readonly #bases: number[] = [];

  constructor(private readonly state: BusState) {}

  /** Puts a device at `base`, `sizeBytes` ports long. @throws RangeError when ports are taken or do not exist */
  add(base: number, sizeBytes: number, device: IoDevice): void {
    if (base < 0 || sizeBytes < 1 || base + sizeBytes > PORTS || this.#devices.length >= MAX_DEVICES) {
      throw new RangeError(`Cannot place a device at ports ${hex(base)}+${sizeBytes}`);
    }
    for (let port = base; port < base + sizeBytes; port++) {
      if (this.#table[port] !== 0) throw new RangeError(`Port ${hex(port)} is taken already`);
    }
    this.#devices.push(device);
    this.#bases.push(base);
    this.#table.fill(this.#devices.length, base, base + sizeBytes);
  }

  /**
   * One exit. The device at the first port gets the whole access, as in the original, even if it goes past the device's
   * last port. `count` operands of `size` bytes (more than one for string instructions) lie at `dataOffset` of `view`, the
   * kvm_run page.
   */
  access(
    view: DataView,
    dataOffset: number,
    port: number,
    size: number,
    count: number,
    isWrite: boolean,
  ): void {
    const entry = this.#table[port & 0xffff];
    if (entry === 0) {
      if (!isWrite) fillOnes(view, dataOffset, size * count);
      Atomics.add(this.state.words, BusBlock.index.unassignedPio, 1);
      return;
    }
    const device = this.#devices[entry - 1];
    const offset = port - this.#bases[entry - 1];
    for (let i = 0; i < count; i++) transfer(device, offset, view, dataOffset + i * size, size, isWrite);
  }
}

function hex(value: number): string {
  return "0x" + value.toString(16);
}
