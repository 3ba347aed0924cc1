/**
 * Network devices behind a vhost-user socket: what they wish for, how they look to the guest, and their control queue, which
 * is served here and not by the back-end.
 *
 * L4; the model on main, the control queue in the I/O Worker. Source: virtio 1.2 §5.1; spec/machine-model.md §12.
 */
import type { Activation } from "@vmm/virtio/device.ts";
import {
  featureMask,
  hasFeature,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
} from "@vmm/virtio/features.ts";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import type { SplitQueue } from "@vmm/virtio/queue/split.ts";
import { type ControlTarget, NO_ANSWER, runControl } from "./control.ts";
import { type NetModel, netModel } from "./model.ts";
import * as spec from "./spec.ts";

/** What decides the wishes of a network device. */
export interface NetWishes {
  readonly offloadCsum: boolean;
  readonly offloadTso: boolean;
  readonly offloadUfo: boolean;
}

/** The front-end understands nothing of packets, so a back-end may merge receive buffers. */
const VIRTIO_NET_F_MRG_RXBUF = 15;
const MAC_BYTES = 6;

/** Length of the configuration that is asked for, where the back-end has one. */
export const NET_CONFIG_BYTES = spec.NetConfigLayout.size;

/** Features a network back-end may have. */
export function netWishes(options: NetWishes): bigint {
  const bits: number[] = [
    VIRTIO_F_RING_INDIRECT_DESC,
    VIRTIO_F_RING_EVENT_IDX,
    VIRTIO_F_VERSION_1,
    VIRTIO_F_IN_ORDER,
    VIRTIO_F_ORDER_PLATFORM,
    VIRTIO_F_NOTIFICATION_DATA,
    VIRTIO_NET_F_MRG_RXBUF,
    spec.VIRTIO_NET_F_MTU,
    spec.VIRTIO_NET_F_MAC,
    spec.VIRTIO_NET_F_STATUS,
    spec.VIRTIO_NET_F_CTRL_VQ,
    spec.VIRTIO_NET_F_GUEST_ANNOUNCE,
    spec.VIRTIO_NET_F_MQ,
  ];
  if (options.offloadCsum) {
    bits.push(spec.VIRTIO_NET_F_CSUM, spec.VIRTIO_NET_F_GUEST_CSUM);
    if (options.offloadTso) {
      bits.push(spec.VIRTIO_NET_F_HOST_TSO4, spec.VIRTIO_NET_F_HOST_TSO6, spec.VIRTIO_NET_F_HOST_ECN);
      bits.push(spec.VIRTIO_NET_F_GUEST_TSO4, spec.VIRTIO_NET_F_GUEST_TSO6, spec.VIRTIO_NET_F_GUEST_ECN);
    }
    if (options.offloadUfo) bits.push(spec.VIRTIO_NET_F_HOST_UFO, spec.VIRTIO_NET_F_GUEST_UFO);
  }
  return featureMask(...bits);
}

/** What a back-end says of MAC address and MTU; undefined where it says nothing. */
export function netConfigOf(
  config: Uint8Array,
  agreed: bigint,
): { mac: Uint8Array | undefined; mtu: number | undefined } {
  if (config.byteLength < NET_CONFIG_BYTES) return { mac: undefined, mtu: undefined };
  const has = (bit: number) => (agreed & featureMask(bit)) !== 0n;
  const mac = config.slice(spec.NetConfigLayout.mac, spec.NetConfigLayout.mac + MAC_BYTES);
  const mtu = new DataView(config.buffer, config.byteOffset).getUint16(spec.NetConfigLayout.mtu, true);
  return {
    mac: has(spec.VIRTIO_NET_F_MAC) && mac.some((byte) => byte !== 0) ? mac : undefined,
    mtu: has(spec.VIRTIO_NET_F_MTU) && mtu !== 0 ? mtu : undefined,
  };
}

