/**
 * Host memory shown to the guest in the 64-bit window of a PCI segment: a range of addresses and a slot of KVM each.
 *
 * L5, main isolate. Source: machine model §5; KVM api.rst §4.35.
 */
import type { KvmVm } from "@vmm/hypervisor/kvm/vm.ts";
import type { Aperture } from "@vmm/pci/aperture.ts";
import type { MemorySlots } from "./memory_slots.ts";

/** See the module. */
export class MemoryWindows {
  constructor(
    private readonly apertures: readonly Aperture[],
    private readonly vm: Pick<KvmVm, "setMemoryRegion">,
    private readonly slots: MemorySlots,
  ) {}

  /** Takes a range of guest addresses; undefined when there is no room. `alignment` is a power of two. */
  reserve(segment: number, sizeBytes: number, alignment: number): number | undefined {
    return sizeBytes === 0 ? undefined : this.apertures[segment].allocate("memory64", sizeBytes, alignment);
  }

  /** Gives a range back. */
  free(segment: number, base: number): void {
    this.apertures[segment].free(base);
  }

  /** Lets the guest use host memory at `base`; returns the slot. @throws OsError */
  show(base: number, sizeBytes: number, hostAddress: bigint): number {
    const slot = this.slots.take();
    try {
      this.vm.setMemoryRegion(slot, base, sizeBytes, hostAddress);
    } catch (error) {
      this.slots.give(slot);
      throw error;
    }
    return slot;
  }

  /** Takes the memory away from the guest again. Never throws. */
  hide(slot: number, base: number): void {
    try {
      this.vm.setMemoryRegion(slot, base, 0, 0n);
      this.slots.give(slot);
    } catch {
      // the VM is going away, and its slots with it
    }
  }
}
