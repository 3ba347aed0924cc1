/**
 * What a block device offers: features, queues and configuration bytes.
 *
 * L4, main isolate. Source: virtio 1.2 §5.2.3, §5.2.4; spec/machine-model.md §8.
 */
import { VirtioId } from "@vmm/virtio/device.ts";
import {
  featureMask,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
} from "@vmm/virtio/features.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";
import {
  BlockConfig,
  SECTOR_BYTES,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
} from "./spec.ts";

/** Descriptors of a request that carry no data: header and status. */
const FRAMING_DESCRIPTORS = 2;
const ALL_ONES = 0xffff_ffff;

/** What decides how a block device looks to the guest. Sizes in bytes. */
export interface BlockModelOptions {
  readonly sizeBytes: number;
  readonly readonly: boolean;
  /** The image can zero ranges. */
  readonly canZero: boolean;
  /** Space may be given back to the host. */
  readonly sparse: boolean;
  readonly numQueues: number;
  readonly queueSize: number;
  /** The device is behind the virtual IOMMU. */
  readonly iommu: boolean;
  readonly topology: {
    readonly logical: number;
    readonly physical: number;
    readonly minimumIo: number;
    readonly optimalIo: number;
  };
}

/** The part of a transport description that a device's model decides. */
export type BlockModel = Pick<
  VirtioPciDescription,
  "virtioId" | "queueSizes" | "features" | "config" | "configWritable"
>;

/** Builds the model. Never throws. */
export function blockModel(options: BlockModelOptions): BlockModel {
  const features = featuresOf(options);
  const offers = (bit: number) => (features & featureMask(bit)) !== 0n;
  const { topology } = options;
  const logical = Math.max(topology.logical, SECTOR_BYTES);
  const config = new Uint8Array(BlockConfig.size);
  const view = new DataView(config.buffer);
  setCapacity(config, options.sizeBytes);
  view.setUint32(BlockConfig.seg_max, options.queueSize - FRAMING_DESCRIPTORS, true);
  view.setUint32(BlockConfig.blk_size, topology.logical, true);
  view.setUint8(
    BlockConfig.physical_block_exp,
    Math.max(0, Math.ceil(Math.log2(topology.physical / logical))),
  );
  view.setUint16(BlockConfig.min_io_size, topology.minimumIo / logical, true);
  view.setUint32(BlockConfig.opt_io_size, topology.optimalIo / logical, true);
  view.setUint8(BlockConfig.writeback, 1);
  if (options.numQueues > 1) view.setUint16(BlockConfig.num_queues, options.numQueues, true);
  if (offers(VIRTIO_BLK_F_DISCARD)) {
    view.setUint32(BlockConfig.max_discard_sectors, ALL_ONES, true);
    view.setUint32(BlockConfig.max_discard_seg, 1, true);
    view.setUint32(BlockConfig.discard_sector_alignment, logical / SECTOR_BYTES, true);
  }
  if (offers(VIRTIO_BLK_F_WRITE_ZEROES)) {
    view.setUint32(BlockConfig.max_write_zeroes_sectors, ALL_ONES, true);
    view.setUint32(BlockConfig.max_write_zeroes_seg, 1, true);
    view.setUint8(BlockConfig.write_zeroes_may_unmap, offers(VIRTIO_BLK_F_DISCARD) ? 1 : 0);
  }
  // The cache mode is the only field a driver may write.
  const configWritable = new Uint8Array(BlockConfig.size);
  configWritable[BlockConfig.writeback] = 0xff;
  const queueSizes = new Array<number>(options.numQueues).fill(options.queueSize);
  return { virtioId: VirtioId.block, features, queueSizes, config, configWritable };
}

/** Writes the capacity field: whole sectors of `sizeBytes`. */
export function setCapacity(config: Uint8Array, sizeBytes: number): void {
  const sectors = Math.floor(sizeBytes / SECTOR_BYTES);
  const view = new DataView(config.buffer, config.byteOffset, config.byteLength);
  view.setUint32(BlockConfig.capacity, sectors, true);
  view.setUint32(BlockConfig.capacity + 4, Math.floor(sectors / 0x1_0000_0000), true);
}

function featuresOf(options: BlockModelOptions): bigint {
  const bits = [
    VIRTIO_F_VERSION_1,
    VIRTIO_F_RING_EVENT_IDX,
    VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_CONFIG_WCE,
    VIRTIO_BLK_F_BLK_SIZE,
    VIRTIO_BLK_F_TOPOLOGY,
    VIRTIO_BLK_F_SEG_MAX,
  ];
  // Indirect tables would have to be translated as well; the original withdraws the feature there too.
  bits.push(options.iommu ? VIRTIO_F_ACCESS_PLATFORM : VIRTIO_F_RING_INDIRECT_DESC);
  if (options.readonly) bits.push(VIRTIO_BLK_F_RO);
  if (options.numQueues > 1) bits.push(VIRTIO_BLK_F_MQ);
  if (options.canZero) {
    bits.push(VIRTIO_BLK_F_WRITE_ZEROES);
    if (options.sparse) bits.push(VIRTIO_BLK_F_DISCARD);
  }
  return featureMask(...bits);
}
