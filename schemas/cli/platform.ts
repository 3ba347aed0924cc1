/**
 * Parameters of `--platform`, `--pci-segment`, `--numa` and `--landlock-rules`.
 *
 * L0. Source: spec/cli.md §2, spec/schemas.md "PlatformConfig", "PciSegmentConfig", "NumaConfig", "LandlockConfig".
 */
import type { NumaConfig } from "@schemas/api/numa.ts";
import type { LandlockConfig, PciSegmentConfig, PlatformConfig } from "@schemas/api/platform.ts";
import { parametersOf } from "./parameter.ts";

const smbios = <const F extends string>(field: F, what: string) =>
  ({ kind: "string", field, value: "<text>", doc: `SMBIOS ${what}` }) as const;

export const platformParameters = parametersOf<PlatformConfig>()({
  num_pci_segments: {
    kind: "u16",
    field: "num_pci_segments",
    value: "<number>",
    default: 1,
    doc: "Number of PCI segments, 1 to 96",
  },
  iommu_segments: {
    kind: "u16List",
    field: "iommu_segments",
    value: "[<segment_id>,...]",
    doc: "PCI segments behind the virtual IOMMU",
  },
  iommu_address_width: {
    kind: "u8",
    field: "iommu_address_width_bits",
    value: "<bits>",
    default: 64,
    doc: "Address width of the virtual IOMMU",
  },
  serial_number: {
    kind: "string",
    field: "system_serial_number",
    hidden: true,
    doc: "Older name of `system_serial_number`",
  },
  system_serial_number: smbios("system_serial_number", "system serial number"),
  uuid: { kind: "string", field: "system_uuid", hidden: true, doc: "Older name of `system_uuid`" },
  system_uuid: smbios("system_uuid", "system UUID"),
  oem_strings: { kind: "stringList", field: "oem_strings", value: "[<text>,...]", doc: "SMBIOS OEM strings" },
  system_manufacturer: smbios("system_manufacturer", "system manufacturer"),
  system_product_name: smbios("system_product_name", "system product name"),
  system_version: smbios("system_version", "system version"),
  system_family: smbios("system_family", "system family"),
  system_sku_number: smbios("system_sku_number", "system SKU number"),
  chassis_asset_tag: smbios("chassis_asset_tag", "chassis asset tag"),
  iommufd: { kind: "toggle", field: "iommufd", doc: "Use iommufd for VFIO devices" },
  iommufd_fd: {
    kind: "i32",
    field: "iommufd_fd",
    value: "<fd>",
    doc: "Open iommufd; turns `iommufd` on",
  },
  vfio_p2p_dma: {
    kind: "toggle",
    field: "vfio_p2p_dma",
    default: true,
    doc: "DMA between VFIO devices",
  },
});

export const pciSegmentParameters = parametersOf<PciSegmentConfig>()({
  pci_segment: {
    kind: "u16",
    field: "pci_segment",
    value: "<segment_id>",
    default: 0,
    doc: "PCI segment",
  },
  mmio32_aperture_weight: {
    kind: "u32",
    field: "mmio32_aperture_weight",
    value: "<scale>",
    default: 1,
    doc: "Share of the address space below 4 GiB",
  },
  mmio64_aperture_weight: {
    kind: "u32",
    field: "mmio64_aperture_weight",
    value: "<scale>",
    default: 1,
    doc: "Share of the address space above memory",
  },
});

export const numaParameters = parametersOf<NumaConfig>()({
  guest_numa_id: {
    kind: "u32",
    field: "guest_numa_id",
    value: "<node_id>",
    doc: "Node number in the guest; required",
  },
  cpus: { kind: "u32List", field: "cpus", value: "[<vcpu>,...]", doc: "vCPUs of the node" },
  distances: {
    kind: "tuples",
    field: "distances",
    value: "[<node_id>@<distance>,...]",
    tuple: { key: ["destination", "u32"], value: ["distance", "u8"] },
    doc: "Distances to other nodes",
  },
  memory_zones: {
    kind: "stringList",
    field: "memory_zones",
    value: "[<zone_id>,...]",
    doc: "Memory zones of the node",
  },
  pci_segments: {
    kind: "u16List",
    field: "pci_segments",
    value: "[<segment_id>,...]",
    doc: "PCI segments of the node",
  },
  device_id: {
    kind: "string",
    field: "device_id",
    value: "<device_id>",
    doc: "Device that forms a node of its own, instead of vCPUs and memory",
  },
});

export const landlockRulesParameters = parametersOf<LandlockConfig>()({
  path: {
    kind: "string",
    field: "path",
    value: "<path>",
    missing: "Error parsing --landlock-rules: path/access field missing",
    doc: "File or directory",
  },
  access: {
    kind: "string",
    field: "access",
    value: "[rw]",
    missing: "Error parsing --landlock-rules: path/access field missing",
    doc: "Read, write or both",
  },
});
