/**
 * PCI slot numbers of one segment.
 *
 * L3, main isolate. Explicit numbers are reserved before any are handed out, lowest free first. The messages are part of
 * the API's error chains.
 */
import { PCI_SLOTS } from "./layout.ts";

/** A slot that cannot be had: what was tried, with the reason as its cause. */
export class PciSlotError extends Error {
  override readonly name = "PciSlotError";
}

function refused(reason: string): PciSlotError {
  return new PciSlotError("Could not reserve the PCI device ID", { cause: new PciSlotError(reason) });
}

export class PciSlots {
  #taken = 0;
  #left = PCI_SLOTS;

  /** Segment 0 keeps slot 0 for the host bridge. */
  constructor(private readonly segment: number) {
    if (segment === 0) this.#take(0);
  }

  /** Slots in use as a bitmap. */
  get taken(): number {
    return this.#taken >>> 0;
  }

  /** Takes `slot`. @throws PciSlotError when it is out of range, reserved or in use */
  reserve(slot: number): number {
    if (!Number.isInteger(slot) || slot < 0 || slot >= PCI_SLOTS) {
      throw refused(
        `Given PCI device ID (${slot}) is out of the supported range of 0..${PCI_SLOTS}`,
      );
    }
    if (slot === 0 && this.segment === 0) throw refused(`Given PCI device ID (${slot}) is reserved`);
    if ((this.#taken >>> slot & 1) === 1) {
      throw refused(`Valid PCI device identifier but already used: ${slot}`);
    }
    this.#take(slot);
    return slot;
  }

  /** Takes the lowest free slot. @throws PciSlotError when all are in use */
  allocate(): number {
    for (let slot = 0; this.#left > 0 && slot < PCI_SLOTS; slot++) {
      if ((this.#taken >>> slot & 1) === 1) continue;
      this.#take(slot);
      return slot;
    }
    throw new PciSlotError("Failed to find an available PCI device ID", {
      cause: new PciSlotError("Could not find an available device slot on the PCI bus"),
    });
  }

  free(slot: number): void {
    if ((this.#taken >>> slot & 1) === 0) return;
    this.#taken &= ~(1 << slot);
    this.#left++;
  }

  #take(slot: number): void {
    this.#taken |= 1 << slot;
    this.#left--;
  }
}
