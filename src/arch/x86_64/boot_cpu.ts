/**
 * State of a vCPU at the first guest instruction: segments, control registers, FPU, MSRs, local APIC pins.
 *
 * L2, any isolate; pure tables, encoded into the KVM structures by the hypervisor layer. Source: spec/machine-model.md
 * §1, §7, §10; the PVH and Linux 32-bit boot protocols (flat protected mode, paging off); Intel SDM vol. 3A §3.4.5,
 * §10.5.1.
 */
import {
  BOOT_GDT_START,
  BOOT_IDT_START,
  BOOT_STACK_POINTER,
  EBDA_POINTER,
  EBDA_START,
  PVH_INFO_START,
  ZERO_PAGE_START,
} from "./layout.ts";

/** Bytes to write into guest memory. */
export interface GuestBlob {
  readonly gpa: number;
  readonly bytes: Uint8Array;
}

/** A segment register with its hidden part, named as in `struct kvm_segment`. */
export interface SegmentState {
  readonly base: number;
  /** Effective limit in bytes, after granularity. */
  readonly limit: number;
  readonly selector: number;
  readonly type: number;
  readonly present: number;
  readonly dpl: number;
  readonly db: number;
  readonly s: number;
  readonly l: number;
  readonly g: number;
  readonly avl: number;
}

/** A descriptor table register. */
export interface DescriptorTable {
  readonly base: number;
  readonly limit: number;
}

/** What is changed in KVM's initial special registers; all others stay. */
export interface BootSregs {
  readonly cs: SegmentState;
  readonly ds: SegmentState;
  readonly es: SegmentState;
  readonly fs: SegmentState;
  readonly gs: SegmentState;
  readonly ss: SegmentState;
  readonly tr: SegmentState;
  readonly gdt: DescriptorTable;
  readonly idt: DescriptorTable;
  readonly cr0: number;
  readonly cr4: number;
  readonly efer: number;
  /** Bits to OR into `apic_base`. */
  readonly apicBaseBits: number;
}

/** How the kernel is entered: both in 32-bit protected mode without paging. */
export interface BootEntry {
  readonly kind: "pvh" | "linux32";
  /** Guest physical address of the first instruction. */
  readonly rip: number;
}

/** General registers at entry; those not named are 0. */
export interface BootRegs {
  readonly rip: number;
  readonly rflags: number;
  readonly rbx: number;
  readonly rsi: number;
  readonly rsp: number;
}

/** One descriptor of the boot GDT: access byte and flags as in bits 40–55, limit in its own unit. */
interface GdtDescriptor {
  readonly accessAndFlags: number;
  readonly base: number;
  readonly limit: number;
}

const CODE_ACCESS = 0xc09b; // 4 KiB granular, 32-bit, present, execute/read, accessed
const DATA_ACCESS = 0xc093; // 4 KiB granular, 32-bit, present, read/write, accessed
const TSS_ACCESS = 0x008b; // byte granular, present, busy 32-bit TSS

const GDT: readonly GdtDescriptor[] = [
  { accessAndFlags: 0, base: 0, limit: 0 },
  { accessAndFlags: CODE_ACCESS, base: 0, limit: 0xf_ffff },
  { accessAndFlags: DATA_ACCESS, base: 0, limit: 0xf_ffff },
  { accessAndFlags: TSS_ACCESS, base: 0, limit: 0x67 },
];
const CODE_INDEX = 1;
const DATA_INDEX = 2;
const TSS_INDEX = 3;
const DESCRIPTOR_BYTES = 8;
const BOOT_IDT_BYTES = 8;

function encodeDescriptor(descriptor: GdtDescriptor): bigint {
  const { base, limit } = descriptor;
  const flags = BigInt(descriptor.accessAndFlags & 0xf0ff) << 40n;
  const baseBits = (BigInt(base & 0xff00_0000) << 32n) | (BigInt(base & 0x00ff_ffff) << 16n);
  const limitBits = (BigInt(limit & 0xf_0000) << 32n) | BigInt(limit & 0xffff);
  return flags | baseBits | limitBits;
}

function segment(index: number): SegmentState {
  const { accessAndFlags, base, limit } = GDT[index];
  const bit = (n: number) => (accessAndFlags >> n) & 1;
  const g = bit(15);
  return {
    base,
    limit: g ? limit * 0x1000 + 0xfff : limit,
    selector: index * DESCRIPTOR_BYTES,
    type: accessAndFlags & 0xf,
    s: bit(4),
    dpl: (accessAndFlags >> 5) & 3,
    present: bit(7),
    avl: bit(12),
    l: bit(13),
    db: bit(14),
    g,
  };
}

