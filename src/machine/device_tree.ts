/**
 * The device tree of `vm.info`.
 *
 * L5, main isolate; plain JSON values. Source: schemas page "device_tree".
 */
import { IVSHMEM_PCI } from "@vmm/devices/ivshmem/ivshmem.ts";
import { PVPANIC_PCI } from "@vmm/devices/pvpanic/pvpanic.ts";
import { VIRTIO_BAR_SIZE } from "@vmm/virtio/pci/layout.ts";
import type { PciTopology } from "./pci_topology.ts";
import type { VmDevices } from "./vm_devices.ts";

interface DeviceNode {
  readonly id: string;
  readonly resources: readonly unknown[];
  readonly parent?: string;
  readonly children: readonly string[];
  readonly pci_bdf?: string;
}

/** Id of the node for the PCI function around a device. */
export function functionNode(id: string): string {
  return `_virtio-pci-${id}`;
}

/** Devices on ports that the tree shows when they are there. */
export type PortDevice = "__serial" | "__debug_console";

/** Nodes by id. A virtio device has two: itself, and the PCI function around it. */
export function deviceTree(devices: VmDevices, ports: readonly PortDevice[]): Record<string, DeviceNode> {
  const nodes: DeviceNode[] = ["__ioapic", ...ports].map((id) => ({ id, resources: [], children: [] }));
  for (const placed of devices.placed.values()) {
    const { id } = placed.device;
    const parent = functionNode(id);
    const bar = {
      index: 0,
      base: BigInt(devices.pci.barOf(placed)),
      size: VIRTIO_BAR_SIZE,
      type_: placed.barKind === "memory32" ? "Mmio32" : "Mmio64",
      prefetchable: false,
    };
    nodes.push({ id, resources: placed.device.resources ?? [], parent, children: [] });
    nodes.push({ id: parent, resources: [{ PciBar: bar }], children: [id], pci_bdf: placed.bdf });
  }
  const { pvPanic } = devices.pci;
  if (pvPanic !== undefined) {
    const bar = {
      index: PVPANIC_PCI.barIndex,
      base: BigInt(pvPanic.barGpa),
      size: PVPANIC_PCI.barSizeBytes,
      type_: "Mmio32",
      prefetchable: false,
    };
    nodes.push({ id: pvPanic.id, resources: [{ PciBar: bar }], children: [], pci_bdf: pvPanic.bdf });
  }
  const { ivshmem } = devices.pci;
  if (ivshmem !== undefined) nodes.push(ivshmemNode(ivshmem));
  return Object.fromEntries(nodes.map((node) => [node.id, node]));
}

function ivshmemNode(device: NonNullable<PciTopology["ivshmem"]>): DeviceNode {
  const { id, bdf, registersGpa, memoryGpa, sizeBytes } = device;
  const registers = {
    index: IVSHMEM_PCI.registersBar,
    base: BigInt(registersGpa),
    size: IVSHMEM_PCI.registersBytes,
    type_: "Mmio32",
    prefetchable: false,
  };
  const memory = {
    index: IVSHMEM_PCI.memoryBar,
    base: BigInt(memoryGpa),
    size: BigInt(sizeBytes),
    type_: "Mmio64",
    prefetchable: true,
  };
  return { id, resources: [{ PciBar: registers }, { PciBar: memory }], children: [], pci_bdf: bdf };
}

/** The tree as one object as long as nothing in it changes: whoever writes it can keep the text. */
export class DeviceTreeMemo {
  /** What the tree was made of: objects, names and addresses. */
  #parts: unknown[] = [];
  #tree: Record<string, DeviceNode> = {};

  /** The tree now. BARs move and devices come and go without telling main, so both are looked at each time. */
  of(devices: VmDevices, ports: readonly PortDevice[]): Record<string, DeviceNode> {
    const { pvPanic, ivshmem } = devices.pci;
    const parts: unknown[] = [...ports, pvPanic?.barGpa, ivshmem?.registersGpa, ivshmem?.memoryGpa];
    for (const placed of devices.placed.values()) parts.push(placed, devices.pci.barOf(placed));
    const same = parts.length === this.#parts.length && parts.every((part, at) => part === this.#parts[at]);
    if (!same) {
      this.#tree = deviceTree(devices, ports);
      this.#parts = parts;
    }
    return this.#tree;
  }
}
