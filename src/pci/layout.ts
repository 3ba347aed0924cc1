/**
 * Offsets and bits of PCI configuration space.
 *
 * L3, any isolate. Source: PCI Local Bus 3.0 §6.1, §6.2, §6.8; PCI Express Base 3.0 §7.
 */

/** Type 0 header, byte offsets. */
export const PciHeader = {
  vendorId: 0x00,
  deviceId: 0x02,
  command: 0x04,
  status: 0x06,
  revision: 0x08,
  programmingInterface: 0x09,
  subclass: 0x0a,
  classCode: 0x0b,
  cacheLineSize: 0x0c,
  bar0: 0x10,
  subsystemVendorId: 0x2c,
  subsystemId: 0x2e,
  capabilities: 0x34,
  interruptLine: 0x3c,
  interruptPin: 0x3d,
  end: 0x40,
} as const;

export const PCI_CONFIG_SIZE = 4096;
export const PCI_BARS = 6;
export const PCI_SLOTS = 32;

export const PCI_COMMAND_MEMORY = 0x0002;
export const PCI_STATUS_CAPABILITIES = 0x0010;

/** Low bits of a memory BAR. */
export const PCI_BAR_MEMORY_64 = 0x4;
export const PCI_BAR_PREFETCHABLE = 0x8;
export const PCI_BAR_FLAGS = 0xf;

/** Capability ids. */
export const PCI_CAP_VENDOR = 0x09;
export const PCI_CAP_MSIX = 0x11;

/** MSI-X message control, at +2 of its capability. */
export const PCI_MSIX_ENABLE = 0x8000;
export const PCI_MSIX_FUNCTION_MASK = 0x4000;
