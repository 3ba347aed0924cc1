/**
 * Commands of the internal API: what every front door (REST, D-Bus, command line) turns a request into.
 *
 * L6, main isolate, no zod: bodies are read before a command is made. Source: spec/rest-api.md §2, spec/seed-api.txt.
 */
import type { DeviceConfig, UserDeviceConfig } from "@schemas/api/assigned_device.ts";
import type { DiskConfig } from "@schemas/api/disk.ts";
import type { ReceiveMigrationData, RestoreConfig, SendMigrationData } from "@schemas/api/migration.ts";
import type { NetConfig } from "@schemas/api/net.ts";
import type {
  VmCoredumpData,
  VmRemoveDevice,
  VmResize,
  VmResizeDisk,
  VmResizeZone,
  VmSnapshotConfig,
} from "@schemas/api/requests.ts";
import type {
  FsConfig,
  GenericVhostUserConfig,
  PmemConfig,
  VdpaConfig,
  VsockConfig,
} from "@schemas/api/virtio_devices.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import type { PassedDescriptors } from "./passed_descriptors.ts";

/** Body of each operation, as it is after reading and before validating against the rest of the configuration. */
export interface OperationBodies {
  "vmm.ping": undefined;
  "vmm.shutdown": undefined;
  "vm.create": VmConfig;
  "vm.delete": undefined;
  "vm.boot": undefined;
  "vm.shutdown": undefined;
  "vm.reboot": undefined;
  "vm.power-button": undefined;
  "vm.pause": undefined;
  "vm.resume": undefined;
  "vm.nmi": undefined;
  "vm.info": undefined;
  "vm.counters": undefined;
  "vm.snapshot": VmSnapshotConfig;
  "vm.restore": RestoreConfig;
  "vm.coredump": VmCoredumpData;
  "vm.resize": VmResize;
  "vm.resize-zone": VmResizeZone;
  "vm.resize-disk": VmResizeDisk;
  "vm.add-device": DeviceConfig;
  "vm.add-user-device": UserDeviceConfig;
  "vm.add-disk": DiskConfig;
  "vm.add-fs": FsConfig;
  "vm.add-pmem": PmemConfig;
  "vm.add-net": NetConfig;
  "vm.add-vdpa": VdpaConfig;
  "vm.add-vsock": VsockConfig;
  "vm.add-generic-vhost-user": GenericVhostUserConfig;
  "vm.remove-device": VmRemoveDevice;
  "vm.receive-migration": ReceiveMigrationData;
  "vm.send-migration": SendMigrationData;
}

/** Name of an operation: the last part of its REST path. */
export type OperationName = keyof OperationBodies;

/** One command. */
export interface ApiCommand<N extends OperationName = OperationName> {
  readonly operation: N;
  readonly body: OperationBodies[N];
  /** Descriptors that came with the request; none for most. */
  readonly descriptors?: PassedDescriptors;
}

/** What a successful operation answers: nothing, or compact JSON text. */
export type ApiReply = { readonly kind: "empty" } | { readonly kind: "json"; readonly text: string };

/** The answer without contents. */
export const EMPTY_REPLY: ApiReply = { kind: "empty" };

/** An answer with contents. `text` is compact JSON. */
export function jsonReply(text: string): ApiReply {
  return { kind: "json", text };
}
