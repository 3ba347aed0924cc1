/**
 * What a clock device offers: one queue for requests, no alarms, no configuration.
 *
 * L4, main isolate. Source: virtio 1.4 §5.22.2 to §5.22.4; machine model §8.
 */
import { VirtioId } from "@vmm/virtio/device.ts";
import { featureMask, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1 } from "@vmm/virtio/features.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";

const QUEUE_SIZE = 256;

/** The device-type part of a transport description. `iommu`: the device sits behind the virtual IOMMU. */
export function rtcModel(
  options: { readonly iommu: boolean },
): Pick<VirtioPciDescription, "virtioId" | "queueSizes" | "features" | "config"> {
  const bits = [VIRTIO_F_VERSION_1];
  if (options.iommu) bits.push(VIRTIO_F_ACCESS_PLATFORM);
  return {
    virtioId: VirtioId.rtc,
    queueSizes: [QUEUE_SIZE],
    features: featureMask(...bits),
    config: new Uint8Array(0),
  };
}
