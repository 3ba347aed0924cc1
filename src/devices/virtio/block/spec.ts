/**
 * Numbers of the virtio block device.
 *
 * L4, pure. Source: virtio 1.2 §5.2, include/uapi/linux/virtio_blk.h.
 */

/** Feature bit numbers. */
export const VIRTIO_BLK_F_SEG_MAX = 2;
export const VIRTIO_BLK_F_RO = 5;
export const VIRTIO_BLK_F_BLK_SIZE = 6;
export const VIRTIO_BLK_F_FLUSH = 9;
export const VIRTIO_BLK_F_TOPOLOGY = 10;
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
export const VIRTIO_BLK_F_MQ = 12;
export const VIRTIO_BLK_F_DISCARD = 13;
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;

/** Request types. */
export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;

/** Status bytes. */
export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;

/** Flag of a write-zeroes segment: the space may be given back. */
export const VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1;

/** Bytes of a sector, whatever the block size. */
export const SECTOR_BYTES = 512;

/** struct virtio_blk_outhdr: field offsets and size. */
export const RequestHeader = { type: 0, sector: 8, size: 16 } as const;

/** struct virtio_blk_discard_write_zeroes: field offsets and size. */
export const RangeSegment = { sector: 0, sectorCount: 8, flags: 12, size: 16 } as const;

/** struct virtio_blk_config: field offsets and size. */
export const BlockConfig = {
  capacity: 0,
  size_max: 8,
  seg_max: 12,
  geometry: 16,
  blk_size: 20,
  physical_block_exp: 24,
  alignment_offset: 25,
  min_io_size: 26,
  opt_io_size: 28,
  writeback: 32,
  num_queues: 34,
  max_discard_sectors: 36,
  max_discard_seg: 40,
  discard_sector_alignment: 44,
  max_write_zeroes_sectors: 48,
  max_write_zeroes_seg: 52,
  write_zeroes_may_unmap: 56,
  size: 60,
} as const;
