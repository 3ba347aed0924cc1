/**
 * Finds out which CPU features KVM offers but cannot carry out, so that guests are not told of them.
 *
 * L2, main isolate. Some KVMs (without hardware virtualisation beneath them) run a guest's ring 0 in an instruction
 * emulator that lacks instructions KVM_GET_SUPPORTED_CPUID still offers; a guest that believes the offer dies with an
 * internal error. One tiny 64-bit guest per candidate executes the instruction and halts. A KVM that offers RDTSCP runs
 * guests on hardware and is not probed: the probe costs nothing there.
 */
import { close } from "@ffi/libc/fd.ts";
import { MAP, map, PROT, unmap, wrap } from "@ffi/libc/mmap.ts";
import { KVM } from "@ffi/kvm/codes.ts";
import { ioctlBuffer, ioctlValue, runVcpu } from "@ffi/kvm/ioctl.ts";
import { KvmExit, RunPage, Segment, Sregs, UserspaceMemoryRegion } from "@ffi/kvm/structs.ts";
import { StructBuffer } from "@ffi/abi/struct.ts";
import { check } from "@ffi/libc/syscall.ts";
import { VmFd } from "./vm.ts";
import type { CpuidEntry } from "./cpuid_entry.ts";
import type { KvmSystem } from "./system.ts";
import { KvmVcpu } from "./vcpu.ts";

/** A CPUID bit to clear. */
export interface HiddenFeature {
  readonly name: string;
  readonly function: number;
  readonly register: "eax" | "ebx" | "ecx" | "edx";
  readonly bit: number;
}

/** An offered feature and ring-0 code that needs it. `code` may use memory at 0x5000. */
const CANDIDATES: readonly (HiddenFeature & { readonly code: readonly number[] })[] = [
  {
    name: "CMPXCHG16B",
    function: 1,
    register: "ecx",
    bit: 13,
    code: [0x48, 0x0f, 0xc7, 0x0c, 0x25, 0x00, 0x50, 0x00, 0x00], // cmpxchg16b [0x5000]
  },
  { name: "POPCNT", function: 1, register: "ecx", bit: 23, code: [0xf3, 0x48, 0x0f, 0xb8, 0xd8] }, // popcnt rbx, rax
  { name: "RDTSCP", function: 0x8000_0001, register: "edx", bit: 27, code: [0x0f, 0x01, 0xf9] },
];

/** Paravirtual features a guest uses through VMCALL, which an emulated ring 0 cannot execute. */
const HYPERCALL_FEATURES: readonly HiddenFeature[] = [
  { name: "PV_UNHALT", function: 0x4000_0001, register: "eax", bit: 7 },
  { name: "PV_SEND_IPI", function: 0x4000_0001, register: "eax", bit: 11 },
  { name: "PV_SCHED_YIELD", function: 0x4000_0001, register: "eax", bit: 13 },
  { name: "MAP_GPA_RANGE", function: 0x4000_0001, register: "eax", bit: 16 },
];

const HLT = 0xf4;
const PML4 = 0x1000;
const PDPT = 0x2000;
const PD = 0x3000;
const CODE = 0x4000;
const RAM_BYTES = 0x10000;
const CR0 = 0x8005_0033n;
const CR4 = 0x620n;
const EFER = 0x500n;

/** Features to hide on this host; empty where guests run on hardware. @throws OsError when no probe VM can be made */
export function findUnusableFeatures(system: KvmSystem): HiddenFeature[] {
  const supported = system.supportedCpuid();
  const offers = (feature: HiddenFeature) => offered(supported, feature);
  if (offers(CANDIDATES[2])) return [];
  const unusable = CANDIDATES.filter((feature) => offers(feature) && !executes(system, feature.code));
  if (unusable.length === 0) return [];
  return [...unusable, ...HYPERCALL_FEATURES.filter(offers)].map((
    { name, function: leaf, register, bit },
  ) => ({
    name,
    function: leaf,
    register,
    bit,
  }));
}

function offered(entries: readonly CpuidEntry[], feature: HiddenFeature): boolean {
  const entry = entries.find((e) => e.function === feature.function);
  return entry !== undefined && ((entry[feature.register] >>> feature.bit) & 1) === 1;
}

/** Runs `code` in ring 0 of a throw-away guest; true if it reaches the halt behind it. */
function executes(system: KvmSystem, code: readonly number[]): boolean {
  const vm = new VmFd(system.createVm());
  const ram = map(RAM_BYTES, PROT.READ | PROT.WRITE, MAP.PRIVATE | MAP.ANONYMOUS);
  let vcpu: KvmVcpu | undefined;
  try {
    fillRam(new DataView(wrap(ram, RAM_BYTES)), code);
    const region = new StructBuffer(UserspaceMemoryRegion).set("memory_size", RAM_BYTES).set(
      "userspace_addr",
      ram,
    );
    check(BigInt(ioctlBuffer(vm.fd, KVM.SET_USER_MEMORY_REGION, region.bytes)), "KVM_SET_USER_MEMORY_REGION");
    vcpu = new KvmVcpu(
      0,
      check(BigInt(ioctlValue(vm.fd, KVM.CREATE_VCPU, 0n)), "KVM_CREATE_VCPU"),
      system.runPageBytes,
    );
    vcpu.setCpuid(system.supportedCpuid());
    enterLongMode(vcpu);
    const page = new DataView(wrap(vcpu.runPage, system.runPageBytes));
    return runVcpu(vcpu.fd) === 0 && page.getUint32(RunPage.exit_reason, true) === KvmExit.HLT;
  } finally {
    vcpu?.close();
    close(vm.fd);
    unmap(ram, RAM_BYTES);
  }
}

/** One 2 MiB identity mapping, and the code. */
function fillRam(ram: DataView, code: readonly number[]): void {
  const PRESENT_WRITABLE = 3n;
  const LARGE = 0x80n;
  ram.setBigUint64(PML4, BigInt(PDPT) | PRESENT_WRITABLE, true);
  ram.setBigUint64(PDPT, BigInt(PD) | PRESENT_WRITABLE, true);
  ram.setBigUint64(PD, PRESENT_WRITABLE | LARGE, true);
  [...code, HLT].forEach((byte, i) => ram.setUint8(CODE + i, byte));
}

function enterLongMode(vcpu: KvmVcpu): void {
  const sregs = vcpu.get("sregs");
  const segment = (name: string, values: Partial<Record<string, number>>) => {
    const base = Sregs.offsets[name as "cs"];
    const all: Record<string, number> = { limit: 0xffff_ffff, present: 1, s: 1, g: 1, ...values };
    for (const [key, value] of Object.entries(all)) {
      const { offset, size } = Segment.fields[key as "limit"];
      if (size === 4) sregs.view.setUint32(base + offset, value, true);
      else if (size === 2) sregs.view.setUint16(base + offset, value, true);
      else sregs.view.setUint8(base + offset, value);
    }
  };
  segment("cs", { selector: 8, type: 11, l: 1, db: 0 });
  for (const name of ["ds", "es", "fs", "gs", "ss"]) segment(name, { selector: 16, type: 3, db: 1 });
  sregs.set("cr0", CR0).set("cr3", PML4).set("cr4", CR4).set("efer", EFER);
  vcpu.set("sregs", sregs.bytes);
  const regs = vcpu.get("regs");
  regs.set("rip", CODE).set("rflags", 2).set("rsp", 0x8000);
  vcpu.set("regs", regs.bytes);
}
