/**
 * What may be taken out of a running VM, and the original's words for what may not.
 *
 * L5, main isolate; pure. Source: spec/lifecycle.md §5.
 */
import { ContextError } from "@vmm/errors/context_error.ts";
import { StateError } from "@vmm/errors/state_error.ts";
import { VirtioId } from "@vmm/virtio/device.ts";
import { functionNode } from "./device_tree.ts";
import type { PlacedDevice } from "./pci_topology.ts";
import type { VmDevices } from "./vm_devices.ts";

/** Types of devices that can be taken out of a running VM. */
const REMOVABLE: readonly number[] = [
  VirtioId.block,
  VirtioId.net,
  VirtioId.pmem,
  VirtioId.fs,
  VirtioId.vsock,
];

/**
 * The device that `id` names: its own id, or that of the PCI function around it.
 *
 * @param tree the device tree: what is only there has no slot to leave
 * @throws StateError for an unknown id, ContextError for a device that stays
 */
export function deviceToRemove(
  devices: VmDevices,
  tree: Readonly<Record<string, unknown>>,
  id: string,
): PlacedDevice {
  const placed = devices.placed.get(id) ??
    [...devices.placed.values()].find(({ device }) => functionNode(device.id) === id);
  if (placed === undefined) {
    if (Object.hasOwn(tree, id)) throw staying("Could not find the node in the device tree");
    throw unknownDevice(id);
  }
  const { device, descriptor, fn, bdf } = placed;
  if (descriptor.iommu !== undefined && devices.iommu?.covers(fn.segment) !== true) {
    throw staying(`Cannot remove device from behind vIOMMU: bdf=${bdf}`);
  }
  const { virtioId } = device.model;
  if (!REMOVABLE.includes(virtioId)) {
    throw staying(`Not allowed to remove this type of device from the VM: ${typeName(virtioId)}`);
  }
  return placed;
}

/** A device that is not there. */
export function unknownDevice(id: string): StateError {
  return new StateError("DEVICE_UNKNOWN", 404, [
    "Error from device manager",
    `Failed to find device corresponding to the given identifier: ${id}`,
  ]);
}

function staying(reason: string): ContextError {
  return new ContextError(["Error from device manager"], new Error(reason));
}

function typeName(virtioId: number): string {
  return Object.entries(VirtioId).find(([, value]) => value === virtioId)?.[0] ?? "unknown";
}
