/**
 * The virtual IOMMU in the I/O Worker: its mapping table, and what the driver writes into its configuration.
 *
 * L5, I/O Worker.
 */
import { createIommuHandler, type IommuBackend } from "@vmm/devices/virtio/iommu/handler.ts";
import { lastAddress } from "@vmm/devices/virtio/iommu/model.ts";
import { IommuConfigLayout } from "@vmm/devices/virtio/iommu/spec.ts";
import type { Activation, VirtioDeviceDescriptor } from "@vmm/virtio/device.ts";
import { MappingTable } from "@vmm/virtio/iommu/mapping_table.ts";
import { attachVirtioPci, ConfigWrite, VirtioPciHead } from "@vmm/virtio/pci/block.ts";

const CONFIG_WRITE = VirtioPciHead.index.configWrite;

/** Opens the table main made. */
export function attachIommu(descriptor: VirtioDeviceDescriptor) {
  const backend = descriptor.backend as IommuBackend;
  const table = new MappingTable(backend.table);
  const state = attachVirtioPci(descriptor.block);
  const options = { table, lastAddress: lastAddress(backend.addressBits) };

  /** Follows the one field a driver may write; its vCPU waits for that. Until it does, what is not attached passes. */
  function followConfig(): void {
    const { words, deviceConfig } = state;
    const { posted, taken, none } = ConfigWrite;
    if (Atomics.compareExchange(words, CONFIG_WRITE, posted, taken) !== posted) return;
    const isOn = deviceConfig[IommuConfigLayout.bypass] === 1;
    table.setBypass(isOn);
    deviceConfig[IommuConfigLayout.bypass] = isOn ? 1 : 0;
    Atomics.compareExchange(words, CONFIG_WRITE, taken, none);
    Atomics.notify(words, CONFIG_WRITE);
  }

  return {
    start: (activation: Activation) => createIommuHandler(activation, options),
    detach: () => {},
    woken: followConfig,
  };
}
