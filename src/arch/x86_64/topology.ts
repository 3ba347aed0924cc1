/**
 * CPU topology: x2APIC ids and id widths.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §7, §11; Intel SDM vol. 3A §10.9 (topology enumeration).
 */
import { ArchError } from "./errors.ts";

/** Threads, cores, dies and packages, each at least 1. */
export interface CpuTopology {
  readonly threadsPerCore: number;
  readonly coresPerDie: number;
  readonly diesPerPackage: number;
  readonly packages: number;
  /** APIC ids are vCPU numbers: nobody configured a topology, and the number of vCPUs may change. */
  readonly flatIds?: boolean;
}

/** Bits of an APIC id below each level; cumulative, so that `die` spans a whole package. */
export interface TopologyWidths {
  readonly thread: number;
  readonly core: number;
  readonly die: number;
}

const PARTS = ["threadsPerCore", "coresPerDie", "diesPerPackage", "packages"] as const;

/** Largest APIC id a guest can use before x2APIC mode. */
const MAX_XAPIC_ID = 254;

/**
 * The topology in force: the configured one, or all boot vCPUs as cores of one package.
 *
 * @throws ArchError (topology) when a part is not a positive integer
 */
export function resolveTopology(configured: CpuTopology | undefined, bootVcpus: number): CpuTopology {
  if (configured === undefined) {
    return {
      threadsPerCore: 1,
      coresPerDie: Math.max(bootVcpus, 1),
      diesPerPackage: 1,
      packages: 1,
      flatIds: true,
    };
  }
  for (const part of PARTS) {
    const count = configured[part];
    if (!Number.isSafeInteger(count) || count < 1) {
      throw new ArchError("topology", `CPU topology has ${count} as ${part}`);
    }
  }
  return configured;
}

function widthOf(count: number): number {
  return count <= 1 ? 0 : 32 - Math.clz32(count - 1);
}

/** Id widths of a topology. */
export function topologyWidths(topology: CpuTopology): TopologyWidths {
  const thread = widthOf(topology.threadsPerCore);
  const core = thread + widthOf(topology.coresPerDie);
  return { thread, core, die: core + widthOf(topology.diesPerPackage) };
}

/**
 * x2APIC id of vCPU `cpu`: in CPUID, in the ACPI and MP tables, and as the id KVM_CREATE_VCPU takes. vCPUs beyond a
 * configured topology's product count as further packages.
 */
export function x2apicId(cpu: number, topology: CpuTopology): number {
  if (topology.flatIds) return cpu;
  const { threadsPerCore, coresPerDie, diesPerPackage } = topology;
  const widths = topologyWidths(topology);
  const perCore = threadsPerCore;
  const perDie = perCore * coresPerDie;
  const perPackage = perDie * diesPerPackage;
  const thread = cpu % perCore;
  const core = Math.floor(cpu / perCore) % coresPerDie;
  const die = Math.floor(cpu / perDie) % diesPerPackage;
  const packageNumber = Math.floor(cpu / perPackage);
  return (thread | (core << widths.thread) | (die << widths.core) | (packageNumber << widths.die)) >>> 0;
}

/** Whether vCPUs have to start in x2APIC mode: some vCPU that may ever exist has an id an xAPIC cannot hold. */
export function needsX2apicMode(maxVcpus: number, topology: CpuTopology): boolean {
  return maxVcpus > 0 && x2apicId(maxVcpus - 1, topology) > MAX_XAPIC_ID;
}
