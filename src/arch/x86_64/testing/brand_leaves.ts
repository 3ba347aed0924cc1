/**
 * CPUID leaves of a processor brand string.
 *
 * Tests only: the program reads the host's.
 */
import type { CpuidRegisters, HostCpuid } from "@vmm/arch/x86_64/cpuid.ts";

/** Characters of the processor brand string. */
const BRAND_LENGTH = 48;

/** Leaves 0x80000002 to 4 for a brand string, such as `model name` of /proc/cpuinfo; cut to 47 characters. */
export function brandLeaves(modelName: string): HostCpuid["brand"] {
  const bytes = new Uint8Array(BRAND_LENGTH);
  new TextEncoder().encodeInto(modelName.slice(0, BRAND_LENGTH - 1), bytes);
  bytes[BRAND_LENGTH - 1] = 0;
  const view = new DataView(bytes.buffer);
  const leaf = (at: number): CpuidRegisters => ({
    eax: view.getUint32(at, true),
    ebx: view.getUint32(at + 4, true),
    ecx: view.getUint32(at + 8, true),
    edx: view.getUint32(at + 12, true),
  });
  return [leaf(0), leaf(16), leaf(32)];
}
