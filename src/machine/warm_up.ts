/**
 * What the first VM would otherwise wait for, done while nobody waits.
 *
 * L5, main isolate. Each step is short, so that requests get their turn in between: isolates for one vCPU and one I/O
 * Worker, KVM and the instruction probe, and one dry run of planning a machine, which loads and compiles that code.
 */
import { monotonicNs, realtimeUs } from "@ffi/libc/clock.ts";
import { buildAcpi } from "@vmm/arch/x86_64/acpi/tables.ts";
import { commonCpuid, cpuVendor } from "@vmm/arch/x86_64/cpuid.ts";
import { vcpuCpuid } from "@vmm/arch/x86_64/cpuid_vcpu.ts";
import { MIB, planControllers, planMemory, planSegments } from "@vmm/arch/x86_64/layout.ts";
import { buildSmbios } from "@vmm/arch/x86_64/smbios.ts";
import { resolveTopology } from "@vmm/arch/x86_64/topology.ts";
import { kvmHost } from "./kvm_host.ts";
import { createPlatform } from "./platform.ts";
import { prewarm, warmWorkers } from "./worker_pool.ts";

const DRY_RAM_BYTES = 64 * MIB;
const DRY_PHYS_BITS = 46;

/** Plans a small machine and forgets it; returns its platform. */
function dryRun() {
  const memory = planMemory({ zones: [{ id: "mem0", sizeBytes: DRY_RAM_BYTES }], physBits: DRY_PHYS_BITS });
  const segments = planSegments(memory, [{ mmio32: 1, mmio64: 1 }]);
  const controllers = planControllers(memory);
  const topology = resolveTopology(undefined, 1);
  buildAcpi({ bootVcpus: 1, maxVcpus: 1, topology, memory, segments, controllers, serial: true });
  buildSmbios(undefined);
  const { system, cpuid } = kvmHost();
  const common = commonCpuid(system.supportedCpuid(), cpuid, { physBits: DRY_PHYS_BITS });
  vcpuCpuid(common, { cpu: 0, topology, vendor: cpuVendor(common), nested: true });
  return createPlatform({
    controllers,
    segments,
    lowRamBytes: DRY_RAM_BYTES,
    highRamBytes: 0,
    bootVcpus: 1,
    maxVcpus: 1,
    hasSerial: true,
    hasTpm: false,
    time: { monotonicNs, realtimeUs },
  });
}

/** Gives the event loop a turn. */
const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

/** Warms everything up; a host without KVM is no error here, the first boot says so. */
export async function warmUp(): Promise<void> {
  prewarm(["vcpu"]);
  await turn();
  prewarm(["io"]);
  await turn();
  try {
    kvmHost();
    await turn();
    const platform = dryRun();
    await warmWorkers(platform.description);
  } catch {
    // No KVM, or none that can be used: vm.boot reports it with the whole chain.
  }
}
