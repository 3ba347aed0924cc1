/**
 * virtio-block over an image file or block device.
 *
 * L5, main isolate.
 */
import type { DiskConfig } from "@schemas/api/disk.ts";
import { openDisk, type OpenedDisk } from "@vmm/backends/disk/open.ts";
import type { DiskDescription } from "@vmm/backends/disk/description.ts";
import { createBlockCounters, readBlockCounters } from "@vmm/devices/virtio/block/counters.ts";
import type { BlockBackend } from "@vmm/devices/virtio/block/handler.ts";
import { blockModel } from "@vmm/devices/virtio/block/model.ts";
import { VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES } from "@vmm/devices/virtio/block/spec.ts";
import { featureMask } from "@vmm/virtio/features.ts";
import { limiterOf } from "./limiter.ts";
import { placementOf, type PluggedDevice } from "./plugged_device.ts";

/** What the I/O Workers are told of a disk: counters for each share of its queues. */
export type DiskBackend = Omit<BlockBackend<DiskDescription>, "counters"> & {
  readonly shares: readonly SharedArrayBuffer[];
};

/** A disk, with what resizing it needs besides. */
export interface PluggedDisk extends PluggedDevice {
  readonly disk: OpenedDisk;
}

/** Formats whose requests do not depend on each other. */
const SHAREABLE: readonly string[] = ["raw", "vhd", "vmdk"];

/**
 * Opens the image and describes the device.
 *
 * @param groups limiters of the VM's rate limit groups, by id
 * @throws DiskError
 */
export function plugDisk(
  config: DiskConfig,
  id: string,
  groups: ReadonlyMap<string, SharedArrayBuffer>,
): PluggedDisk {
  const disk = openDisk(config);
  const model = blockModel({
    sizeBytes: disk.description.sizeBytes,
    readonly: config.readonly,
    canZero: disk.canZero && !config.readonly,
    sparse: config.sparse,
    numQueues: config.num_queues,
    queueSize: config.queue_size,
    iommu: config.iommu,
    topology: disk.topology,
  });
  const queues = model.queueSizes.map((_, queue) => queue);
  // What the tables of these formats say of one request may change with another one: one thread at a time.
  const isShareable = SHAREABLE.includes(disk.description.format);
  const queueGroups = isShareable ? queues.map((queue) => [queue]) : [queues];
  const shares = queueGroups.map(() => createBlockCounters());
  const offers = (bit: number) => (model.features & featureMask(bit)) !== 0n;
  const backend: DiskBackend = {
    image: disk.description,
    readonly: config.readonly,
    protectSectorZero: disk.protectSectorZero,
    discard: offers(VIRTIO_BLK_F_DISCARD),
    writeZeroes: offers(VIRTIO_BLK_F_WRITE_ZEROES),
    serial: config.serial === undefined ? disk.defaultSerial : new TextEncoder().encode(config.serial),
    shares,
    limiter: limiterOf(config.rate_limiter_config) ??
      (config.rate_limit_group === undefined ? undefined : groups.get(config.rate_limit_group)),
  };
  return {
    id,
    kind: "block",
    placement: placementOf(config),
    model,
    backend,
    queueGroups,
    queueAffinity: config.queue_affinity?.map(({ queue_index, host_cpus }) => ({
      queue: queue_index,
      cpus: host_cpus,
    })),
    config: { ...config, id, image_type: disk.imageType, backing_files: disk.backingFiles },
    warnings: disk.warnings,
    lock: () => disk.lock.acquire(),
    counters: () => readBlockCounters(...shares),
    release: () => disk.close(),
    disk,
  };
}
