/**
 * Parameters of restore and migration: `--restore`, `remote restore`, `receive-migration`, `send-migration`.
 *
 * L0. Source: spec/cli.md §2, §7, spec/schemas.md "Request / response objects".
 */
import type { ReceiveMigrationData, RestoreConfig, SendMigrationData } from "@schemas/api/migration.ts";
import { parametersOf } from "./parameter.ts";

const vfioFds = {
  kind: "tuples",
  field: "vfio_fds",
  value: "[<id>@<fd>,...]",
  tuple: { key: ["id", "string"], value: ["fd", "i32"] },
  doc: "New descriptor for each VFIO device; needs `iommufd_fd`",
} as const;

const zoneUpdates = {
  kind: "tuples",
  field: "zone_updates",
  value: "[<id>@<host_numa_node>,...]",
  tuple: { key: ["id", "string"], value: ["host_numa_node", "u32"] },
  doc: "New host NUMA nodes of memory zones",
} as const;

const tlsDir = {
  kind: "string",
  field: "tls_dir",
  value: "<path>",
  doc: "Directory with certificates and key",
} as const;

const memoryMode = {
  kind: "choice",
  field: "memory_mode",
  choices: { precopy: "Precopy", postcopy: "Postcopy" },
  default: "Precopy",
  doc: "Move memory before or after the guest",
} as const;

export const restoreParameters = parametersOf<RestoreConfig>()({
  source_url: {
    kind: "string",
    field: "source_url",
    value: "<source_url>",
    missing: "Error parsing --restore: source_url missing",
    doc: "`file://` URL of the snapshot directory",
  },
  prefault: { kind: "toggle", field: "prefault", default: false, doc: "Touch all memory before the start" },
  memory_restore_mode: {
    kind: "choice",
    field: "memory_restore_mode",
    choices: { copy: "Copy", ondemand: "OnDemand" },
    default: "Copy",
    doc: "Read memory at once, or when the guest touches it",
  },
  net_fds: {
    kind: "tuples",
    field: "net_fds",
    value: "[<id>@[<fd>,...],...]",
    tuple: { key: ["id", "string"], value: ["fds", "i32List"] },
    doc: "New descriptors for network devices made from descriptors",
  },
  vfio_fds: vfioFds,
  iommufd_fd: { kind: "i32", field: "iommufd_fd", value: "<fd>", doc: "New iommufd" },
  resume: { kind: "toggle", field: "resume", default: false, doc: "Let the guest run at once" },
  zone_updates: zoneUpdates,
});

export const receiveMigrationParameters = parametersOf<ReceiveMigrationData>()({
  receiver_url: {
    kind: "string",
    field: "receiver_url",
    value: "<url>",
    missing: "Invalid syntax: receiver_url is required",
    doc: "`unix:<path>` or `tcp:<host>:<port>` to listen on",
  },
  tls_dir: tlsDir,
  memory_mode: memoryMode,
  vfio_fds: vfioFds,
  iommufd_fd: { kind: "i32", field: "iommufd_fd", value: "<fd>", doc: "New iommufd" },
  zone_updates: zoneUpdates,
});

export const sendMigrationParameters = parametersOf<SendMigrationData>()({
  destination_url: {
    kind: "string",
    field: "destination_url",
    value: "<url>",
    missing: "Invalid syntax: destination_url is required",
    doc: "`unix:<path>` or `tcp:<host>:<port>` the receiver listens on",
  },
  local: { kind: "toggle", field: "local", default: false, doc: "Same host: hand memory over, do not copy" },
  preserve_source: {
    kind: "toggle",
    field: "preserve_source",
    default: false,
    doc: "Keep the source VM after success; needs `local`",
  },
  downtime_ms: {
    kind: "u64",
    field: "downtime_ms",
    value: "<ms>",
    default: 300n,
    doc: "Longest time the guest may stand still",
  },
  timeout_s: {
    kind: "u64",
    field: "timeout_s",
    value: "<seconds>",
    default: 3600n,
    doc: "Longest time for the whole migration",
  },
  timeout_strategy: {
    kind: "choice",
    field: "timeout_strategy",
    choices: { cancel: "Cancel", ignore: "Ignore" },
    default: "Cancel",
    doc: "What happens then",
  },
  connections: {
    kind: "u32",
    field: "connections",
    value: "<number>",
    default: 1,
    doc: "Parallel TCP connections, 1 to 128",
  },
  tls_dir: tlsDir,
  memory_mode: memoryMode,
});
