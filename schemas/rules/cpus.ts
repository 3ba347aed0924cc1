/**
 * Rules about vCPUs.
 *
 * L0, pure. Source: spec/schemas.md rules 3 and 10.
 */
import type { CpusConfig } from "@schemas/api/cpus.ts";
import { fault, type Faults } from "./fault.ts";

/** Most vCPUs of a VM on x86-64. */
const MAX_SUPPORTED_CPUS = 8192;
const MAX_THREADS_PER_CORE = 2;

/** Boot and maximum counts. */
export function* cpuCountFaults({ boot_vcpus: boot, max_vcpus: max }: CpusConfig): Faults {
  if (max < boot) yield fault(`Max CPUs (${max}) lower than boot CPUs (${boot})`, "cpus.max_vcpus", max);
  if (max > MAX_SUPPORTED_CPUS) {
    yield fault(
      `Too many CPUs: specified ${max} but ${MAX_SUPPORTED_CPUS} is the limit`,
      "cpus.max_vcpus",
      max,
    );
  }
}

/** Topology against the maximum count. */
export function* topologyFaults({ topology, max_vcpus: max }: CpusConfig): Faults {
  if (topology === undefined) return;
  const parts = [
    topology.threads_per_core,
    topology.cores_per_die,
    topology.dies_per_package,
    topology.packages,
  ];
  if (parts.includes(0)) yield fault("No part of the CPU topology can be zero", "cpus.topology", topology);
  if (topology.threads_per_core > MAX_THREADS_PER_CORE) {
    yield fault(
      `CPU topology supports at most ${MAX_THREADS_PER_CORE} threads per core`,
      "cpus.topology.threads_per_core",
      topology.threads_per_core,
    );
  }
  if (parts.reduce((product, part) => product * part, 1) !== max) {
    yield fault("Product of CPU topology parts does not match maximum vCPU", "cpus.topology", topology);
  }
}
