/**
 * IOAPIC with 24 pins: redirection entries in a block, each interrupt sent on as a message to the local APICs.
 *
 * L4: `Ioapic` runs in vCPU Workers; `IoapicLines` in any isolate that raises interrupts.
 * Source: Intel 82093AA data sheet §3; spec/machine-model.md §3.
 */
import { IOAPIC_PIN_COUNT } from "@vmm/arch/x86_64/layout.ts";
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { InterruptLines, MessageInterrupts } from "@vmm/bus/ports.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

/** Window offsets. */
const OFFSET_SELECT = 0x00;
const OFFSET_DATA = 0x10;

/** Indirect registers; two for each pin from `redirection` on, low half first. */
const REG = { id: 0x00, version: 0x01, arbitrationId: 0x02, redirection: 0x10, mask: 0xff } as const;
/** 24 entries, version 0x11. */
const VERSION = 0x0017_0011;
const ID_SHIFT = 24;
const ID_MASK = 0xf;

/** Low half of a redirection entry. */
const ENTRY = {
  vector: 0xff,
  deliveryModeShift: 8,
  deliveryMode: 0x700,
  logicalDestination: 1 << 11,
  deliveryStatus: 1 << 12,
  remoteIrr: 1 << 14,
  level: 1 << 15,
  masked: 1 << 16,
  writable: 0xffff_afff,
} as const;
/** High half: destination, and under it the extended destination bits of KVM_FEATURE_MSI_EXT_DEST_ID. */
const DESTINATION_SHIFT = 24;
const EXTENDED_DESTINATION = 0xfe_0000;
const EXTENDED_DESTINATION_SHIFT = 9;

/** Message address and data (Intel SDM vol. 3A §11.11). */
const MSI_ADDRESS = 0xfee0_0000;
const MSI_DESTINATION_SHIFT = 12;
const MSI_REDIRECTION_HINT = 1 << 3;
const MSI_LOGICAL_DESTINATION = 1 << 2;
const MSI_DATA_LEVEL = 1 << 15;
const MSI_DATA_ASSERT = 1 << 14;
const LOWEST_PRIORITY = 1;

/**
 * Selected register, id, entries, the pins whose level source is up, and the pins with an edge not sent yet: as with an
 * irqfd, an edge that comes while the pin is masked is sent when it is unmasked.
 */
export const IoapicBlock = defineBlock("ioapic", {
  select: "u32",
  id: "u32",
  asserted: "u32",
  latched: "u32",
  low: { u32: IOAPIC_PIN_COUNT },
  high: { u32: IOAPIC_PIN_COUNT },
});
export type IoapicState = BlockOf<typeof IoapicBlock>;

/** A new block in reset state: every pin masked. */
export function createIoapic(): IoapicState {
  const state = IoapicBlock.create();
  state.low.fill(ENTRY.masked);
  return state;
}

/** The message a pin sends. */
export interface PinMessage {
  addressLow: number;
  addressHigh: number;
  data: number;
}

function messageAddress(low: number, high: number): number {
  const lowestPriority = (low & ENTRY.deliveryMode) >> ENTRY.deliveryModeShift === LOWEST_PRIORITY;
  return (MSI_ADDRESS | ((high >>> DESTINATION_SHIFT) << MSI_DESTINATION_SHIFT) |
    (lowestPriority ? MSI_REDIRECTION_HINT : 0) |
    ((low & ENTRY.logicalDestination) !== 0 ? MSI_LOGICAL_DESTINATION : 0)) >>> 0;
}

/** Destination id bits 8–14, where KVM takes them. */
function messageAddressHigh(high: number): number {
  return (high & EXTENDED_DESTINATION) >>> EXTENDED_DESTINATION_SHIFT;
}

function messageData(low: number): number {
  const level = (low & ENTRY.level) !== 0 ? MSI_DATA_LEVEL | MSI_DATA_ASSERT : 0;
  return (low & (ENTRY.vector | ENTRY.deliveryMode)) | level;
}

/**
 * Route of a level-triggered pin, or undefined when it is edge-triggered or masked. KVM reports the end of an interrupt
 * (KVM_EXIT_IOAPIC_EOI) only for vectors it finds in its routing table under GSI 0 to 23.
 */
export function levelRoute(state: IoapicState, pin: number): PinMessage | undefined {
  const low = state.low[pin];
  if ((low & ENTRY.level) === 0 || (low & ENTRY.masked) !== 0) return undefined;
  const high = state.high[pin];
  return {
    addressLow: messageAddress(low, high),
    addressHigh: messageAddressHigh(high),
    data: messageData(low),
  };
}

/** Told when the route of a level-triggered pin appeared, changed or went away. Rare. */
export type LevelRouteChanged = (pin: number) => void;

