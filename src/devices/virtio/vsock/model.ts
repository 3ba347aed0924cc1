/**
 * What a socket device offers: the guest's context id and three queues.
 *
 * L4, main isolate. Source: virtio 1.2 §5.10.2 to §5.10.4; machine model §8.
 */
import { VirtioId } from "@vmm/virtio/device.ts";
import {
  featureMask,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_VERSION_1,
} from "@vmm/virtio/features.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";

const QUEUE_SIZE = 256;
/** struct virtio_vsock_config: `guest_cid`, u64. */
const CONFIG_BYTES = 8;

/** What decides how the device looks to the guest. */
export interface VsockModelOptions {
  /** The guest's context id, 32 bits. */
  readonly cid: number;
  /** The device is behind the virtual IOMMU. */
  readonly iommu: boolean;
}

/** The device-type part of a transport description. */
export function vsockModel(
  options: VsockModelOptions,
): Pick<VirtioPciDescription, "virtioId" | "queueSizes" | "features" | "config"> {
  const bits = [VIRTIO_F_VERSION_1, VIRTIO_F_IN_ORDER];
  if (options.iommu) bits.push(VIRTIO_F_ACCESS_PLATFORM);
  const config = new Uint8Array(CONFIG_BYTES);
  new DataView(config.buffer).setUint32(0, options.cid, true);
  return {
    virtioId: VirtioId.vsock,
    queueSizes: [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE],
    features: featureMask(...bits),
    config,
  };
}
