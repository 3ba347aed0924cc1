/**
 * The PCI buses as main keeps them: slots, BAR addresses, functions, and virtio devices on them.
 *
 * L5, main isolate. Source: machine model §5.
 */
import { eventfd } from "@ffi/libc/fd.ts";
import { close } from "@ffi/libc/fd.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import type { KvmVm } from "@vmm/hypervisor/kvm/vm.ts";
import { createHostBridge } from "@vmm/pci/host_bridge.ts";
import { PciFunctionBlock } from "@vmm/pci/function_block.ts";
import { PciHeaderBuilder } from "@vmm/pci/header.ts";
import { clearSlot, setSlot } from "@vmm/pci/pci_block.ts";
import { PciSlots } from "@vmm/pci/slots.ts";
import { IVSHMEM_PCI } from "@vmm/devices/ivshmem/ivshmem.ts";
import { PVPANIC_PCI } from "@vmm/devices/pvpanic/pvpanic.ts";
import { type VirtioDeviceDescriptor, VirtioId } from "@vmm/virtio/device.ts";
import { featureMask, VIRTIO_F_ACCESS_PLATFORM } from "@vmm/virtio/features.ts";
import { barAlignment, createVirtioPci } from "@vmm/virtio/pci/create.ts";
import { notifyAddress, VIRTIO_BAR, VIRTIO_BAR_SIZE } from "@vmm/virtio/pci/layout.ts";
import { barBase } from "@vmm/pci/function_block.ts";
import type { FunctionDescription, FunctionMemory } from "./pci_functions.ts";
import type { Platform } from "./platform.ts";
import type { VmIommu } from "./plug/iommu.ts";
import type { PluggedDevice } from "./plug/plugged_device.ts";

/** A function's address, `ssss:bb:dd.f` in lower-case hex. */
function bdfText(segment: number, slot: number): string {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  return `${hex(segment, 4)}:00:${hex(slot, 2)}.0`;
}

/** True for a device whose driver has to have its addresses translated. */
function isBehindIommu({ model }: PluggedDevice): boolean {
  return (model.features & featureMask(VIRTIO_F_ACCESS_PLATFORM)) !== 0n;
}

/** A virtio device on a bus. */
export interface PlacedDevice {
  readonly device: PluggedDevice;
  readonly fn: FunctionDescription;
  /** For the I/O Worker. */
  readonly descriptor: VirtioDeviceDescriptor;
  readonly bdf: string;
  readonly barKind: "memory32" | "memory64";
}

/** Slots and addresses of all segments. */
export class PciTopology {
  readonly functions: FunctionDescription[] = [];
  readonly #slots: PciSlots[];
  #pvPanic: FunctionDescription | undefined;
  #ivshmem: FunctionDescription | undefined;

