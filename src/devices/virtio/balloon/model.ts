/**
 * What a balloon offers: features, queues and configuration bytes.
 *
 * L4, main isolate. Source: virtio 1.2 §5.5.2 to §5.5.4; machine model §8.
 */
import { VirtioId } from "@vmm/virtio/device.ts";
import { featureMask, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1 } from "@vmm/virtio/features.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";

export const VIRTIO_BALLOON_F_DEFLATE_ON_OOM = 2;
export const VIRTIO_BALLOON_F_REPORTING = 5;

/** Queues. The last one exists only with free page reporting; no statistics, no hints. */
export const INFLATE_QUEUE = 0;
export const DEFLATE_QUEUE = 1;
export const REPORTING_QUEUE = 2;
const QUEUE_SIZE = 128;
const REPORTING_QUEUE_SIZE = 32;

/** struct virtio_balloon_config: offsets in bytes; both fields u32, in pages of 4 KiB. */
export const BalloonConfigLayout = { num_pages: 0, actual: 4, size: 8 } as const;

/** Pages are counted in 4 KiB whatever the host's page size. */
export const BALLOON_PAGE_BYTES = 4096;

/** What decides how a balloon looks to the guest. */
export interface BalloonModelOptions {
  /** Bytes the guest is asked to give up; the rest of a page is cut off. */
  readonly sizeBytes: number;
  readonly deflateOnOom: boolean;
  readonly freePageReporting: boolean;
  /** The device is behind the virtual IOMMU. */
  readonly iommu: boolean;
}

/** The device-type part of a transport description. */
export function balloonModel(
  options: BalloonModelOptions,
): Pick<VirtioPciDescription, "virtioId" | "queueSizes" | "features" | "config" | "configWritable"> {
  const bits = [VIRTIO_F_VERSION_1];
  if (options.deflateOnOom) bits.push(VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
  if (options.freePageReporting) bits.push(VIRTIO_BALLOON_F_REPORTING);
  if (options.iommu) bits.push(VIRTIO_F_ACCESS_PLATFORM);
  const config = new Uint8Array(BalloonConfigLayout.size);
  setBalloonTarget(config, options.sizeBytes);
  const configWritable = new Uint8Array(BalloonConfigLayout.size);
  configWritable.fill(0xff, BalloonConfigLayout.actual);
  return {
    virtioId: VirtioId.balloon,
    queueSizes: [QUEUE_SIZE, QUEUE_SIZE, ...(options.freePageReporting ? [REPORTING_QUEUE_SIZE] : [])],
    features: featureMask(...bits),
    config,
    configWritable,
  };
}

const wordsOf = (config: Uint8Array): DataView =>
  new DataView(config.buffer, config.byteOffset, BalloonConfigLayout.size);

/** Writes how much the guest is asked to give up, in bytes, into configuration bytes. Only the low 32 bits of pages fit. */
export function setBalloonTarget(config: Uint8Array, sizeBytes: number): void {
  wordsOf(config).setUint32(BalloonConfigLayout.num_pages, Math.floor(sizeBytes / BALLOON_PAGE_BYTES), true);
}

/** How much the guest says it has given up, in bytes. */
export function balloonActualBytes(config: Uint8Array): number {
  return wordsOf(config).getUint32(BalloonConfigLayout.actual, true) * BALLOON_PAGE_BYTES;
}
