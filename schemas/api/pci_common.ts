/**
 * The fields every PCI-backed device has, flattened into its structure.
 *
 * L0. Source: spec/schemas.md "PCI common block".
 */
import { bool, text, u16, u8 } from "@schemas/primitives.ts";

/** Fields of the PCI block, in output order. */
export const pciCommonShape = {
  /** Device identifier; unique among devices, zones and rate limit groups. Generated when absent. */
  id: text().describe("Device identifier, generated when absent").optional(),
  /** Device sits behind the virtual IOMMU. */
  iommu: bool().describe("Put the device behind the virtual IOMMU").default(false),
  /** PCI segment the device is plugged into. */
  pci_segment: u16().describe("PCI segment number").default(0),
  /** Slot on the segment, 0 to 31; the first free one when absent. */
  pci_device_id: u8().describe("PCI device number on the segment, the first free one when absent").optional(),
};

/** Names of the PCI block, for `StructOptions.flattened`. */
export const pciCommonFields = ["id", "iommu", "pci_segment", "pci_device_id"] as const;

/** Options of a structure that has only the PCI block beside its own fields. */
export const pciDevice = { flattened: [pciCommonFields], omitFalse: ["iommu"] } as const;