  constructor(
    private readonly platform: Platform,
    private readonly vm: KvmVm,
    /** The virtual IOMMU, when there is one. */
    private readonly iommu?: VmIommu,
  ) {
    this.#slots = platform.apertures.map((_, segment) => new PciSlots(segment));
    this.#add({
      kind: "host-bridge",
      id: "host-bridge",
      segment: 0,
      slot: 0,
      block: createHostBridge().buffer,
    });
  }

  #add(fn: FunctionDescription): void {
    this.functions.push(fn);
    setSlot(this.platform.blocks.pci, "present", fn.segment, fn.slot);
  }

  /** Keeps slots that configurations name from being given away before their devices come. @throws PciSlotError */
  takeSlot(segment: number, slot: number | undefined): number {
    return slot === undefined ? this.#slots[segment].allocate() : this.#slots[segment].reserve(slot);
  }

  /** pvpanic, which has a register of its own and no queues. @throws PciSlotError, ContextError */
  addPvPanic(id: string): void {
    const slot = this.takeSlot(0, undefined);
    const base = this.#address(0, "memory32", PVPANIC_PCI.barSizeBytes, PVPANIC_PCI.barAlignmentBytes);
    const state = PciFunctionBlock.create();
    new PciHeaderBuilder(state, {
      vendorId: PVPANIC_PCI.vendorId,
      deviceId: PVPANIC_PCI.deviceId,
      classCode: PVPANIC_PCI.baseClass,
      subclass: PVPANIC_PCI.subClass,
      revision: PVPANIC_PCI.revision,
      command: PVPANIC_PCI.command,
    }).memoryBar(PVPANIC_PCI.barIndex, "memory32", base, PVPANIC_PCI.barSizeBytes);
    const fn: FunctionDescription = { kind: "pvpanic", id, segment: 0, slot, block: state.buffer };
    this.#add(fn);
    this.#pvPanic = fn;
  }

  /** pvpanic's id, address and where its register is now, if there is one. */
  get pvPanic(): { id: string; bdf: string; barGpa: number } | undefined {
    if (this.#pvPanic === undefined) return undefined;
    const { id, segment, slot, block } = this.#pvPanic;
    const barGpa = barBase(PciFunctionBlock.attach(block), PVPANIC_PCI.barIndex);
    return { id, bdf: bdfText(segment, slot), barGpa };
  }

  /**
   * ivshmem: registers and the memory that is mapped at `memory.base` already. Returns where the memory is now.
   *
   * @throws ContextError without room for the registers
   */
  addIvshmem(
    id: string,
    segment: number,
    slot: number,
    memory: FunctionMemory & { base: number },
  ): () => number {
    const { registersBar, registersBytes, memoryBar, ...identity } = IVSHMEM_PCI;
    const registers = this.#address(segment, "memory32", registersBytes, registersBytes);
    const state = PciFunctionBlock.create();
    new PciHeaderBuilder(state, identity)
      .memoryBar(registersBar, "memory32", registers, registersBytes)
      .memoryBar(memoryBar, "memory64", memory.base, memory.sizeBytes, true);
    const fn: FunctionDescription = { kind: "ivshmem", id, segment, slot, block: state.buffer, memory };
    this.#add(fn);
    this.#ivshmem = fn;
    return () => barBase(state, memoryBar);
  }

  /** ivshmem's id, address and where its registers and its memory are now, if there is one. */
  get ivshmem():
    | { id: string; bdf: string; registersGpa: number; memoryGpa: number; sizeBytes: number }
    | undefined {
    if (this.#ivshmem === undefined) return undefined;
    const { id, segment, slot, block, memory } = this.#ivshmem;
    const state = PciFunctionBlock.attach(block);
    return {
      id,
      bdf: bdfText(segment, slot),
      registersGpa: barBase(state, IVSHMEM_PCI.registersBar),
      memoryGpa: barBase(state, IVSHMEM_PCI.memoryBar),
      sizeBytes: memory!.sizeBytes,
    };
  }

  #address(segment: number, kind: "memory32" | "memory64", sizeBytes: number, alignment: number): number {
    const base = this.platform.apertures[segment].allocate(kind, sizeBytes, alignment);
    if (base !== undefined) return base;
    throw new ContextError(
      ["Error from device manager"],
      new Error(`No free place for ${sizeBytes} bytes in the ${kind} window of PCI segment ${segment}`),
    );
  }

  /**
   * Puts a virtio device on its bus. The function answers at once when `present`, else once `show` is called.
   *
   * @throws ContextError without room; OsError when KVM refuses the queue notifications
   */
  place(device: PluggedDevice, slot: number, present: boolean): PlacedDevice {
    const { segment } = device.placement;
    // Some firmware reaches disks below 4 GiB only.
    const isBootDisk = present && segment === 0 && device.model.virtioId === VirtioId.block;
    const barKind = isBootDisk ? "memory32" : "memory64";
    const base = this.#address(segment, barKind, VIRTIO_BAR_SIZE, barAlignment(barKind));
    const state = createVirtioPci({ ...device.model, bar: { kind: barKind, base } });
    const kickFds = device.model.queueSizes.map(() => eventfd());
    const fn: FunctionDescription = {
      kind: "virtio",
      id: device.id,
      segment,
      slot,
      block: state.buffer,
      kickFds,
    };
    kickFds.forEach((fd, queue) => {
      const result = this.vm.bindNotify({ gpa: notifyAddress(base, queue), fd });
      if (result < 0) {
        throw new Error(`KVM refused the notification address of queue ${queue} of "${device.id}"`);
      }
    });
    this.functions.push(fn);
    if (present) setSlot(this.platform.blocks.pci, "present", segment, slot);
    return {
      device,
      fn,
      descriptor: {
        id: device.id,
        kind: device.kind,
        block: state.buffer,
        kickFds,
        iommu: isBehindIommu(device) ? this.iommu?.attach(segment, slot) : undefined,
        backend: device.backend,
        queueGroups: device.queueGroups,
        queueAffinity: device.queueAffinity,
      },
      bdf: bdfText(segment, slot),
      barKind,
    };
  }

  /** Where BAR 0 of a device is now. */
  barOf(placed: PlacedDevice): number {
    return barBase(PciFunctionBlock.attach(placed.fn.block), VIRTIO_BAR);
  }

  /** Gives a device's slot, addresses and notifications back. Workers have forgotten it. */
  remove(placed: PlacedDevice): void {
    const { segment, slot, kickFds } = placed.fn;
    const base = this.barOf(placed);
    clearSlot(this.platform.blocks.pci, "present", segment, slot);
    kickFds?.forEach((fd, queue) => {
      this.vm.unbindNotify({ gpa: notifyAddress(base, queue), fd });
      close(fd);
    });
    this.platform.apertures[segment].free(base);
    this.#slots[segment].free(slot);
    this.functions.splice(this.functions.indexOf(placed.fn), 1);
  }
}
