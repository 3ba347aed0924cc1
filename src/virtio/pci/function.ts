/**
 * A virtio device as a PCI function: configuration space, the capability that reaches BAR0 through it, MSI-X control.
 *
 * L3, one per vCPU Worker and device. Source: virtio 1.2 §4.1.4.9.
 */
import type { IoWake, MessageInterrupts } from "@vmm/bus/ports.ts";
import { type BarMoves, ConfigSpace } from "@vmm/pci/function.ts";
import { MsixTable } from "@vmm/pci/msix.ts";
import { attachVirtioPci, type VirtioPciState } from "./block.ts";
import { VIRTIO_BAR, VIRTIO_BAR_SIZE } from "./layout.ts";
import { VirtioPciRegisters } from "./registers.ts";

/** Fields of struct virtio_pci_cfg_cap. */
const Access = { bar: 4, offset: 8, length: 12, data: 16, end: 20 } as const;

/** What a function needs of its Worker. */
export interface VirtioPciPorts {
  readonly moves: BarMoves;
  readonly interrupts: MessageInterrupts;
  readonly wake: IoWake;
}

export class VirtioPciFunction extends ConfigSpace {
  readonly #virtio: VirtioPciState;
  readonly #registers: VirtioPciRegisters;
  readonly #msix: MsixTable;

  /** `buffer` is the device's block. */
  constructor(buffer: SharedArrayBuffer, ports: VirtioPciPorts) {
    const state = attachVirtioPci(buffer);
    const msix = new MsixTable(state, ports.interrupts);
    const registers = new VirtioPciRegisters(state, msix, ports.wake);
    super(state, ports.moves, [registers]);
    this.#virtio = state;
    this.#registers = registers;
    this.#msix = msix;
  }

  override readConfig(offset: number, size: 1 | 2 | 4): number {
    if (!this.#isAccess(offset)) return super.readConfig(offset, size);
    const length = this.#accessLength();
    return length === 0 ? 0 : this.#registers.read(this.#accessOffset(), length);
  }

  override writeConfig(offset: number, size: 1 | 2 | 4, value: number): void {
    if (!this.#isAccess(offset)) {
      super.writeConfig(offset, size, value);
      return;
    }
    const length = this.#accessLength();
    if (length === 0) return;
    const operand = length === 4 ? value : value & ((1 << (8 * length)) - 1);
    this.#registers.write(this.#accessOffset(), length, operand);
  }

  protected override afterWrite(offset: number, size: number): void {
    const control = this.#virtio.msixCapability + 2;
    if (offset < control + 2 && offset + size > control) {
      this.#msix.controlWritten();
      this.#registers.vectorsChanged();
    }
  }

  #isAccess(offset: number): boolean {
    const base = this.#virtio.configAccess;
    return offset >= base + Access.data && offset < base + Access.end;
  }

  #accessOffset(): number {
    return super.readConfig(this.#virtio.configAccess + Access.offset, 4);
  }

  /** 1, 2 or 4, or 0 when the driver's fields name nothing that can be accessed. */
  #accessLength(): 0 | 1 | 2 | 4 {
    const base = this.#virtio.configAccess;
    const length = super.readConfig(base + Access.length, 4);
    if (length !== 1 && length !== 2 && length !== 4) return 0;
    const offset = this.#accessOffset();
    const valid = this.#virtio.config[base + Access.bar] === VIRTIO_BAR && offset % length === 0 &&
      offset + length <= VIRTIO_BAR_SIZE;
    return valid ? length : 0;
  }
}
