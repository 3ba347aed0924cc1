/**
 * Virtual CPUs: count, topology, affinity, features.
 *
 * L0. Source: spec/schemas.md "CpusConfig".
 */
import * as z from "zod";
import { bool, choice, struct, u16, u32, u8, usize } from "@schemas/primitives.ts";

/** How vCPU threads share a core-scheduling cookie. */
export const CoreSchedulingSchema = choice("CoreSchedulingMode", ["Vm", "Vcpu", "Off"]);

/** CPU model shown to the guest. */
export const CpuProfileSchema = choice("CpuProfile", ["Host"]);
export type CpuProfile = z.infer<typeof CpuProfileSchema>;

/** Guest CPU topology; the product of all parts must equal `max_vcpus`. */
export const CpuTopologySchema = struct("CpuTopology", {
  threads_per_core: u16().describe("Threads per core, 1 or 2"),
  cores_per_die: u16().describe("Cores per die"),
  dies_per_package: u16().describe("Dies per package"),
  packages: u16().describe("Packages"),
});
/** Guest CPU topology; the product of all parts equals `max_vcpus`. */
export type CpuTopology = z.infer<typeof CpuTopologySchema>;

/** Host CPUs one vCPU thread may run on. */
export const CpuAffinitySchema = struct("CpuAffinity", {
  vcpu: u32().describe("vCPU number"),
  host_cpus: z.array(usize()).describe("Host CPU numbers"),
});
/** Host CPUs one vCPU thread may run on. */
export type CpuAffinity = z.infer<typeof CpuAffinitySchema>;

/** Optional processor features. */
export const CpuFeaturesSchema = struct("CpuFeatures", {
  amx: bool().describe("Advanced Matrix Extensions").default(false),
});
export type CpuFeatures = z.infer<typeof CpuFeaturesSchema>;

/** Guest physical address bits unless configured; the host's number is the upper limit. */
export const DEFAULT_MAX_PHYS_BITS = 46;

export const CpusConfigSchema = struct("CpusConfig", {
  boot_vcpus: u32().meta({ description: "vCPUs present at boot", minimum: 1 }),
  max_vcpus: u32().meta({ description: "vCPUs the VM can grow to", minimum: 1 }),
  topology: CpuTopologySchema.optional(),
  kvm_hyperv: bool().describe("Hyper-V enlightenments").default(false),
  max_phys_bits: u8().describe("Upper limit of guest physical address bits").default(DEFAULT_MAX_PHYS_BITS),
  affinity: z.array(CpuAffinitySchema).optional(),
  features: CpuFeaturesSchema.default(() => ({ amx: false })),
  nested: bool().describe("Nested virtualisation").default(true),
  core_scheduling: CoreSchedulingSchema.default("Vm"),
  profile: CpuProfileSchema.default("Host"),
});
/** The vCPUs. */
export type CpusConfig = z.infer<typeof CpusConfigSchema>;