/** Interrupt lines of the IOAPIC, from the outside. */
export class IoapicLines implements InterruptLines {
  constructor(private readonly state: IoapicState, private readonly messages: MessageInterrupts) {}

  /** An edge: one interrupt, now or as soon as the pin is unmasked and its last level interrupt served. */
  pulse(gsi: number): void {
    if (gsi >= IOAPIC_PIN_COUNT) return;
    Atomics.or(this.state.words, IoapicBlock.index.latched, 1 << gsi);
    this.deliver(gsi);
  }

  /** The level source of a pin goes up and stays up: the guest is interrupted until it goes down. */
  assert(gsi: number): void {
    if (gsi >= IOAPIC_PIN_COUNT) return;
    Atomics.or(this.state.words, IoapicBlock.index.asserted, 1 << gsi);
    this.deliver(gsi);
  }

  /** The level source of a pin goes down. */
  deassert(gsi: number): void {
    if (gsi < IOAPIC_PIN_COUNT) Atomics.and(this.state.words, IoapicBlock.index.asserted, ~(1 << gsi));
  }

  /** A local APIC finished `vector` (KVM_EXIT_IOAPIC_EOI): sources that are still up interrupt again. */
  endOfInterrupt(vector: number): void {
    const { state } = this;
    for (let pin = 0; pin < IOAPIC_PIN_COUNT; pin++) {
      state.lock();
      const low = state.low[pin];
      const served = (low & ENTRY.level) !== 0 && (low & ENTRY.remoteIrr) !== 0 &&
        (low & ENTRY.vector) === vector;
      if (served) state.low[pin] = low & ~ENTRY.remoteIrr;
      state.unlock();
      if (served) this.deliver(pin);
    }
  }

  /** Sends the pin's message if something waits for it and nothing holds it back. */
  deliver(pin: number): void {
    const { state } = this;
    const bit = 1 << pin;
    state.lock();
    const low = state.low[pin];
    const high = state.high[pin];
    const isLevel = (low & ENTRY.level) !== 0;
    const held = (low & ENTRY.masked) !== 0 || (isLevel && (low & ENTRY.remoteIrr) !== 0);
    const wanted = (Atomics.load(state.words, IoapicBlock.index.latched) & bit) !== 0 ||
      (isLevel && (Atomics.load(state.words, IoapicBlock.index.asserted) & bit) !== 0);
    const send = wanted && !held;
    if (send) {
      if (isLevel) state.low[pin] = low | ENTRY.remoteIrr;
      Atomics.and(state.words, IoapicBlock.index.latched, ~bit);
    }
    state.unlock();
    if (send) this.messages.signal(messageAddress(low, high), messageAddressHigh(high), messageData(low));
  }
}

/** 32 bytes: register select and data window. */
export class Ioapic implements IoDevice {
  constructor(
    private readonly state: IoapicState,
    private readonly lines: IoapicLines,
    private readonly levelRouteChanged: LevelRouteChanged,
  ) {}

  read(offset: number, size: number): number {
    if (size !== 4) return 0;
    if (offset === OFFSET_SELECT) return this.state.select;
    if (offset === OFFSET_DATA) return this.#readRegister(this.state.select & REG.mask);
    return 0;
  }

  write(offset: number, size: number, value: number): void {
    if (size !== 4) return;
    if (offset === OFFSET_SELECT) this.state.select = value;
    else if (offset === OFFSET_DATA) this.#writeRegister(this.state.select & REG.mask, value);
  }

  #readRegister(register: number): number {
    const { state } = this;
    if (register === REG.id || register === REG.arbitrationId) return (state.id << ID_SHIFT) >>> 0;
    if (register === REG.version) return VERSION;
    const pin = (register - REG.redirection) >> 1;
    if (register < REG.redirection || pin >= IOAPIC_PIN_COUNT) return 0;
    return (register & 1) !== 0 ? state.high[pin] : state.low[pin];
  }

  #writeRegister(register: number, value: number): void {
    const { state } = this;
    if (register === REG.id) state.id = (value >>> ID_SHIFT) & ID_MASK;
    const pin = (register - REG.redirection) >> 1;
    if (register < REG.redirection || pin >= IOAPIC_PIN_COUNT) return;
    state.lock();
    const before = state.low[pin];
    if ((register & 1) !== 0) {
      state.high[pin] = value;
    } else {
      // Delivery status and remote IRR are read-only, but an edge-triggered pin has no remote IRR.
      const kept = (value & ENTRY.level) !== 0 ? before & ENTRY.remoteIrr : 0;
      state.low[pin] = (value & ENTRY.writable) | kept; // reserved bits are kept as the original keeps them
    }
    const after = state.low[pin];
    state.unlock();
    // KVM must know a level route before its first interrupt, or it would not report the end of it.
    if (((before | after) & ENTRY.level) !== 0) this.levelRouteChanged(pin);
    this.lines.deliver(pin);
  }
}
