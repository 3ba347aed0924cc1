/**
 * What a network device offers: features, queues and configuration bytes.
 *
 * L4, main isolate. Source: virtio 1.2 §5.1.3, §5.1.4; spec/machine-model.md §8.
 */
import { VirtioId } from "@vmm/virtio/device.ts";
import {
  featureMask,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_VERSION_1,
} from "@vmm/virtio/features.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";
import * as spec from "./spec.ts";

/** What decides how a network device looks to the guest. */
export interface NetModelOptions {
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** MTU of the host interface, if it told. */
  readonly mtu: number | undefined;
  readonly queuePairs: number;
  readonly queueSize: number;
  readonly offloadCsum: boolean;
  readonly offloadTso: boolean;
  readonly offloadUfo: boolean;
  /** The device is behind the virtual IOMMU. */
  readonly iommu: boolean;
}

/** The part of a transport description that a device's model decides. */
export type NetModel = Pick<VirtioPciDescription, "virtioId" | "queueSizes" | "features" | "config">;

/** Builds the model. Never throws. */
export function netModel(options: NetModelOptions): NetModel {
  const config = new Uint8Array(spec.NetConfigLayout.size);
  const view = new DataView(config.buffer);
  config.set(options.mac, spec.NetConfigLayout.mac);
  view.setUint16(spec.NetConfigLayout.status, spec.VIRTIO_NET_S_LINK_UP, true);
  if (options.queuePairs >= 1 && options.queuePairs <= spec.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX) {
    view.setUint16(spec.NetConfigLayout.max_virtqueue_pairs, options.queuePairs, true);
  }
  view.setUint16(spec.NetConfigLayout.mtu, options.mtu ?? 0, true);
  // Receive and transmit of each pair, then the control queue.
  const queueSizes = new Array<number>(2 * options.queuePairs + 1).fill(options.queueSize);
  return { virtioId: VirtioId.net, features: featuresOf(options), queueSizes, config };
}

function featuresOf(options: NetModelOptions): bigint {
  const bits = [
    VIRTIO_F_VERSION_1,
    VIRTIO_F_RING_EVENT_IDX,
    spec.VIRTIO_NET_F_MAC,
    spec.VIRTIO_NET_F_STATUS,
    spec.VIRTIO_NET_F_CTRL_VQ,
    spec.VIRTIO_NET_F_GUEST_ANNOUNCE,
    spec.VIRTIO_NET_F_MQ,
  ];
  if (options.mtu !== undefined) bits.push(spec.VIRTIO_NET_F_MTU);
  if (options.iommu) bits.push(VIRTIO_F_ACCESS_PLATFORM);
  if (options.offloadCsum) {
    bits.push(
      spec.VIRTIO_NET_F_CSUM,
      spec.VIRTIO_NET_F_GUEST_CSUM,
      spec.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    );
    if (options.offloadTso) {
      bits.push(
        spec.VIRTIO_NET_F_HOST_TSO4,
        spec.VIRTIO_NET_F_HOST_TSO6,
        spec.VIRTIO_NET_F_HOST_ECN,
        spec.VIRTIO_NET_F_GUEST_TSO4,
        spec.VIRTIO_NET_F_GUEST_TSO6,
        spec.VIRTIO_NET_F_GUEST_ECN,
      );
    }
    if (options.offloadUfo) bits.push(spec.VIRTIO_NET_F_HOST_UFO, spec.VIRTIO_NET_F_GUEST_UFO);
  }
  return featureMask(...bits);
}
