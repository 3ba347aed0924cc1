/**
 * Builds the configuration space of a function: ids, BARs, capabilities, and the mask of writable bits.
 *
 * L3, main isolate, once per function. Source: PCI Local Bus 3.0 §6.1, §6.2.5, §6.7.
 */
import { BarKind, type PciFunctionState, setBarBase, setBarSize } from "./function_block.ts";
import {
  PCI_BAR_MEMORY_64,
  PCI_BAR_PREFETCHABLE,
  PCI_CAP_MSIX,
  PCI_MSIX_ENABLE,
  PCI_MSIX_FUNCTION_MASK,
  PCI_STATUS_CAPABILITIES,
  PciHeader,
} from "./layout.ts";

/** Who a function says it is. */
export interface PciIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  readonly subclass: number;
  readonly programmingInterface?: number;
  readonly revision?: number;
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
  /** Initial command register. */
  readonly command?: number;
}

const MIN_BAR_SIZE = 16;

/** The size a memory BAR decodes for a region of `sizeBytes`: a power of two, at least 16. */
function barDecodeSize(sizeBytes: number): number {
  let size = MIN_BAR_SIZE;
  while (size < sizeBytes) size *= 2;
  return size;
}

/** Fills a fresh function block. Bytes are written straight into the shared block. */
export class PciHeaderBuilder {
  readonly #config: DataView;
  readonly #writable: DataView;
  /** Offset of the byte that has to point to the next capability. */
  #link: number = PciHeader.capabilities;
  #next: number = PciHeader.end;

  constructor(private readonly state: PciFunctionState, identity: PciIdentity) {
    this.#config = new DataView(state.config.buffer, state.config.byteOffset, state.config.byteLength);
    this.#writable = new DataView(
      state.writable.buffer,
      state.writable.byteOffset,
      state.writable.byteLength,
    );
    const c = this.#config;
    c.setUint16(PciHeader.vendorId, identity.vendorId, true);
    c.setUint16(PciHeader.deviceId, identity.deviceId, true);
    c.setUint16(PciHeader.command, identity.command ?? 0, true);
    c.setUint8(PciHeader.revision, identity.revision ?? 0);
    c.setUint8(PciHeader.programmingInterface, identity.programmingInterface ?? 0);
    c.setUint8(PciHeader.subclass, identity.subclass);
    c.setUint8(PciHeader.classCode, identity.classCode);
    c.setUint16(PciHeader.subsystemVendorId, identity.subsystemVendorId ?? 0, true);
    c.setUint16(PciHeader.subsystemId, identity.subsystemId ?? 0, true);
    this.#writable.setUint16(PciHeader.command, 0xffff, true);
    this.#writable.setUint8(PciHeader.cacheLineSize, 0xff);
    this.#writable.setUint8(PciHeader.interruptLine, 0xff);
  }

  /** Declares a memory BAR at `base`; a 64-bit one takes the next register too. @throws RangeError when it does not fit */
  memoryBar(
    index: number,
    kind: "memory32" | "memory64",
    base: number,
    sizeBytes: number,
    prefetchable = false,
  ): this {
    const decoded = barDecodeSize(sizeBytes);
    const wide = kind === "memory64";
    if (base % MIN_BAR_SIZE !== 0 || index > (wide ? 4 : 5) || (!wide && base + sizeBytes > 2 ** 32)) {
      throw new RangeError(`Cannot place BAR ${index} of ${sizeBytes} bytes at 0x${base.toString(16)}`);
    }
    const at = PciHeader.bar0 + 4 * index;
    this.state.barKind[index] = BarKind[kind];
    setBarSize(this.state, index, sizeBytes);
    setBarBase(this.state, index, base);
    const flags = (wide ? PCI_BAR_MEMORY_64 : 0) | (prefetchable ? PCI_BAR_PREFETCHABLE : 0);
    this.#config.setUint32(at, (base >>> 0) | flags, true);
    this.#writable.setUint32(at, decoded >= 2 ** 32 ? 0 : -decoded >>> 0, true);
    if (wide) {
      this.#config.setUint32(at + 4, Math.floor(base / 2 ** 32), true);
      const high = decoded <= 2 ** 32 ? 0xffff_ffff : -(decoded / 2 ** 32) >>> 0;
      this.#writable.setUint32(at + 4, high, true);
    }
    return this;
  }

  /**
   * Appends a capability; `body` follows the id and link bytes, `mask` says which of its bits can be written.
   * Returns the capability's offset.
   */
  capability(id: number, body: Uint8Array, mask?: Uint8Array): number {
    const at = this.#next;
    this.#config.setUint8(this.#link, at);
    this.#config.setUint8(at, id);
    this.state.config.set(body, at + 2);
    if (mask !== undefined) this.state.writable.set(mask, at + 2);
    this.#link = at + 1;
    this.#next = at + Math.ceil((body.byteLength + 2) / 4) * 4;
    const status = this.#config.getUint16(PciHeader.status, true);
    this.#config.setUint16(PciHeader.status, status | PCI_STATUS_CAPABILITIES, true);
    return at;
  }

  /** Appends the MSI-X capability: table and pending bits at offsets of BARs. Returns its offset. */
  msix(
    vectors: number,
    tableBar: number,
    tableOffset: number,
    pendingBar: number,
    pendingOffset: number,
  ): number {
    const body = new DataView(new ArrayBuffer(10));
    body.setUint16(0, vectors - 1, true);
    body.setUint32(2, tableOffset | tableBar, true);
    body.setUint32(6, pendingOffset | pendingBar, true);
    const mask = new DataView(new ArrayBuffer(10));
    mask.setUint16(0, PCI_MSIX_ENABLE | PCI_MSIX_FUNCTION_MASK, true);
    return this.capability(PCI_CAP_MSIX, new Uint8Array(body.buffer), new Uint8Array(mask.buffer));
  }
}
