/**
 * Devices implemented elsewhere: VFIO, vfio-user, ivshmem, TPM.
 *
 * L0. Source: spec/schemas.md "Others".
 */
import * as z from "zod";
import { descriptor, path, struct, u64Index, u8, usizeBytes } from "@schemas/primitives.ts";
import { pciCommonShape, pciDevice } from "./pci_common.ts";

export const DeviceConfigSchema = struct("DeviceConfig", {
  ...pciCommonShape,
  path: path().describe("sysfs directory of the device").optional(),
  fd: descriptor().describe("VFIO device descriptor; never taken from JSON").optional(),
  x_nv_gpudirect_clique: u8().optional(),
  x_exclude_mmap_bars: z.array(u64Index()).default(() => []),
}, pciDevice);
/** A device of the host given to the guest by VFIO. */
export type DeviceConfig = z.infer<typeof DeviceConfigSchema>;

export const UserDeviceConfigSchema = struct("UserDeviceConfig", {
  ...pciCommonShape,
  socket: path().describe("vfio-user socket"),
}, pciDevice);
/** A device another program makes, by vfio-user. */
export type UserDeviceConfig = z.infer<typeof UserDeviceConfigSchema>;

export const IvshmemConfigSchema = struct("IvshmemConfig", {
  ...pciCommonShape,
  path: path().describe("Backing file"),
  size: usizeBytes().describe("Size in bytes, a power of two"),
}, pciDevice);
/** Memory shared with others through a file. */
export type IvshmemConfig = z.infer<typeof IvshmemConfigSchema>;

export const TpmConfigSchema = struct("TpmConfig", {
  socket: path().describe("swtpm control socket"),
});
/** A TPM that swtpm makes. */
export type TpmConfig = z.infer<typeof TpmConfigSchema>;
