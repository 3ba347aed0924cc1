/**
 * Rules of the parameters of restore, migration and memory zone updates.
 *
 * L0, pure. Source: spec/schemas.md rule 20, spec/lifecycle.md; order and texts as observed on the original.
 */
import { ConfigError } from "@vmm/errors/config_error.ts";
import type {
  ReceiveMigrationData,
  RestoreConfig,
  SendMigrationData,
  VmMemoryZoneUpdateData,
} from "./api/migration.ts";
import type { VmConfig } from "./api/vm_config.ts";
import { parseMigrationUrl } from "./migration_url.ts";
import { fault, type Faults, firstError } from "./rules/fault.ts";

/** Most TCP connections of one migration. */
export const MAX_MIGRATION_CONNECTIONS = 128;

/**
 * The first rule `restore` breaks against the `saved` configuration, or undefined. Run after `config.json` was read
 * and before anything else of the snapshot. Never throws.
 */
export function validateRestore(restore: RestoreConfig, saved: VmConfig): ConfigError | undefined {
  return firstError(restoreFaults(restore, saved));
}

function* restoreFaults(restore: RestoreConfig, saved: VmConfig): Faults {
  if (restore.prefault && restore.memory_restore_mode === "OnDemand") {
    yield fault("'prefault' cannot be combined with 'memory_restore_mode=ondemand'", "prefault", true);
  }
  yield* uniqueIdFaults(restore.net_fds ?? [], "net_fds");
  yield* netDescriptorFaults(restore, saved);
  yield* zoneUpdateFaults(restore.zone_updates, {
    duplicate: "Multiple updates for the same zone defined",
    empty: "At least one memory zone update with an empty ID was defined",
  });
  yield* vfioDescriptorFaults(restore, saved);
}

function* uniqueIdFaults(entries: readonly { readonly id: string }[], path: string): Faults {
  const seen = new Set<string>();
  for (const [index, { id }] of entries.entries()) {
    if (seen.has(id)) yield fault(`Identifier ${id} is not unique`, `${path}[${index}].id`, id, 409);
    seen.add(id);
  }
}

/** Every saved network device that lived on descriptors needs as many new ones. */
function* netDescriptorFaults({ net_fds: given = [] }: RestoreConfig, saved: VmConfig): Faults {
  for (const net of saved.net ?? []) {
    if (net.fds === undefined) continue;
    // An entry cannot name a device without an identifier, so it is missing too.
    const entry = given.find(({ id }) => id === net.id);
    if (entry === undefined) {
      yield fault(`Net id ${net.id ?? ""} is associated with FDs and is required`, "net_fds", net.id);
    } else if (entry.num_fds !== net.fds.length) {
      yield fault(
        `Number of Net FDs passed for '${entry.id}' during Restore: ${entry.num_fds}. Expected: ${net.fds.length}`,
        "net_fds",
        entry.num_fds,
      );
    }
  }
}

/** New VFIO descriptors name saved devices, and those that lived on a descriptor get one. */
function* vfioDescriptorFaults({ vfio_fds: given }: RestoreConfig, saved: VmConfig): Faults {
  if (given !== undefined && !saved.platform?.iommufd) {
    yield fault("Platform `iommufd_fd=<fd>` requires `iommufd=on`", "vfio_fds");
  }
  yield* uniqueIdFaults(given ?? [], "vfio_fds");
  const devices = saved.devices ?? [];
  for (const [index, { id }] of (given ?? []).entries()) {
    if (!devices.some((device) => device.id === id)) {
      yield fault(
        `VFIO device id '${id}' in 'vfio_fds' does not match any device in the snapshot`,
        `vfio_fds[${index}].id`,
        id,
      );
    }
  }
  for (const device of devices) {
    if (device.fd !== undefined && !given?.some(({ id }) => id === device.id)) {
      yield fault(
        `VFIO device '${device.id ?? ""}' was FD backed and needs a new fd in 'vfio_fds'`,
        "vfio_fds",
        device.id,
      );
    }
  }
}

function* zoneUpdateFaults(
  updates: readonly VmMemoryZoneUpdateData[],
  texts: { readonly duplicate: string; readonly empty: string },
): Faults {
  const ids = updates.map(({ id }) => id);
  const duplicate = ids.findIndex((id, index) => ids.indexOf(id) !== index);
  if (duplicate >= 0) yield fault(texts.duplicate, `zone_updates[${duplicate}].id`, ids[duplicate]);
  const empty = ids.indexOf("");
  if (empty >= 0) yield fault(texts.empty, `zone_updates[${empty}].id`, "");
}

/**
 * Checks that each update names a zone of `config`: the error to report, or undefined. Status 500, as the original.
 * Never throws.
 */
