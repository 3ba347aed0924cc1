/**
 * The smaller virtio devices: rng, rtc, balloon, fs, generic vhost-user, pmem, vdpa, vsock.
 *
 * L0. Source: spec/schemas.md "Others".
 */
import * as z from "zod";
import { bool, path, struct, text, u16, u32, u64, usize } from "@schemas/primitives.ts";
import { pciCommonShape, pciDevice } from "./pci_common.ts";

/** Entropy source unless configured. */
export const DEFAULT_RNG_SOURCE = "/dev/urandom";

export const RngConfigSchema = struct("RngConfig", {
  ...pciCommonShape,
  src: path().describe("Entropy source"),
}, pciDevice);
/** The source of entropy. */
export type RngConfig = z.infer<typeof RngConfigSchema>;

export const RtcConfigSchema = struct("RtcConfig", { ...pciCommonShape }, pciDevice);
/** The clock device. */
export type RtcConfig = z.infer<typeof RtcConfigSchema>;

export const BalloonConfigSchema = struct("BalloonConfig", {
  ...pciCommonShape,
  size: u64().describe("Bytes taken from the guest"),
  deflate_on_oom: bool().describe("Give memory back when the guest runs out of it").default(false),
  free_page_reporting: bool().describe("Let the guest report free pages").default(false),
}, pciDevice);
/** The balloon, which takes memory back from the guest. */
export type BalloonConfig = z.infer<typeof BalloonConfigSchema>;

export const FsConfigSchema = struct("FsConfig", {
  ...pciCommonShape,
  tag: text().describe("Mount tag"),
  socket: path().describe("vhost-user socket"),
  num_queues: usize().default(1),
  queue_size: u16().default(1024),
}, pciDevice);
/** A directory shared by a virtiofs back-end. */
export type FsConfig = z.infer<typeof FsConfigSchema>;

export const GenericVhostUserConfigSchema = struct("GenericVhostUserConfig", {
  ...pciCommonShape,
  socket: path().describe("vhost-user socket"),
  queue_sizes: z.array(u16()).describe("Size of each queue"),
  device_type: u32().describe("Virtio device id"),
}, pciDevice);
/** A virtio device of any kind that a vhost-user back-end makes. */
export type GenericVhostUserConfig = z.infer<typeof GenericVhostUserConfigSchema>;

export const PmemConfigSchema = struct("PmemConfig", {
  ...pciCommonShape,
  file: path().describe("Backing file, or a directory for a temporary one"),
  size: u64().describe("Size in bytes").optional(),
  discard_writes: bool().default(false),
}, pciDevice);
/** Persistent memory that is a file of the host. */
export type PmemConfig = z.infer<typeof PmemConfigSchema>;

export const VdpaConfigSchema = struct("VdpaConfig", {
  ...pciCommonShape,
  path: path().describe("vhost-vdpa character device"),
  num_queues: usize().default(1),
}, pciDevice);
/** A vDPA device of the host. */
export type VdpaConfig = z.infer<typeof VdpaConfigSchema>;

export const VsockConfigSchema = struct("VsockConfig", {
  ...pciCommonShape,
  cid: u32().meta({ description: "Guest context id", minimum: 3 }),
  socket: path().describe("UNIX socket the connections are proxied through"),
}, pciDevice);
/** Sockets between guest and host. */
export type VsockConfig = z.infer<typeof VsockConfigSchema>;
