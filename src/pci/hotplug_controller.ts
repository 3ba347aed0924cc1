/**
 * PCI hot-plug controller of the DSDT's PHPR device: which slots came, which shall go, and the eject request.
 *
 * L3, runs in vCPU Workers over the PCI block. Double-word accesses only; anything else reads 0 and is ignored.
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import { bumpGeneration, type BusState } from "@vmm/bus/bus_block.ts";
import type { EventSink } from "@vmm/bus/ports.ts";
import { clearSlot, type PciState, slotIsSet, takeSlots } from "./pci_block.ts";
import { PCI_SLOTS } from "./layout.ts";

const Register = { added: 0, removing: 4, eject: 8, segment: 12 } as const;

export class PciHotplugController implements IoDevice {
  constructor(
    private readonly pci: PciState,
    private readonly bus: BusState,
    private readonly events: EventSink,
  ) {}

  read(offset: number, size: 1 | 2 | 4): number {
    if (size !== 4) return 0;
    const segment = this.pci.selectedSegment;
    if (offset === Register.segment) return segment;
    if (segment >= this.pci.segments) return 0;
    if (offset === Register.added) return takeSlots(this.pci, "added", segment);
    if (offset === Register.removing) return takeSlots(this.pci, "removing", segment);
    return 0;
  }

  write(offset: number, size: 1 | 2 | 4, value: number): void {
    if (size !== 4) return;
    if (offset === Register.segment) this.pci.selectedSegment = value;
    else if (offset === Register.eject) this.#eject(value);
  }

  /** The slots fall silent at once, for every vCPU; main takes the devices away afterwards. */
  #eject(slots: number): void {
    const segment = this.pci.selectedSegment;
    if (segment >= this.pci.segments) return;
    let gone = 0;
    for (let slot = 0; slot < PCI_SLOTS; slot++) {
      const bridge = segment === 0 && slot === 0;
      if ((slots >>> slot & 1) === 0 || bridge || !slotIsSet(this.pci, "present", segment, slot)) continue;
      clearSlot(this.pci, "present", segment, slot);
      gone |= 1 << slot;
    }
    if (gone === 0) return;
    bumpGeneration(this.bus);
    this.events.post({ kind: "pci-eject", segment, slots: gone >>> 0 });
  }
}
