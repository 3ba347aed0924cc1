/**
 * The CPUID instruction of the host CPU.
 *
 * L0, main isolate, cold. A few bytes of machine code in a page of their own, written before the page becomes executable.
 * Source: Intel SDM vol. 2A CPUID; System V ABI for x86-64 (RBX is callee-saved).
 */
import { check, syscall } from "../libc/syscall.ts";
import { MAP, map, PROT, unmap, wrap } from "../libc/mmap.ts";

/** Registers after CPUID. */
export interface CpuidResult {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

const PAGE_BYTES = 4096;
const PROT_EXEC = 4;
const SYS_mprotect = 10n;

/** void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]) */
// deno-fmt-ignore
const CODE = [
  0x53,                   // push rbx
  0x49, 0x89, 0xd0,       // mov r8, rdx
  0x89, 0xf8,             // mov eax, edi
  0x89, 0xf1,             // mov ecx, esi
  0x0f, 0xa2,             // cpuid
  0x41, 0x89, 0x00,       // mov [r8], eax
  0x41, 0x89, 0x58, 0x04, // mov [r8+4], ebx
  0x41, 0x89, 0x48, 0x08, // mov [r8+8], ecx
  0x41, 0x89, 0x50, 0x0c, // mov [r8+12], edx
  0x5b,                   // pop rbx
  0xc3,                   // ret
];

/** Executes CPUID for each pair of leaf and subleaf. @throws OsError when no executable page can be had */
export function hostCpuid(leaves: readonly (readonly [leaf: number, subleaf: number])[]): CpuidResult[] {
  const page = map(PAGE_BYTES, PROT.READ | PROT.WRITE, MAP.PRIVATE | MAP.ANONYMOUS);
  try {
    new Uint8Array(wrap(page, PAGE_BYTES)).set(CODE);
    check(syscall(SYS_mprotect, page, BigInt(PAGE_BYTES), BigInt(PROT.READ | PROT_EXEC)), "mprotect");
    // SAFETY: the page holds the function above with exactly this signature and stays mapped until after the calls.
    const cpuid = new Deno.UnsafeFnPointer(
      // SAFETY: as above; the address is the page's.
      Deno.UnsafePointer.create(page)! as Deno.PointerObject<never>,
      { parameters: ["u32", "u32", "buffer"], result: "void" },
    );
    return leaves.map(([leaf, subleaf]) => {
      const out = new Uint32Array(4);
      cpuid.call(leaf, subleaf, out);
      return { eax: out[0], ebx: out[1], ecx: out[2], edx: out[3] };
    });
  } finally {
    unmap(page, PAGE_BYTES);
  }
}
