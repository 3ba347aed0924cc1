/**
 * What devices behind vhost-user sockets wish for, and how they look to the guest once the back-end has answered.
 *
 * L4, main isolate; pure. Source: spec/machine-model.md §8 and §12; virtio 1.2 §5.1, §5.2, §5.11.
 */
import { VirtioId } from "@vmm/virtio/device.ts";
import {
  featureMask,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
} from "@vmm/virtio/features.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";

/** The part of a transport description that a device's model decides. */
export type VhostUserModel = Pick<
  VirtioPciDescription,
  "virtioId" | "queueSizes" | "features" | "config" | "configWritable" | "forwardsConfig"
>;

/** Features of rings a back-end may have. */
const RING_FEATURES = featureMask(
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_VERSION_1,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_ORDER_PLATFORM,
  VIRTIO_F_NOTIFICATION_DATA,
);

/** Bits that belong to the device type (virtio 1.2 §2.2). */
const DEVICE_FEATURES = ((1n << 24n) - 1n) | (((1n << 14n) - 1n) << 50n);

/** struct virtio_blk_config, as far as the original shows it. */
const BlockConfig = { writeback: 32, num_queues: 34, size: 60 } as const;

/** VIRTIO_BLK_F_*: SIZE_MAX, SEG_MAX, GEOMETRY, RO, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, DISCARD, WRITE_ZEROES. */
const BLOCK_FEATURES = featureMask(1, 2, 4, 5, 6, 9, 10, 11, 13, 14);
const VIRTIO_BLK_F_MQ = 12;

/** Wishes for a block device. */
export function blockWishes(numQueues: number): bigint {
  return RING_FEATURES | BLOCK_FEATURES | (numQueues > 1 ? featureMask(VIRTIO_BLK_F_MQ) : 0n);
}

/** Length of the configuration a block back-end must have. */
export const BLOCK_CONFIG_BYTES = BlockConfig.size;

/** What the front-end says of the queues, whatever the back-end could do. */
export function blockOverride(numQueues: number): { offset: number; bytes: Uint8Array } {
  return { offset: BlockConfig.num_queues, bytes: Uint8Array.of(numQueues & 0xff, numQueues >> 8 & 0xff) };
}

/** A block device whose configuration is the back-end's; the driver may switch its write cache. */
export function blockModel(
  agreed: bigint,
  config: Uint8Array,
  numQueues: number,
  queueSize: number,
): VhostUserModel {
  const configWritable = new Uint8Array(config.byteLength);
  configWritable[BlockConfig.writeback] = 0xff;
  const queueSizes = new Array<number>(numQueues).fill(queueSize);
  return {
    virtioId: VirtioId.block,
    queueSizes,
    features: agreed,
    config,
    configWritable,
    forwardsConfig: true,
  };
}

/** struct virtio_fs_config. */
const FsConfig = { tag: 0, tagBytes: 36, num_request_queues: 36, size: 40 } as const;

/** Wishes for a file system: it has no features of its own. */
export const FS_WISHES: bigint = RING_FEATURES;

/** A file system: one queue for urgent requests, then the request queues. A longer tag is cut. */
export function fsModel(agreed: bigint, tag: string, numQueues: number, queueSize: number): VhostUserModel {
  const config = new Uint8Array(FsConfig.size);
  config.set(new TextEncoder().encode(tag).subarray(0, FsConfig.tagBytes), FsConfig.tag);
  new DataView(config.buffer).setUint32(FsConfig.num_request_queues, numQueues, true);
  const queueSizes = new Array<number>(1 + numQueues).fill(queueSize);
  return { virtioId: VirtioId.fs, queueSizes, features: agreed, config };
}

/** Wishes for a device of which only the type is known. */
export const GENERIC_WISHES: bigint = RING_FEATURES | DEVICE_FEATURES;

/** A device of any type; its configuration is the back-end's, and writes go there. */
export function genericModel(
  agreed: bigint,
  config: Uint8Array,
  virtioId: number,
  queueSizes: readonly number[],
): VhostUserModel {
  return {
    virtioId,
    queueSizes,
    features: agreed,
    config,
    configWritable: new Uint8Array(config.byteLength).fill(0xff),
    forwardsConfig: true,
  };
}
