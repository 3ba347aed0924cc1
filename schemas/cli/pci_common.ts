/**
 * Parameters every PCI-backed device has.
 *
 * L0. Source: spec/schemas.md "PCI common block".
 */

/** Slot and identifier, for devices that cannot sit behind the virtual IOMMU. */
export const pciSlotParameters = {
  id: {
    kind: "string",
    field: "id",
    value: "<device_id>",
    pci: true,
    doc: "Device identifier, generated when absent",
  },
  pci_segment: {
    kind: "u16",
    field: "pci_segment",
    value: "<segment_id>",
    default: 0,
    pci: true,
    doc: "PCI segment the device is on",
  },
  pci_device_id: {
    kind: "u8",
    field: "pci_device_id",
    value: "<pci_slot>",
    pci: true,
    doc: "PCI device number, 0 to 31; the first free one when absent",
  },
} as const;

/** The whole block, in the order of the fields in JSON. */
export const pciParameters = {
  id: pciSlotParameters.id,
  iommu: {
    kind: "toggle",
    field: "iommu",
    default: false,
    pci: true,
    doc: "Put the device behind the virtual IOMMU",
  },
  pci_segment: pciSlotParameters.pci_segment,
  pci_device_id: pciSlotParameters.pci_device_id,
} as const;
