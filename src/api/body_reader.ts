/**
 * Request bodies: JSON text into checked structures, descriptors counted.
 *
 * L6, main isolate. Loads the schemas: imported when the first body arrives. Source: spec/rest-api.md §1.2, §1.3.
 */
import { DeviceConfigSchema, UserDeviceConfigSchema } from "@schemas/api/assigned_device.ts";
import { DiskConfigSchema } from "@schemas/api/disk.ts";
import {
  type ReceiveMigrationData,
  ReceiveMigrationDataSchema,
  type RestoreConfig,
  RestoreConfigSchema,
  SendMigrationDataSchema,
} from "@schemas/api/migration.ts";
import { NetConfigSchema } from "@schemas/api/net.ts";
import {
  VmCoredumpDataSchema,
  VmRemoveDeviceSchema,
  VmResizeDiskSchema,
  VmResizeSchema,
  VmResizeZoneSchema,
  VmSnapshotConfigSchema,
} from "@schemas/api/requests.ts";
import {
  FsConfigSchema,
  GenericVhostUserConfigSchema,
  PmemConfigSchema,
  VdpaConfigSchema,
  VsockConfigSchema,
} from "@schemas/api/virtio_devices.ts";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import {
  descriptorHolders,
  withoutDescriptors,
  withoutDeviceDescriptor,
  withoutNetDescriptors,
} from "@schemas/descriptors.ts";
import { readJson } from "@schemas/json/reader.ts";
import { chainLine, shortened } from "@vmm/errors/place.ts";
import { log } from "@vmm/log/logger.ts";
import type * as z from "zod";
import type { OperationBodies, OperationName } from "./command.ts";

/** A body, or the answer's message about why there is none. */
export type BodyResult<N extends OperationName> =
  | { readonly ok: true; readonly body: OperationBodies[N] }
  | { readonly ok: false; readonly message: string };

interface BodyKind<N extends OperationName> {
  readonly schema: z.ZodType<OperationBodies[N]>;
  /** Removes descriptor numbers: they mean nothing in this process. */
  readonly clean?: (body: OperationBodies[N]) => OperationBodies[N];
  /** Devices with such numbers. */
  readonly holders?: (body: OperationBodies[N]) => readonly (string | undefined)[];
  /** Whether `count` descriptors fit the body; any number does when absent. */
  readonly fits?: (body: OperationBodies[N], count: number) => boolean;
}

/** One descriptor per VFIO device, then the IOMMU's. */
function vfioDescriptors({ vfio_fds }: RestoreConfig | ReceiveMigrationData): number {
  return vfio_fds === undefined ? 0 : vfio_fds.length + 1;
}

function restoreDescriptors(body: RestoreConfig): number {
  const taps = (body.net_fds ?? []).reduce((sum, net) => sum + net.num_fds, 0);
  return taps + vfioDescriptors(body);
}

const KINDS: {
  readonly [N in OperationName as undefined extends OperationBodies[N] ? never : N]: BodyKind<N>;
} = {
  "vm.create": { schema: VmConfigSchema, clean: withoutDescriptors, holders: descriptorHolders },
  "vm.snapshot": { schema: VmSnapshotConfigSchema },
  "vm.restore": { schema: RestoreConfigSchema, fits: (body, count) => restoreDescriptors(body) === count },
  "vm.coredump": { schema: VmCoredumpDataSchema },
  "vm.resize": { schema: VmResizeSchema },
  "vm.resize-zone": { schema: VmResizeZoneSchema },
  "vm.resize-disk": { schema: VmResizeDiskSchema },
  "vm.add-device": {
    schema: DeviceConfigSchema,
    clean: withoutDeviceDescriptor,
    holders: (device) => descriptorHolders({ devices: [device] }),
    fits: (_body, count) => count <= 1,
  },
  "vm.add-user-device": { schema: UserDeviceConfigSchema },
  "vm.add-disk": { schema: DiskConfigSchema },
  "vm.add-fs": { schema: FsConfigSchema },
  "vm.add-pmem": { schema: PmemConfigSchema },
  "vm.add-net": {
    schema: NetConfigSchema,
    clean: withoutNetDescriptors,
    holders: (net) => descriptorHolders({ net: [net] }),
  },
  "vm.add-vdpa": { schema: VdpaConfigSchema },
  "vm.add-vsock": { schema: VsockConfigSchema },
  "vm.add-generic-vhost-user": { schema: GenericVhostUserConfigSchema },
  "vm.remove-device": { schema: VmRemoveDeviceSchema },
  "vm.receive-migration": {
    schema: ReceiveMigrationDataSchema,
    fits: (body, count) => vfioDescriptors(body) === count,
  },
  "vm.send-migration": { schema: SendMigrationDataSchema },
};

/** Operations that have a body. */
export type OperationWithBody = keyof typeof KINDS;

/** Longest message in the log, in characters: it repeats what the client sent. */
const MAX_MESSAGE_SHOWN = 500;

/** Reads the body of `operation`; the log tells which field is wrong. Throws nothing for any input. */
export function readBody<N extends OperationWithBody>(operation: N, text: Uint8Array): BodyResult<N> {
  const { schema, clean, holders } = KINDS[operation] as unknown as BodyKind<N>;
  const result = readJson(schema, text);
  if (!result.ok) {
    const { message, fieldPath } = result;
    const place = fieldPath === "" ? "" : ` (${fieldPath})`;
    log.info(
      `${operation}: Failed to deserialize JSON: ${
        shortened(chainLine([message]), MAX_MESSAGE_SHOWN)
      }${place}`,
    );
    return { ok: false, message };
  }
  const body = result.value as OperationBodies[N];
  for (const id of holders?.(body) ?? []) {
    const device = id === undefined ? "a device without id" : `device ${JSON.stringify(id)}`;
    log.warn(`${operation}: Descriptor numbers of ${device} are ignored: descriptors come beside the body`);
  }
  return { ok: true, body: clean === undefined ? body : clean(body) };
}

/** Whether `count` descriptors may come with `body`. */
export function descriptorsFit<N extends OperationWithBody>(
  operation: N,
  body: OperationBodies[N],
  count: number,
): boolean {
  const { fits } = KINDS[operation] as unknown as BodyKind<N>;
  if (fits === undefined || fits(body, count)) return true;
  log.info(`${operation}: Bad Request: the body does not go with ${count} descriptors`);
  return false;
}

/** Schema of each body, for the test that compares this table with the documentation. */
export function bodySchema(operation: OperationWithBody): z.ZodType {
  return KINDS[operation].schema;
}