/** What decides how the device looks once the back-end has answered. */
export interface VhostNetModelOptions {
  readonly agreed: bigint;
  readonly mac: Uint8Array;
  readonly mtu: number | undefined;
  readonly queuePairs: number;
  readonly queueSize: number;
}

/** Builds the model: the back-end's features, and the address and MTU the front-end knows. */
export function vhostNetModel(options: VhostNetModelOptions): NetModel {
  const plain = netModel({
    ...options,
    offloadCsum: false,
    offloadTso: false,
    offloadUfo: false,
    iommu: false,
  });
  const bits = [spec.VIRTIO_NET_F_MAC, ...(options.mtu === undefined ? [] : [spec.VIRTIO_NET_F_MTU])];
  const features = (options.agreed & ~featureMask(spec.VIRTIO_NET_F_MTU)) | featureMask(...bits);
  const hasControl = (options.agreed & featureMask(spec.VIRTIO_NET_F_CTRL_VQ)) !== 0n;
  const queueSizes = hasControl ? plain.queueSizes : plain.queueSizes.slice(0, 2 * options.queuePairs);
  return { ...plain, features, queueSizes };
}

/** Orders in one go: other devices share the thread. */
const TURN_ORDERS = 64;

/** What the control queue changes. */
export interface VhostControlOptions {
  readonly queuePairs: number;
  /** Lets the back-end use the first `pairs` pairs only. */
  limitPairs(pairs: number): void;
}

/** The control queue of a device whose other queues a back-end serves; undefined when the driver has none. */
export function createVhostControl(
  activation: Activation,
  options: VhostControlOptions,
): VhostControlQueue | undefined {
  const has = (bit: number) => hasFeature(activation.featuresLow, activation.featuresHigh, bit);
  if (!has(spec.VIRTIO_NET_F_CTRL_VQ)) return undefined;
  const index = 2 * (has(spec.VIRTIO_NET_F_MQ) ? options.queuePairs : 1);
  return activation.queues[index]?.enabled ? new VhostControlQueue(activation, index, options) : undefined;
}

class VhostControlQueue implements ControlTarget {
  readonly maxPairs: number;
  readonly #queue: SplitQueue;
  readonly #chain = new DescriptorChain();
  #cancel: (() => void) | undefined;

  constructor(
    private readonly activation: Activation,
    readonly index: number,
    private readonly options: VhostControlOptions,
  ) {
    this.maxPairs = options.queuePairs;
    this.#queue = activation.queues[index];
    // A driver starts with one pair and asks for more (§5.1.6.5.5). Queues that already moved were restored.
    let used = 1;
    for (let pair = 1; pair < this.maxPairs; pair++) {
      if ((activation.queues[2 * pair]?.nextAvail ?? 0) !== 0) used = pair + 1;
    }
    options.limitPairs(used);
  }

  serve(): void {
    let left = TURN_ORDERS;
    do {
      while (left > 0 && this.#queue.pop(this.#chain)) {
        left--;
        const answer = runControl(this.#chain, this);
        if (answer !== NO_ANSWER) this.#chain.writeU8(this.#chain.writableBytes - 1, answer);
        this.#queue.push(this.#chain.head, answer === NO_ANSWER ? 0 : 1);
      }
    } while (left > 0 && this.#queue.enableNotifications());
    if (this.#queue.publish()) this.activation.interruptQueue(this.index);
    if (this.#queue.fault !== undefined) this.activation.fail(this.#queue.fault);
    else if (left === 0) this.#cancel ??= this.activation.env.timer(0, () => this.#again());
  }

  pause(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  setPairs(pairs: number): void {
    this.options.limitPairs(pairs);
  }

  /** The back-end was told what the driver accepted and learns of no change; it may go on as before. */
  setOffloads(_featuresLow: number): boolean {
    return true;
  }

  acknowledgeAnnounce(): void {
    this.activation.config[spec.NetConfigLayout.status] &= ~spec.VIRTIO_NET_S_ANNOUNCE;
  }

  #again(): void {
    this.#cancel = undefined;
    this.serve();
  }
}