export function validateZoneUpdates(
  config: VmConfig,
  updates: readonly VmMemoryZoneUpdateData[],
): ConfigError | undefined {
  const error = (message: string, fieldPath: string, value?: unknown) =>
    new ConfigError({
      messages: [message],
      fieldPath,
      value,
      status: 500,
      context: ["Error applying memory zone updates"],
    });
  if (updates.length === 0) return undefined;
  const { zones } = config.memory;
  if (zones === undefined) return error("No zones specified in original config", "zone_updates");
  const unknown = updates.findIndex(({ id }) => !zones.some((zone) => zone.id === id));
  if (unknown < 0) return undefined;
  const { id } = updates[unknown];
  return error(`Zone ID "${id}" wasn't contained in original config`, `zone_updates[${unknown}].id`, id);
}

/** `config` with the host NUMA nodes of `updates`, which `validateZoneUpdates()` has accepted. Never throws. */
export function withZoneUpdates(config: VmConfig, updates: readonly VmMemoryZoneUpdateData[]): VmConfig {
  const { zones } = config.memory;
  if (zones === undefined || updates.length === 0) return config;
  const nodes = new Map(updates.map(({ id, host_numa_node }) => [id, host_numa_node]));
  const updated = zones.map((zone) => {
    const node = nodes.get(zone.id);
    return node === undefined ? zone : { ...zone, host_numa_node: node };
  });
  return { ...config, memory: { ...config.memory, zones: updated } };
}

/** What stands above the faults of each direction. */
const SEND_CONTEXT = ["Failed to send migratable component snapshot", "Invalid send migration configuration"];
const RECEIVE_CONTEXT = [
  "Failed to receive migratable component snapshot",
  "Invalid receive migration configuration",
];

function firstMigrationError(faults: Faults, context: readonly string[]): ConfigError | undefined {
  for (const found of faults) return new ConfigError({ ...found, status: 500, context });
  return undefined;
}

/**
 * The first rule `data` breaks, or undefined. Files of `tls_dir` are checked by whoever reads them. Status 500, as
 * the original. Never throws.
 */
export function validateSendMigration(data: SendMigrationData): ConfigError | undefined {
  return firstMigrationError(sendFaults(data), SEND_CONTEXT);
}

function* sendFaults(data: SendMigrationData): Faults {
  const sendFault = (message: string, fieldPath: keyof SendMigrationData, details: readonly string[] = []) =>
    fault([`Error validating send migration parameters: ${message}`, ...details], fieldPath, data[fieldPath]);
  const url = parseMigrationUrl(data.destination_url);
  if (url.kind === "fault") {
    yield sendFault(
      "destination_url must use tcp:<host>:<port> or unix:<path>.",
      "destination_url",
      url.details,
    );
  }
  if (url.kind === "unix") {
    if (data.connections > 1) {
      yield sendFault("UNIX sockets and connections option cannot be used at the same time.", "connections");
    }
    if (data.tls_dir !== undefined) {
      yield sendFault("UNIX sockets and TLS encryption cannot be used at the same time.", "tls_dir");
    }
  } else if (data.local) {
    yield sendFault("local option is only supported with UNIX sockets.", "local");
  }
  if (data.connections > MAX_MIGRATION_CONNECTIONS) {
    yield sendFault(`connections must not exceed ${MAX_MIGRATION_CONNECTIONS}.`, "connections");
  }
  if (data.preserve_source && !data.local) {
    yield sendFault("preserve_source option is only supported with the local option.", "preserve_source");
  }
  if (data.memory_mode !== "Postcopy") return;
  if (data.local) {
    yield sendFault("memory_mode=postcopy and local options are mutually exclusive.", "memory_mode");
  }
  if (data.connections > 1) {
    yield sendFault(
      "memory_mode=postcopy currently requires a single connection (connections=1).",
      "connections",
    );
  }
}

/**
 * The first rule `data` breaks, or undefined. Files of `tls_dir` are checked by whoever reads them. Status 500, as
 * the original. Never throws.
 */
export function validateReceiveMigration(data: ReceiveMigrationData): ConfigError | undefined {
  return firstMigrationError(receiveFaults(data), RECEIVE_CONTEXT);
}

function* receiveFaults(data: ReceiveMigrationData): Faults {
  const url = parseMigrationUrl(data.receiver_url);
  if (url.kind === "fault") {
    const message = url.reason === "scheme"
      ? "Expected receiver_url to either use `tcp` or `unix` prefix"
      : "Expected receiver_url in the form of either `tcp:<host>:<port>` or `unix:<path>:`";
    yield fault([message, ...url.details], "receiver_url", data.receiver_url);
  }
  if (url.kind === "unix" && data.tls_dir !== undefined) {
    yield fault("UNIX sockets and TLS encryption cannot be used at the same time", "tls_dir", data.tls_dir);
  }
  yield* zoneUpdateFaults(data.zone_updates, {
    duplicate: "More than one update was defined for at least one memory zone",
    empty: "One or more memory zone updates contained an empty ID",
  });
}
