/**
 * PCI segments, SMBIOS strings, IOMMU width and VFIO switches; Landlock rules.
 *
 * L0. Source: spec/schemas.md "PlatformConfig", "PciSegmentConfig", "LandlockConfig".
 */
import * as z from "zod";
import { bool, descriptor, path, struct, text, u16, u32, u8 } from "@schemas/primitives.ts";

export const PciSegmentConfigSchema = struct("PciSegmentConfig", {
  pci_segment: u16().default(0),
  mmio32_aperture_weight: u32().default(1),
  mmio64_aperture_weight: u32().default(1),
});
/** Properties of one PCI segment. */
export type PciSegmentConfig = z.infer<typeof PciSegmentConfigSchema>;

export const PlatformConfigSchema = struct("PlatformConfig", {
  num_pci_segments: u16().default(1),
  iommu_segments: z.array(u16()).optional(),
  iommu_address_width_bits: u8().default(64),
  system_serial_number: text().optional(),
  system_uuid: text().optional(),
  oem_strings: z.array(text()).optional(),
  system_manufacturer: text().optional(),
  system_product_name: text().optional(),
  system_version: text().optional(),
  system_family: text().optional(),
  system_sku_number: text().optional(),
  chassis_asset_tag: text().optional(),
  iommufd: bool().default(false),
  iommufd_fd: descriptor().describe("iommufd descriptor; never taken from JSON").optional(),
  vfio_p2p_dma: bool().default(true),
}, { aliases: { system_serial_number: ["serial_number"], system_uuid: ["uuid"] } });
/** What belongs to the VM as a whole: PCI segments, SMBIOS strings, IOMMU. */
export type PlatformConfig = z.infer<typeof PlatformConfigSchema>;

export const LandlockConfigSchema = struct("LandlockConfig", {
  path: path(),
  access: text().describe("`r`, `w` or both"),
});
/** A path and what may be done with it. */
export type LandlockConfig = z.infer<typeof LandlockConfigSchema>;
