/**
 * The control queue of a network device: what a driver may order, and the answer byte.
 *
 * L4, I/O Worker; pure. Source: virtio 1.2 §5.1.6.5.
 */
import type { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import * as spec from "./spec.ts";

/** What orders do to the device. */
export interface ControlTarget {
  /** Most queue pairs a driver may use. */
  readonly maxPairs: number;
  /** Uses the first `pairs` queue pairs from now on. */
  setPairs(pairs: number): void;
  /** Switches receive offloads to these feature bits (0–31); false if the host refuses. */
  setOffloads(featuresLow: number): boolean;
  /** The driver has announced its addresses. */
  acknowledgeAnnounce(): void;
}

/** The chain has no room for the answer. */
export const NO_ANSWER = -1;

/** Carries out the order in `chain`; returns the answer byte or `NO_ANSWER`. Never throws. */
export function runControl(chain: DescriptorChain, target: ControlTarget): number {
  if (chain.writableBytes < 1) return NO_ANSWER;
  if (chain.readableBytes < spec.CONTROL_HEADER_BYTES) return spec.VIRTIO_NET_ERR;
  const command = chain.readU8(1);
  const payloadBytes = chain.readableBytes - spec.CONTROL_HEADER_BYTES;
  switch (chain.readU8(0)) {
    case spec.VIRTIO_NET_CTRL_MQ: {
      if (command !== spec.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || payloadBytes < 2) return spec.VIRTIO_NET_ERR;
      const pairs = chain.readU16(spec.CONTROL_HEADER_BYTES);
      if (pairs < 1 || pairs > target.maxPairs) return spec.VIRTIO_NET_ERR;
      target.setPairs(pairs);
      return spec.VIRTIO_NET_OK;
    }
    case spec.VIRTIO_NET_CTRL_GUEST_OFFLOADS:
      if (command !== spec.VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || payloadBytes < 8) return spec.VIRTIO_NET_ERR;
      return target.setOffloads(chain.readU32(spec.CONTROL_HEADER_BYTES))
        ? spec.VIRTIO_NET_OK
        : spec.VIRTIO_NET_ERR;
    case spec.VIRTIO_NET_CTRL_ANNOUNCE:
      if (command !== spec.VIRTIO_NET_CTRL_ANNOUNCE_ACK) return spec.VIRTIO_NET_ERR;
      target.acknowledgeAnnounce();
      return spec.VIRTIO_NET_OK;
    // Neither is offered, but drivers use them; a tap delivers everything, so agreeing costs nothing.
    case spec.VIRTIO_NET_CTRL_RX:
      return command <= spec.VIRTIO_NET_CTRL_RX_LAST && payloadBytes > 0
        ? spec.VIRTIO_NET_OK
        : spec.VIRTIO_NET_ERR;
    case spec.VIRTIO_NET_CTRL_VLAN:
      return command <= spec.VIRTIO_NET_CTRL_VLAN_LAST && payloadBytes > 0
        ? spec.VIRTIO_NET_OK
        : spec.VIRTIO_NET_ERR;
    default: // whatever the guest made up
      return spec.VIRTIO_NET_ERR;
  }
}
