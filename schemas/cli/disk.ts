/**
 * Parameters of `--disk`.
 *
 * L0. Source: spec/cli.md §2, spec/schemas.md "DiskConfig".
 */
import type { DiskConfig } from "@schemas/api/disk.ts";
import { parametersOf } from "./parameter.ts";
import { pciParameters } from "./pci_common.ts";
import { rateLimiterParameters } from "./rate_limiter.ts";

export const diskParameters = parametersOf<DiskConfig>()({
  ...pciParameters,
  path: { kind: "string", field: "path", value: "<path>", doc: "Image file or block device" },
  readonly: { kind: "toggle", field: "readonly", default: false, doc: "The guest cannot write" },
  direct: { kind: "toggle", field: "direct", default: false, doc: "Bypass the host page cache" },
  num_queues: {
    kind: "usize",
    field: "num_queues",
    value: "<number>",
    default: 1,
    doc: "Number of queues",
  },
  queue_size: { kind: "u16", field: "queue_size", value: "<size>", default: 128, doc: "Size of each queue" },
  vhost_user: { kind: "toggle", field: "vhost_user", default: false, doc: "A vhost-user back-end serves it" },
  socket: {
    kind: "string",
    field: "vhost_socket",
    value: "<socket_path>",
    doc: "Socket of the vhost-user back-end",
  },
  rate_limit_group: {
    kind: "string",
    field: "rate_limit_group",
    value: "<group_id>",
    doc: "Rate limit group, see `--rate-limit-group`",
  },
  ...rateLimiterParameters,
  _disable_io_uring: {
    kind: "toggle",
    field: "disable_io_uring",
    default: false,
    hidden: true,
    doc: "Do not use io_uring",
  },
  _disable_aio: { kind: "toggle", field: "disable_aio", default: false, hidden: true, doc: "Do not use AIO" },
  serial: { kind: "string", field: "serial", value: "<serial>", doc: "Serial number, at most 20 bytes" },
  queue_affinity: {
    kind: "tuples",
    field: "queue_affinity",
    value: "[<queue>@[<host_cpus>],...]",
    tuple: { key: ["queue_index", "u16"], value: ["host_cpus", "usizeList"] },
    doc: "Host CPUs the worker of each queue may run on",
  },
  backing_files: {
    kind: "toggle",
    field: "backing_files",
    default: false,
    doc: "Allow the image to name a backing file",
  },
  sparse: { kind: "toggle", field: "sparse", default: true, doc: "Offer discard and write-zeroes" },
  image_type: {
    kind: "choice",
    field: "image_type",
    choices: { raw: "Raw", qcow2: "Qcow2", vhd: "FixedVhd", vhdx: "Vhdx", vmdk: "FlatVmdk" },
    default: "Unknown",
    doc: "Image format; detected when absent",
  },
  lock_granularity: {
    kind: "choice",
    field: "lock_granularity",
    choices: { "byte-range": "ByteRange", full: "Full" },
    exactCase: true,
    default: "ByteRange",
    doc: "How much of the image the advisory lock covers",
  },
});
