/**
 * What a persistent memory device offers: where its memory lies, and one queue for flushes.
 *
 * L4, main isolate. Source: virtio 1.2 §5.19.2 to §5.19.4; machine model §8.
 */
import { VirtioId } from "@vmm/virtio/device.ts";
import { featureMask, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1 } from "@vmm/virtio/features.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";

const QUEUE_SIZE = 256;

/** struct virtio_pmem_config: offsets in bytes; both fields u64. */
export const PmemConfigLayout = { start: 0, size: 8, sizeBytes: 16 } as const;

/** What decides how the device looks to the guest. */
export interface PmemModelOptions {
  /** Guest physical address of the memory. */
  readonly start: number;
  readonly sizeBytes: number;
  /** The device is behind the virtual IOMMU. */
  readonly iommu: boolean;
}

/** The device-type part of a transport description. */
export function pmemModel(
  options: PmemModelOptions,
): Pick<VirtioPciDescription, "virtioId" | "queueSizes" | "features" | "config"> {
  const bits = [VIRTIO_F_VERSION_1];
  if (options.iommu) bits.push(VIRTIO_F_ACCESS_PLATFORM);
  const config = new Uint8Array(PmemConfigLayout.sizeBytes);
  const view = new DataView(config.buffer);
  view.setBigUint64(PmemConfigLayout.start, BigInt(options.start), true);
  view.setBigUint64(PmemConfigLayout.size, BigInt(options.sizeBytes), true);
  return {
    virtioId: VirtioId.pmem,
    queueSizes: [QUEUE_SIZE],
    features: featureMask(...bits),
    config,
  };
}
