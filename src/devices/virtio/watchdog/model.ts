/**
 * What a watchdog offers: one queue for pings, no configuration.
 *
 * L4, main isolate. Source: machine model §8 (the virtio specification only reserves its id).
 */
import { VirtioId } from "@vmm/virtio/device.ts";
import { featureMask, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1 } from "@vmm/virtio/features.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";

const QUEUE_SIZE = 8;

/** The device-type part of a transport description. `iommu`: the device sits behind the virtual IOMMU. */
export function watchdogModel(
  options: { readonly iommu: boolean },
): Pick<VirtioPciDescription, "virtioId" | "queueSizes" | "features" | "config"> {
  const bits = [VIRTIO_F_VERSION_1];
  if (options.iommu) bits.push(VIRTIO_F_ACCESS_PLATFORM);
  return {
    virtioId: VirtioId.watchdog,
    queueSizes: [QUEUE_SIZE],
    features: featureMask(...bits),
    config: new Uint8Array(0),
  };
}
