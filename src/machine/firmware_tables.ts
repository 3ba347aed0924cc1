/**
 * What the firmware tables say of a VM, from its configuration.
 *
 * L5, main isolate; pure.
 */
import type { PlatformConfig } from "@schemas/api/platform.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import type { AcpiMachine, NumaNode } from "@vmm/arch/x86_64/acpi/machine.ts";
import { type MemoryPlan, planSegments, type SegmentWeights } from "@vmm/arch/x86_64/layout.ts";
import type { SmbiosConfig } from "@vmm/arch/x86_64/smbios.ts";
import { type CpuTopology, resolveTopology } from "@vmm/arch/x86_64/topology.ts";
import type { PlatformDescription } from "./platform.ts";

/** Weights of all PCI segments, segment 0 first. */
export function segmentWeights(config: VmConfig): SegmentWeights[] {
  const count = config.platform?.num_pci_segments ?? 1;
  return Array.from({ length: count }, (_, segment) => {
    const own = config.pci_segments?.find((entry) => entry.pci_segment === segment);
    return { mmio32: own?.mmio32_aperture_weight ?? 1, mmio64: own?.mmio64_aperture_weight ?? 1 };
  });
}

/** CPU topology of a configuration. */
export function topologyOf(cpus: VmConfig["cpus"]): CpuTopology {
  const own = cpus.topology && {
    threadsPerCore: cpus.topology.threads_per_core,
    coresPerDie: cpus.topology.cores_per_die,
    diesPerPackage: cpus.topology.dies_per_package,
    packages: cpus.topology.packages,
  };
  return resolveTopology(own, cpus.boot_vcpus);
}

/** The machine as ACPI describes it. */
export function acpiMachine(
  config: VmConfig,
  memory: MemoryPlan,
  platform: PlatformDescription,
  iommu?: AcpiMachine["iommu"],
): AcpiMachine {
  const { boot_vcpus, max_vcpus, kvm_hyperv, nested } = config.cpus;
  return {
    bootVcpus: boot_vcpus,
    maxVcpus: max_vcpus,
    topology: topologyOf(config.cpus),
    memory,
    segments: planSegments(memory, segmentWeights(config)),
    controllers: platform.controllers,
    serial: platform.hasSerial,
    tpm: config.tpm !== undefined,
    fwCfg: config.payload?.fw_cfg_config !== undefined,
    numaNodes: config.numa?.map((node): NumaNode => ({
      id: node.guest_numa_id,
      cpus: node.cpus,
      memoryZones: node.memory_zones,
      pciSegments: node.pci_segments,
      distances: node.distances,
    })),
    iommu,
    legacyPm1a: kvm_hyperv && nested,
  };
}

/** Strings of the SMBIOS tables; undefined: all defaults. */
export function smbiosConfig(platform: PlatformConfig | undefined): SmbiosConfig | undefined {
  if (platform === undefined) return undefined;
  return {
    manufacturer: platform.system_manufacturer,
    productName: platform.system_product_name,
    version: platform.system_version,
    serialNumber: platform.system_serial_number,
    uuid: platform.system_uuid,
    skuNumber: platform.system_sku_number,
    family: platform.system_family,
    chassisAssetTag: platform.chassis_asset_tag,
    oemStrings: platform.oem_strings,
  };
}
