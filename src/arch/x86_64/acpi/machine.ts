/**
 * What the ACPI tables are made from.
 *
 * L2, any isolate; pure types. Source: spec/machine-model.md §6, §9.
 */
import type { MemoryPlan, PlatformControllers, SegmentWindows } from "@vmm/arch/x86_64/layout.ts";
import type { CpuTopology } from "@vmm/arch/x86_64/topology.ts";

/** A PCI function. */
export interface PciAddress {
  readonly segment: number;
  /** Bus << 8 | device << 3 | function. */
  readonly bdf: number;
}

/** A guest NUMA node. */
export interface NumaNode {
  readonly id: number;
  readonly cpus?: readonly number[];
  /** Ids of memory zones, in configuration order. */
  readonly memoryZones?: readonly string[];
  readonly pciSegments?: readonly number[];
  readonly distances?: readonly { readonly destination: number; readonly distance: number }[];
  /** Function of the device that forms the node (generic initiator). */
  readonly device?: PciAddress;
}

/** Everything a guest learns from ACPI. */
export interface AcpiMachine {
  readonly bootVcpus: number;
  readonly maxVcpus: number;
  /** As `resolveTopology` gave it. */
  readonly topology: CpuTopology;
  readonly memory: MemoryPlan;
  /** As `planSegments` gave it. */
  readonly segments: readonly SegmentWindows[];
  /** As `planControllers` gave it. */
  readonly controllers: PlatformControllers;
  /** Whether COM1 exists. */
  readonly serial: boolean;
  readonly tpm?: boolean;
  readonly fwCfg?: boolean;
  /** Guest NUMA nodes; empty or absent means no SRAT and SLIT. */
  readonly numaNodes?: readonly NumaNode[];
  /** The virtual IOMMU and the functions behind it. */
  readonly iommu?: { readonly device: PciAddress; readonly endpoints: readonly PciAddress[] };
  /** Advertise PM1a blocks that do nothing: nested Hyper-V loaders refuse a table without. */
  readonly legacyPm1a?: boolean;
}

/** Node that holds a vCPU, 0 unless configured. */
export function nodeOfCpu(machine: AcpiMachine, cpu: number): number {
  return machine.numaNodes?.find((node) => node.cpus?.includes(cpu))?.id ?? 0;
}

/** Node that holds a PCI segment, 0 unless configured. */
export function nodeOfSegment(machine: AcpiMachine, segment: number): number {
  return machine.numaNodes?.find((node) => node.pciSegments?.includes(segment))?.id ?? 0;
}
