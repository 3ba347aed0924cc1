/**
 * Rules about the remaining devices: vhost-user file systems and others, vsock, VFIO, vfio-user, ivshmem.
 *
 * L0, pure. Source: spec/schemas.md rules 7, 8, 12, 14 and 18.
 */
import type { DeviceConfig, IvshmemConfig, UserDeviceConfig } from "@schemas/api/assigned_device.ts";
import type { FsConfig, GenericVhostUserConfig, VsockConfig } from "@schemas/api/virtio_devices.ts";
import type { RuleContext } from "./context.ts";
import { fault, type Faults } from "./fault.ts";
import { noIommuFaults, pciFaults } from "./pci.ts";
import { queueCountFaults, queueSizeFaults } from "./queues.ts";

/** Context ids with a meaning of their own. Source: virtio 1.2 §5.10.4. */
const SPECIAL_CIDS: readonly number[] = [0, 1, 2, 0xffff_ffff];
/** A PCI function has BARs 0 to 5. */
const LAST_BAR = 5;

/** One virtio-fs device. */
export function* fsFaults(fs: FsConfig, path: string, context: RuleContext): Faults {
  yield* queueCountFaults(fs.num_queues, fs.num_queues, path, context);
  yield* queueSizeFaults(fs.queue_size, `${path}.queue_size`);
  yield* noIommuFaults(fs, path);
  yield* pciFaults(fs, path, context);
}

/** One generic vhost-user device. */
export function* genericVhostUserFaults(
  device: GenericVhostUserConfig,
  path: string,
  context: RuleContext,
): Faults {
  yield* noIommuFaults(device, path);
  for (const [index, size] of device.queue_sizes.entries()) {
    yield* queueSizeFaults(size, `${path}.queue_sizes[${index}]`);
  }
  yield* pciFaults(device, path, context);
}

/** One vfio-user device. */
export function* userDeviceFaults(device: UserDeviceConfig, path: string, context: RuleContext): Faults {
  yield* noIommuFaults(device, path);
  yield* pciFaults(device, path, context);
}

/** The context id of the vsock device. */
export function* vsockCidFaults(vsock: VsockConfig, path: string): Faults {
  if (SPECIAL_CIDS.includes(vsock.cid)) {
    yield fault(`${vsock.cid} is a special VSOCK CID`, `${path}.cid`, vsock.cid);
  }
}

/** One VFIO device: named by path or descriptor, never by both. */
export function* deviceFaults(device: DeviceConfig, path: string, context: RuleContext): Faults {
  const { platform } = context.config;
  yield* pciFaults(device, path, context);
  if (device.path === undefined && device.fd === undefined) {
    yield fault("VFIO device config must specify `path=` or `fd=`", path);
  }
  if (device.path !== undefined && device.fd !== undefined) {
    yield fault("VFIO device config must specify at most one of `path=` or `fd=`", `${path}.fd`, device.fd);
  }
  if (device.fd !== undefined && platform?.iommufd_fd === undefined) {
    yield fault("VFIO device `fd=` requires platform `iommufd_fd=<fd>`", `${path}.fd`, device.fd);
  }
  if (device.x_nv_gpudirect_clique !== undefined && platform?.vfio_p2p_dma === false) {
    yield fault(
      "Device with x_nv_gpudirect_clique requires vfio_p2p_dma=on",
      `${path}.x_nv_gpudirect_clique`,
      device.x_nv_gpudirect_clique,
    );
  }
  const bar = device.x_exclude_mmap_bars.find((index) => index > LAST_BAR);
  if (bar !== undefined) {
    yield fault(`Invalid VFIO excluded-mmap BAR index: ${bar}`, `${path}.x_exclude_mmap_bars`, bar);
  }
}

/** The ivshmem device: its file must hold its size. */
export function* ivshmemFaults(device: IvshmemConfig, path: string, context: RuleContext): Faults {
  const { size } = device;
  yield* noIommuFaults(device, path);
  yield* pciFaults(device, path, context);
  if (size === 0n || (size & (size - 1n)) !== 0n) {
    yield fault(`Invalid ivshmem input size: ${size}`, `${path}.size`, size);
  }
  const available = context.host.fileSizeBytes(device.path);
  if (available === undefined) {
    yield fault("Invalid ivshmem backend file path", `${path}.path`, device.path);
  } else if (available < size) {
    yield fault(`Invalid ivshmem backend file size: ${available}`, `${path}.path`, device.path);
  }
}
