/**
 * Bodies of the operations on an existing VM: resize, remove, snapshot, coredump.
 *
 * L0. Source: spec/schemas.md "Request / response objects".
 */
import type * as z from "zod";
import { struct, text, u32, u64 } from "@schemas/primitives.ts";

export const VmResizeSchema = struct("VmResize", {
  desired_vcpus: u32().meta({ minimum: 1 }).optional(),
  desired_ram: u64().describe("Memory in bytes").optional(),
  desired_balloon: u64().describe("Balloon size in bytes").optional(),
}, { wireName: "VmResizeData", requiredInSequence: ["desired_vcpus", "desired_ram", "desired_balloon"] });
/** What to change of vCPUs, memory and balloon; what is left out stays. */
export type VmResize = z.infer<typeof VmResizeSchema>;

export const VmResizeDiskSchema = struct("VmResizeDisk", {
  id: text().describe("Disk identifier"),
  desired_size: u64().describe("Disk size in bytes"),
}, { wireName: "VmResizeDiskData" });
/** New size of a disk's image. */
export type VmResizeDisk = z.infer<typeof VmResizeDiskSchema>;

export const VmResizeZoneSchema = struct("VmResizeZone", {
  id: text().describe("Memory zone identifier"),
  desired_ram: u64().describe("Zone size in bytes"),
}, { wireName: "VmResizeZoneData" });
/** New size of a memory zone. */
export type VmResizeZone = z.infer<typeof VmResizeZoneSchema>;

export const VmRemoveDeviceSchema = struct("VmRemoveDevice", {
  id: text().describe("Device identifier"),
}, { wireName: "VmRemoveDeviceData" });
export type VmRemoveDevice = z.infer<typeof VmRemoveDeviceSchema>;

export const VmSnapshotConfigSchema = struct("VmSnapshotConfig", {
  destination_url: text().describe("`file://` URL of an existing directory"),
});
export type VmSnapshotConfig = z.infer<typeof VmSnapshotConfigSchema>;

export const VmCoredumpDataSchema = struct("VmCoredumpData", {
  destination_url: text().describe("`file://` URL of a file that does not exist"),
});
export type VmCoredumpData = z.infer<typeof VmCoredumpDataSchema>;
