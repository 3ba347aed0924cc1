/**
 * A network device: tap by name, by descriptor, created here, or a vhost-user back-end.
 *
 * L0. Source: spec/schemas.md "NetConfig".
 */
import * as z from "zod";
import { bool, choice, descriptor, ipAddress, mac, struct, text, u16, usize } from "@schemas/primitives.ts";
import { pciCommonShape, pciDevice } from "./pci_common.ts";
import { RateLimiterConfigSchema } from "./rate_limiter.ts";

/** Which side of a vhost-user socket we are. */
export const VhostModeSchema = choice("VhostMode", ["Client", "Server"]);
export type VhostMode = z.infer<typeof VhostModeSchema>;

export const NetConfigSchema = struct("NetConfig", {
  ...pciCommonShape,
  tap: text().describe("Tap interface name").optional(),
  ip: ipAddress().describe("Address the host side of the tap gets").optional(),
  mask: ipAddress().describe("Network mask the host side of the tap gets").optional(),
  mac: mac().describe("Guest MAC address, random when absent").optional(),
  host_mac: mac().describe("MAC address the host side of the tap gets").optional(),
  mtu: u16().optional(),
  num_queues: usize().describe("Receive and transmit queues together").default(2),
  queue_size: u16().default(256),
  vhost_user: bool().default(false),
  vhost_socket: text().optional(),
  vhost_mode: VhostModeSchema.default("Client"),
  fds: z.array(descriptor()).describe("Tap descriptors; never taken from JSON").optional(),
  rate_limiter_config: RateLimiterConfigSchema.optional(),
  offload_tso: bool().default(true),
  offload_ufo: bool().default(true),
  offload_csum: bool().default(true),
}, pciDevice);
/** A network interface: a tap, or a vhost-user back-end. */
export type NetConfig = z.infer<typeof NetConfigSchema>;
