/**
 * Parameters of `--net`.
 *
 * L0. Source: spec/cli.md §2, spec/schemas.md "NetConfig".
 */
import type { NetConfig } from "@schemas/api/net.ts";
import { parametersOf } from "./parameter.ts";
import { pciParameters } from "./pci_common.ts";
import { rateLimiterParameters } from "./rate_limiter.ts";

export const netParameters = parametersOf<NetConfig>()({
  ...pciParameters,
  tap: { kind: "string", field: "tap", value: "<if_name>", doc: "Tap interface; made here when absent" },
  ip: { kind: "ip", field: "ip", value: "<address>", doc: "Address of the host side" },
  mask: { kind: "ip", field: "mask", value: "<netmask>", doc: "Network mask of the host side" },
  mac: { kind: "mac", field: "mac", value: "<mac>", doc: "MAC address of the guest; random when absent" },
  host_mac: { kind: "mac", field: "host_mac", value: "<mac>", doc: "MAC address of the host side" },
  mtu: { kind: "u16", field: "mtu", value: "<bytes>", doc: "MTU, at least 1280" },
  num_queues: {
    kind: "usize",
    field: "num_queues",
    value: "<number>",
    default: 2,
    doc: "Receive and transmit queues together",
  },
  queue_size: { kind: "u16", field: "queue_size", value: "<size>", default: 256, doc: "Size of each queue" },
  vhost_user: { kind: "toggle", field: "vhost_user", default: false, doc: "A vhost-user back-end serves it" },
  socket: {
    kind: "string",
    field: "vhost_socket",
    value: "<socket_path>",
    doc: "Socket of the vhost-user back-end",
  },
  vhost_mode: {
    kind: "choice",
    field: "vhost_mode",
    choices: { client: "Client", server: "Server" },
    default: "Client",
    doc: "Our side of that socket",
  },
  fd: { kind: "i32List", field: "fds", value: "[<fd>,...]", doc: "Open tap descriptors, one per queue pair" },
  ...rateLimiterParameters,
  offload_tso: { kind: "toggle", field: "offload_tso", default: true, doc: "TCP segmentation offload" },
  offload_ufo: { kind: "toggle", field: "offload_ufo", default: true, doc: "UDP fragmentation offload" },
  offload_csum: { kind: "toggle", field: "offload_csum", default: true, doc: "Checksum offload" },
});
