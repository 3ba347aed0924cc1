/**
 * The endpoints of the REST API with their schemas and documentation, as one table.
 *
 * L0, main isolate. The router's light table without schemas is in `src/api/routes.ts`; a test compares the two.
 * Source: spec/rest-api.md §2; statuses as the original really answers, operationIds as in its OpenAPI document.
 */
import type * as z from "zod";
import { DeviceConfigSchema, UserDeviceConfigSchema } from "./assigned_device.ts";
import { DiskConfigSchema } from "./disk.ts";
import { ReceiveMigrationDataSchema, RestoreConfigSchema, SendMigrationDataSchema } from "./migration.ts";
import { NetConfigSchema } from "./net.ts";
import {
  VmCoredumpDataSchema,
  VmRemoveDeviceSchema,
  VmResizeDiskSchema,
  VmResizeSchema,
  VmResizeZoneSchema,
  VmSnapshotConfigSchema,
} from "./requests.ts";
import {
  FsConfigSchema,
  GenericVhostUserConfigSchema,
  PmemConfigSchema,
  VdpaConfigSchema,
  VsockConfigSchema,
} from "./virtio_devices.ts";
import { VmConfigSchema } from "./vm_config.ts";
import { PciDeviceInfoSchema, VmCountersSchema, VmInfoSchema, VmmPingResponseSchema } from "./vm_info.ts";

/** Statuses an endpoint can fail with. */
export type FailureStatus = 400 | 404 | 409 | 429 | 500;

/** One endpoint. */
export interface Endpoint {
  /** Path below the API's root, without a leading slash. */
  readonly operation: string;
  readonly method: "GET" | "PUT";
  /** Name generated clients give the call, where the original's document gives one. */
  readonly operationId?: string;
  readonly summary: string;
  /** Body, which must be there; without a schema a body must be absent or is ignored. */
  readonly request?: z.ZodType;
  /** Contents of a successful answer. */
  readonly response?: z.ZodType;
  readonly successStatus: 200 | 204;
  /** Status without contents while the VM is created and not booted, where it differs. */
  readonly coldStatus?: 204;
  readonly failures: readonly FailureStatus[];
}

const get = (operation: string, summary: string, response: z.ZodType, failures: readonly FailureStatus[]) =>
  ({ operation, method: "GET", summary, response, successStatus: 200, failures }) satisfies Endpoint;

const put = (operation: string, summary: string, details: Partial<Endpoint> = {}): Endpoint => ({
  operation,
  method: "PUT",
  summary,
  successStatus: 204,
  failures: [400, 500],
  ...details,
});

const add = (operation: string, what: string, request: z.ZodType): Endpoint =>
  put(operation, `Add ${what} to the VM`, {
    request,
    response: PciDeviceInfoSchema,
    successStatus: 200,
    coldStatus: 204,
    failures: [400, 404, 409, 500],
  });

/** Every endpoint, in the order of the documentation. */
export const ENDPOINTS: readonly Endpoint[] = [
  get("vmm.ping", "Tell version, process and features of the VMM", VmmPingResponseSchema, []),
  put("vmm.shutdown", "Delete the VM and end the VMM", {
    operationId: "shutdownVMM",
    successStatus: 200,
    failures: [500],
  }),
  get("vm.info", "Tell configuration and state of the VM", VmInfoSchema, [404]),
  get("vm.counters", "Tell the counters of the VM's devices", VmCountersSchema, [500]),
  put("vm.create", "Store a configuration, without booting it", {
    operationId: "createVM",
    request: VmConfigSchema,
  }),
  put("vm.delete", "Shut the VM down and forget its configuration", { operationId: "deleteVM" }),
  put("vm.boot", "Boot the created VM", { operationId: "bootVM", failures: [400, 404, 409, 500] }),
  put("vm.pause", "Pause the running VM", { operationId: "pauseVM" }),
  put("vm.resume", "Resume the paused VM", { operationId: "resumeVM" }),
  put("vm.shutdown", "Stop the VM and keep its configuration", { operationId: "shutdownVM" }),
  put("vm.reboot", "Stop the VM and boot it again", { operationId: "rebootVM", failures: [400, 404, 500] }),
  put("vm.power-button", "Press the VM's power button", { operationId: "power-buttonVM" }),
  put("vm.nmi", "Inject an NMI into every vCPU"),
  put("vm.resize", "Change number of vCPUs, memory or balloon size", {
    request: VmResizeSchema,
    failures: [400, 404, 429, 500],
  }),
  put("vm.resize-disk", "Change the size of a disk", {
    request: VmResizeDiskSchema,
    failures: [400, 404, 500],
  }),
  put("vm.resize-zone", "Change the size of a memory zone", {
    request: VmResizeZoneSchema,
    failures: [400, 404, 500],
  }),
  add("vm.add-device", "a VFIO device", DeviceConfigSchema),
  add("vm.add-user-device", "a vfio-user device", UserDeviceConfigSchema),
  add("vm.add-disk", "a disk", DiskConfigSchema),
  add("vm.add-fs", "a virtio-fs device", FsConfigSchema),
  add("vm.add-generic-vhost-user", "a vhost-user device of any kind", GenericVhostUserConfigSchema),
  add("vm.add-net", "a network device", NetConfigSchema),
  add("vm.add-pmem", "a persistent memory device", PmemConfigSchema),
  add("vm.add-vdpa", "a vDPA device", VdpaConfigSchema),
  add("vm.add-vsock", "the vsock device", VsockConfigSchema),
  put("vm.remove-device", "Ask the guest to release a device", {
    request: VmRemoveDeviceSchema,
    failures: [400, 404, 500],
  }),
  put("vm.snapshot", "Save the paused VM into a directory", { request: VmSnapshotConfigSchema }),
  put("vm.restore", "Make a VM from a snapshot", { request: RestoreConfigSchema, failures: [400, 409, 500] }),
  put("vm.coredump", "Write the VM's memory and registers into a file", { request: VmCoredumpDataSchema }),
  put("vm.receive-migration", "Wait for a VM and take it over", { request: ReceiveMigrationDataSchema }),
  put("vm.send-migration", "Start to move the VM to another VMM", { request: SendMigrationDataSchema }),
];
