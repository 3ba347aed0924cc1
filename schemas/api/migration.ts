/**
 * Bodies of restore and migration.
 *
 * L0. Source: spec/schemas.md "Request / response objects".
 */
import * as z from "zod";
import {
  bool,
  choice,
  descriptor,
  nonZeroU32,
  nonZeroU64,
  path,
  struct,
  text,
  u32,
  usize,
} from "@schemas/primitives.ts";

/** How guest memory comes back: read at once, or when touched. */
export const MemoryRestoreModeSchema = choice("MemoryRestoreMode", ["Copy", "OnDemand"]);
export type MemoryRestoreMode = z.infer<typeof MemoryRestoreModeSchema>;

/** Whether memory moves before or after the guest does. */
export const MigrationModeSchema = choice("MigrationMode", ["Precopy", "Postcopy"]);
export type MigrationMode = z.infer<typeof MigrationModeSchema>;

/** What to do when a migration has not converged in time. */
export const TimeoutStrategySchema = choice("TimeoutStrategy", ["Cancel", "Ignore"]);
export type TimeoutStrategy = z.infer<typeof TimeoutStrategySchema>;

/** Tap descriptors sent along for one saved network device. */
export const RestoredNetConfigSchema = struct("RestoredNetConfig", {
  id: text(),
  num_fds: usize().default(0),
  fds: z.array(descriptor()).optional(),
});
export type RestoredNetConfig = z.infer<typeof RestoredNetConfigSchema>;

/** VFIO descriptor sent along for one saved device. */
export const RestoredVfioConfigSchema = struct("RestoredVfioConfig", {
  id: text(),
  fd: descriptor().optional(),
});
export type RestoredVfioConfig = z.infer<typeof RestoredVfioConfigSchema>;

/** New host NUMA node of one memory zone. */
export const VmMemoryZoneUpdateDataSchema = struct("VmMemoryZoneUpdateData", {
  id: text().meta({ minLength: 1 }),
  host_numa_node: u32(),
});
export type VmMemoryZoneUpdateData = z.infer<typeof VmMemoryZoneUpdateDataSchema>;

export const RestoreConfigSchema = struct("RestoreConfig", {
  source_url: path().describe("`file://` URL of the snapshot directory"),
  prefault: bool().default(false),
  memory_restore_mode: MemoryRestoreModeSchema.default("Copy"),
  net_fds: z.array(RestoredNetConfigSchema).optional(),
  vfio_fds: z.array(RestoredVfioConfigSchema).optional(),
  iommufd_fd: descriptor().optional(),
  resume: bool().default(false),
  zone_updates: z.array(VmMemoryZoneUpdateDataSchema).default(() => []),
});
/** What to restore, and how. */
export type RestoreConfig = z.infer<typeof RestoreConfigSchema>;

export const ReceiveMigrationDataSchema = struct("ReceiveMigrationData", {
  receiver_url: text().describe("`unix:<path>` or `tcp:<host>:<port>`"),
  tls_dir: path().describe("Directory with certificates and keys, for `tcp:` URLs").optional(),
  memory_mode: MigrationModeSchema.default("Precopy"),
  vfio_fds: z.array(RestoredVfioConfigSchema).optional(),
  iommufd_fd: descriptor().optional(),
  zone_updates: z.array(VmMemoryZoneUpdateDataSchema).default(() => []),
}, { wireName: "VmReceiveMigrationData" });
/** Where to wait for a VM that migrates here. */
export type ReceiveMigrationData = z.infer<typeof ReceiveMigrationDataSchema>;

export const SendMigrationDataSchema = struct("SendMigrationData", {
  destination_url: text().describe("`unix:<path>` or `tcp:<host>:<port>`"),
  local: bool().describe("Both VMMs on one host: hand over the memory's descriptors").default(false),
  preserve_source: bool().describe("Keep the source VM after success").default(false),
  downtime_ms: nonZeroU64().describe("Downtime aimed for, in milliseconds").default(300n),
  timeout_s: nonZeroU64().describe("Longest duration of the whole migration, in seconds").default(3600n),
  timeout_strategy: TimeoutStrategySchema.default("Cancel"),
  connections: nonZeroU32().meta({ description: "Parallel TCP connections", maximum: 128 }).default(1),
  tls_dir: path().describe("Directory with certificates and keys, for `tcp:` URLs").optional(),
  memory_mode: MigrationModeSchema.default("Precopy"),
}, { wireName: "VmSendMigrationData" });
/** Where to send the VM, and how. */
export type SendMigrationData = z.infer<typeof SendMigrationDataSchema>;
