/**
 * A block device: image file, block device or vhost-user back-end.
 *
 * L0. Source: spec/schemas.md "DiskConfig".
 */
import * as z from "zod";
import { bool, choice, path, struct, text, u16, usize } from "@schemas/primitives.ts";
import { pciCommonShape, pciDevice } from "./pci_common.ts";
import { RateLimiterConfigSchema } from "./rate_limiter.ts";

/** Image format; `Unknown` means detect it. */
export const ImageTypeSchema = choice("ImageType", [
  "FlatVmdk",
  "FixedVhd",
  "Qcow2",
  "Raw",
  "Vhdx",
  "Unknown",
]);
/** Image format; `Unknown` means detect it. */
export type ImageType = z.infer<typeof ImageTypeSchema>;

/** How much of the image file the advisory lock covers. */
export const LockGranularitySchema = choice("LockGranularity", ["ByteRange", "Full"]);
export type LockGranularity = z.infer<typeof LockGranularitySchema>;

/** Host CPUs the worker of one queue may run on. */
export const VirtQueueAffinitySchema = struct("VirtQueueAffinity", {
  queue_index: u16(),
  host_cpus: z.array(usize()),
});
export type VirtQueueAffinity = z.infer<typeof VirtQueueAffinitySchema>;

export const DiskConfigSchema = struct("DiskConfig", {
  ...pciCommonShape,
  path: path().describe("Image file or block device").optional(),
  readonly: bool().default(false),
  direct: bool().describe("Bypass the host page cache").default(false),
  num_queues: usize().default(1),
  queue_size: u16().default(128),
  vhost_user: bool().default(false),
  vhost_socket: text().optional(),
  rate_limit_group: text().optional(),
  rate_limiter_config: RateLimiterConfigSchema.optional(),
  disable_io_uring: bool().default(false),
  disable_aio: bool().default(false),
  serial: text().describe("Serial number, at most 20 bytes").optional(),
  queue_affinity: z.array(VirtQueueAffinitySchema).optional(),
  backing_files: bool().describe("Allow an image to name a backing file").default(false),
  sparse: bool().describe("Offer discard and write-zeroes").default(true),
  image_type: ImageTypeSchema.default("Unknown"),
  lock_granularity: LockGranularitySchema.default("ByteRange"),
}, pciDevice);
/** A disk: image file, block device or vhost-user back-end. */
export type DiskConfig = z.infer<typeof DiskConfigSchema>;