/** Boot GDT and empty IDT, and the EBDA pointer ACPICA reads. */
export function bootStructures(): GuestBlob[] {
  const gdt = new Uint8Array(GDT.length * DESCRIPTOR_BYTES);
  const gdtView = new DataView(gdt.buffer);
  GDT.forEach((descriptor, i) =>
    gdtView.setBigUint64(i * DESCRIPTOR_BYTES, encodeDescriptor(descriptor), true)
  );
  const ebda = new Uint8Array(2);
  new DataView(ebda.buffer).setUint16(0, EBDA_START >> 4, true);
  return [
    { gpa: EBDA_POINTER, bytes: ebda },
    { gpa: BOOT_GDT_START, bytes: gdt },
    { gpa: BOOT_IDT_START, bytes: new Uint8Array(BOOT_IDT_BYTES) },
  ];
}

export const CR0_PE = 1;
/** Reserved bit 1 of RFLAGS is always 1. */
export const RFLAGS_RESERVED = 2;
/** x2APIC mode, with the global enable KVM already set. */
const APIC_BASE_EXTD = 1 << 10;

/** Special registers at entry. @param x2apic whether vCPUs start in x2APIC mode, see `needsX2apicMode` */
export function bootSregs(x2apic: boolean): BootSregs {
  const data = segment(DATA_INDEX);
  return {
    cs: segment(CODE_INDEX),
    ds: data,
    es: data,
    fs: data,
    gs: data,
    ss: data,
    tr: segment(TSS_INDEX),
    gdt: { base: BOOT_GDT_START, limit: GDT.length * DESCRIPTOR_BYTES - 1 },
    idt: { base: BOOT_IDT_START, limit: BOOT_IDT_BYTES - 1 },
    cr0: CR0_PE,
    cr4: 0,
    efer: 0,
    apicBaseBits: x2apic ? APIC_BASE_EXTD : 0,
  };
}

/** General registers at entry. */
export function bootRegs(entry: BootEntry): BootRegs {
  const common = { rip: entry.rip, rflags: RFLAGS_RESERVED };
  switch (entry.kind) {
    case "pvh":
      return { ...common, rbx: PVH_INFO_START, rsi: 0, rsp: 0 };
    case "linux32":
      return { ...common, rbx: 0, rsi: ZERO_PAGE_START, rsp: BOOT_STACK_POINTER };
    default: {
      const never: never = entry.kind;
      return never;
    }
  }
}

/** FPU control words at entry; everything else in `struct kvm_fpu` is 0. */
export const BOOT_FPU = { fcw: 0x37f, mxcsr: 0x1f80 } as const;

/** One MSR and its value. */
export interface MsrEntry {
  readonly name: string;
  readonly index: number;
  readonly value: bigint;
}

const MISC_ENABLE_FAST_STRING = 1n;
const MTRR_DEF_TYPE_ENABLE = 1n << 11n;
const MTRR_WRITE_BACK = 6n;

/** MSRs every vCPU gets, in this order (KVM_SET_MSRS). */
export const BOOT_MSRS: readonly MsrEntry[] = [
  { name: "IA32_SYSENTER_CS", index: 0x174, value: 0n },
  { name: "IA32_SYSENTER_ESP", index: 0x175, value: 0n },
  { name: "IA32_SYSENTER_EIP", index: 0x176, value: 0n },
  { name: "STAR", index: 0xc000_0081, value: 0n },
  { name: "CSTAR", index: 0xc000_0083, value: 0n },
  { name: "LSTAR", index: 0xc000_0082, value: 0n },
  { name: "KERNEL_GS_BASE", index: 0xc000_0102, value: 0n },
  { name: "SYSCALL_MASK", index: 0xc000_0084, value: 0n },
  { name: "IA32_TSC", index: 0x10, value: 0n },
  { name: "IA32_MISC_ENABLE", index: 0x1a0, value: MISC_ENABLE_FAST_STRING },
  { name: "IA32_MTRR_DEF_TYPE", index: 0x2ff, value: MTRR_DEF_TYPE_ENABLE | MTRR_WRITE_BACK },
];

/** Offsets of the local vector table entries in the APIC register page. */
export const APIC_LVT_LINT0 = 0x350;
export const APIC_LVT_LINT1 = 0x360;
const APIC_DELIVERY_MODE_MASK = 0x700;
const APIC_MODE_NMI = 0x400;
const APIC_MODE_EXTINT = 0x700;

/** New values of LINT0 (ExtINT) and LINT1 (NMI) from those KVM_GET_LAPIC gave; only the delivery mode changes. */
export function bootLvt(lint0: number, lint1: number): { lint0: number; lint1: number } {
  const withMode = (lvt: number, mode: number) => ((lvt & ~APIC_DELIVERY_MODE_MASK) | mode) >>> 0;
  return { lint0: withMode(lint0, APIC_MODE_EXTINT), lint1: withMode(lint1, APIC_MODE_NMI) };
}
