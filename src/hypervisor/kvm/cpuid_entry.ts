/**
 * One CPUID leaf as plain numbers.
 *
 * L2, pure. Source: KVM api.rst §4.46 (struct kvm_cpuid_entry2).
 */

/** Unsigned 32-bit words; `flags` bit 0: the index counts. */
export interface CpuidEntry {
  function: number;
  index: number;
  flags: number;
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}
