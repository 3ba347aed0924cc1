/**
 * What the host offers every VM of this process: `/dev/kvm`, CPUID, features to hide. Asked once.
 *
 * L5, main isolate.
 */
import { KvmCap } from "@ffi/kvm/codes.ts";
import { hostCpuid } from "@ffi/x86/cpuid.ts";
import { type HostCpuid } from "@vmm/arch/x86_64/cpuid.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { findUnusableFeatures, type HiddenFeature } from "@vmm/hypervisor/kvm/instruction_probe.ts";
import { KvmSystem } from "@vmm/hypervisor/kvm/system.ts";

/** Leaves of the host CPU: brand string, caches, power management, address sizes. */
const LEAVES = [
  0x8000_0002,
  0x8000_0003,
  0x8000_0004,
  0x8000_0005,
  0x8000_0006,
  0x8000_0007,
  0x8000_0008,
] as const;
const INVARIANT_TSC = 1 << 8;

/** The host as VMs need it. */
export interface KvmHost {
  readonly system: KvmSystem;
  readonly cpuid: HostCpuid;
  readonly physBits: number;
  readonly invariantTsc: boolean;
  readonly hiddenFeatures: readonly HiddenFeature[];
  /** Most vCPUs KVM gives one VM. */
  readonly maxVcpus: number;
}

let host: KvmHost | undefined;

/** Opens KVM on first use. @throws ContextError saying why the host cannot run VMs */
export function kvmHost(): KvmHost {
  return host ??= openHost();
}

function openHost(): KvmHost {
  try {
    const system = new KvmSystem();
    const [brand2, brand3, brand4, l1Cache, l2Cache, power, sizes] = hostCpuid(
      LEAVES.map((leaf) => [leaf, 0] as const),
    );
    return {
      system,
      cpuid: { brand: [brand2, brand3, brand4], l1Cache, l2Cache },
      physBits: sizes.eax & 0xff,
      invariantTsc: (power.edx & INVARIANT_TSC) !== 0,
      hiddenFeatures: findUnusableFeatures(system),
      maxVcpus: system.extension(KvmCap.MAX_VCPUS),
    };
  } catch (cause) {
    throw new ContextError(["Cannot use the host's KVM"], cause);
  }
}
