/**
 * Rules common to PCI devices.
 *
 * L0, pure. Source: spec/schemas.md rule 9.
 */
import type { RuleContext } from "./context.ts";
import { fault, type Faults } from "./fault.ts";

/** Device numbers on one segment. */
const PCI_DEVICES_PER_SEGMENT = 32;

/** What a device has in common with all others. */
export interface PciPlacement {
  readonly id?: string | undefined;
  readonly iommu: boolean;
  readonly pci_segment: number;
  readonly pci_device_id?: number | undefined;
}

/** Segment, IOMMU and slot of one device at `path`. */
export function* pciFaults(device: PciPlacement, path: string, context: RuleContext): Faults {
  const { pci_segment: segment, pci_device_id: slot } = device;
  if (segment >= context.segmentCount) yield invalidSegment(segment, `${path}.pci_segment`);
  if (!device.iommu && context.config.platform?.iommu_segments?.includes(segment)) {
    yield fault(
      `Device is on an IOMMU PCI segment (${segment}) but not placed behind IOMMU`,
      `${path}.pci_segment`,
      segment,
    );
  }
  if (slot === undefined) return;
  if (slot >= PCI_DEVICES_PER_SEGMENT) {
    yield fault(
      `Given PCI device ID (${slot}) is out of the supported range of 0..${PCI_DEVICES_PER_SEGMENT}`,
      `${path}.pci_device_id`,
      slot,
    );
  }
  // Slot 0 of segment 0 is the host bridge.
  if (slot === 0 && segment === 0) {
    yield fault(`Given PCI device ID (${slot}) is reserved`, `${path}.pci_device_id`, slot);
  }
}

/** A device its back-end keeps from being translated. */
export function* noIommuFaults(device: PciPlacement, path: string): Faults {
  if (device.iommu) yield fault("Device does not support being placed behind IOMMU", `${path}.iommu`, true);
}

/** A PCI segment that does not exist. */
export function invalidSegment(segment: number, path: string) {
  return fault(`Invalid PCI segment id: ${segment}`, path, segment);
}
