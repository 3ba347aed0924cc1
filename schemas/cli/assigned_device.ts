/**
 * Parameters of devices implemented elsewhere: VFIO, vfio-user, ivshmem, TPM.
 *
 * L0. Source: spec/cli.md §2, spec/schemas.md "Others".
 */
import type {
  DeviceConfig,
  IvshmemConfig,
  TpmConfig,
  UserDeviceConfig,
} from "@schemas/api/assigned_device.ts";
import { parametersOf } from "./parameter.ts";
import { pciParameters, pciSlotParameters } from "./pci_common.ts";

export const deviceParameters = parametersOf<DeviceConfig>()({
  ...pciParameters,
  path: { kind: "string", field: "path", value: "<path>", doc: "sysfs directory of the device" },
  fd: { kind: "i32", field: "fd", value: "<fd>", doc: "Open VFIO device descriptor; needs an iommufd" },
  x_nv_gpudirect_clique: {
    kind: "u8",
    field: "x_nv_gpudirect_clique",
    value: "<clique_id>",
    doc: "NVIDIA GPUDirect clique",
  },
  x_exclude_mmap_bars: {
    kind: "usizeList",
    field: "x_exclude_mmap_bars",
    value: "[<bar>,...]",
    doc: "BARs the guest reaches by exits only",
  },
});

export const userDeviceParameters = parametersOf<UserDeviceConfig>()({
  ...pciSlotParameters,
  socket: {
    kind: "string",
    field: "socket",
    value: "<socket_path>",
    missing: "Error parsing --user-device: socket missing",
    doc: "vfio-user socket",
  },
});

export const ivshmemParameters = parametersOf<IvshmemConfig>()({
  ...pciSlotParameters,
  path: {
    kind: "string",
    field: "path",
    value: "<path>",
    missing: "Error parsing --ivshmem: path missing",
    doc: "Backing file",
  },
  size: {
    kind: "size",
    field: "size",
    value: "<size>",
    default: 128n << 20n,
    doc: "Size, a power of two",
  },
});

export const tpmParameters = parametersOf<TpmConfig>()({
  socket: {
    kind: "string",
    field: "socket",
    value: "<socket_path>",
    missing: "Error parsing --tpm: path missing",
    doc: "Control socket of a swtpm",
  },
});
