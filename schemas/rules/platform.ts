/**
 * Rules about the platform, PCI segments and Landlock.
 *
 * L0, pure. Source: spec/schemas.md rules 16 and 17.
 */
import type { LandlockConfig, PciSegmentConfig, PlatformConfig } from "@schemas/api/platform.ts";
import { quoted } from "@schemas/json/fault.ts";
import type { RuleContext } from "./context.ts";
import { fault, type Faults } from "./fault.ts";
import { invalidSegment } from "./pci.ts";

const MAX_NUM_PCI_SEGMENTS = 96;
const MAX_IOMMU_ADDRESS_WIDTH_BITS = 64;

/** The platform. */
export function* platformFaults(platform: PlatformConfig): Faults {
  const count = platform.num_pci_segments;
  if (count === 0 || count > MAX_NUM_PCI_SEGMENTS) {
    yield fault(
      `Number of PCI segments (${count}) not in range of 1 to ${MAX_NUM_PCI_SEGMENTS}`,
      "platform.num_pci_segments",
      count,
    );
  }
  const unknown = platform.iommu_segments?.find((segment) => segment >= count);
  if (unknown !== undefined) yield invalidSegment(unknown, "platform.iommu_segments");
  const width = platform.iommu_address_width_bits;
  if (width > MAX_IOMMU_ADDRESS_WIDTH_BITS) {
    yield fault(
      `IOMMU address width in bits (${width}) should be less than or equal to ${MAX_IOMMU_ADDRESS_WIDTH_BITS}`,
      "platform.iommu_address_width_bits",
      width,
    );
  }
  if (platform.iommufd_fd !== undefined && !platform.iommufd) {
    yield fault("Platform `iommufd_fd=<fd>` requires `iommufd=on`", "platform.iommufd", false);
  }
}

/** One entry of `pci_segments`. */
export function* pciSegmentFaults(segment: PciSegmentConfig, path: string, context: RuleContext): Faults {
  if (segment.pci_segment >= context.segmentCount) {
    yield invalidSegment(segment.pci_segment, `${path}.pci_segment`);
  }
  for (const name of ["mmio32_aperture_weight", "mmio64_aperture_weight"] as const) {
    if (segment[name] === 0) {
      yield fault(`Invalid PCI segment aperture weight: ${segment[name]}`, `${path}.${name}`, segment[name]);
    }
  }
}

/** One Landlock rule. */
export function* landlockFaults(rule: LandlockConfig, path: string, context: RuleContext): Faults {
  if (!context.host.pathExists(rule.path)) {
    yield fault(
      `Path ${quoted(rule.path)} provided in landlock-rules does not exist`,
      `${path}.path`,
      rule.path,
    );
  }
  const invalid = (reason: string) =>
    fault(`Invalid landlock access: Invalid Landlock access: ${reason}`, `${path}.access`, rule.access);
  if (rule.access === "") yield invalid("Access cannot be empty");
  for (const letter of rule.access) {
    if (letter !== "r" && letter !== "w") yield invalid(`Invalid access: ${letter}`);
  }
}
