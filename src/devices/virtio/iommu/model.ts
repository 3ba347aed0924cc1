/**
 * What the virtual IOMMU offers: two queues, mappings in units of 4 KiB and 2 MiB.
 *
 * L4, main isolate. Source: virtio 1.2 §5.13.2 to §5.13.4; machine model §8.
 */
import { VirtioId } from "@vmm/virtio/device.ts";
import { featureMask, VIRTIO_F_VERSION_1 } from "@vmm/virtio/features.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";
import {
  IommuConfigLayout,
  ReservedMemoryLayout,
  VIRTIO_IOMMU_F_BYPASS_CONFIG,
  VIRTIO_IOMMU_F_INPUT_RANGE,
  VIRTIO_IOMMU_F_MAP_UNMAP,
  VIRTIO_IOMMU_F_PROBE,
} from "./spec.ts";

const QUEUE_SIZE = 256;
const PAGE_SIZES = 2n << 20n | 4n << 10n;
const FULL_WIDTH = 64;

/** The device-type part of a transport description. @param addressBits of device addresses, up to 64 */
export function iommuModel(
  addressBits: number,
): Pick<
  VirtioPciDescription,
  "virtioId" | "queueSizes" | "features" | "config" | "configWritable" | "forwardsConfig"
> {
  const bits = [
    VIRTIO_F_VERSION_1,
    VIRTIO_IOMMU_F_MAP_UNMAP,
    VIRTIO_IOMMU_F_PROBE,
    VIRTIO_IOMMU_F_BYPASS_CONFIG,
  ];
  const config = new Uint8Array(IommuConfigLayout.sizeBytes);
  const view = new DataView(config.buffer);
  view.setBigUint64(IommuConfigLayout.pageSizeMask, PAGE_SIZES, true);
  if (addressBits < FULL_WIDTH) {
    bits.push(VIRTIO_IOMMU_F_INPUT_RANGE);
    view.setBigUint64(IommuConfigLayout.inputEnd, lastAddress(addressBits), true);
  }
  view.setUint32(IommuConfigLayout.probeSize, ReservedMemoryLayout.sizeBytes, true);
  const configWritable = new Uint8Array(IommuConfigLayout.sizeBytes);
  configWritable[IommuConfigLayout.bypass] = 0xff;
  return {
    virtioId: VirtioId.iommu,
    queueSizes: [QUEUE_SIZE, QUEUE_SIZE],
    features: featureMask(...bits),
    config,
    configWritable,
    forwardsConfig: true,
  };
}

/** The last of the addresses that have this many bits. */
export function lastAddress(addressBits: number): bigint {
  return (1n << BigInt(addressBits)) - 1n;
}
