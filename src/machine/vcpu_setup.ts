/**
 * Puts a vCPU in its state at the first guest instruction.
 *
 * L5, main isolate: the tables are arch's, the ioctls hypervisor's. Source: machine model §7, §10.
 */
import { type StructBuffer, type StructLayout } from "@ffi/abi/struct.ts";
import { Dtable, Segment } from "@ffi/kvm/structs.ts";
import {
  APIC_LVT_LINT0,
  APIC_LVT_LINT1,
  BOOT_FPU,
  BOOT_MSRS,
  type BootEntry,
  bootLvt,
  bootRegs,
  bootSregs,
  type DescriptorTable,
  type SegmentState,
} from "@vmm/arch/x86_64/boot_cpu.ts";
import type { CpuidEntry } from "@vmm/hypervisor/kvm/cpuid_entry.ts";
import type { KvmVcpu } from "@vmm/hypervisor/kvm/vcpu.ts";

const SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "tr"] as const;

/** What every vCPU gets, the boot processor and the others: CPUID, MSRs, FPU, local APIC pins. @throws OsError */
export function setUpVcpu(vcpu: KvmVcpu, cpuid: readonly CpuidEntry[]): void {
  vcpu.setCpuid(cpuid);
  const taken = vcpu.setMsrs(BOOT_MSRS);
  if (taken !== BOOT_MSRS.length) {
    throw new Error(`KVM refused to set ${BOOT_MSRS[taken].name} of vcpu ${vcpu.index}`);
  }
  const lapic = vcpu.get("lapic");
  const at = (offset: number) => lapic.view.getUint32(offset, true);
  const lvt = bootLvt(at(APIC_LVT_LINT0), at(APIC_LVT_LINT1));
  lapic.view.setUint32(APIC_LVT_LINT0, lvt.lint0, true);
  lapic.view.setUint32(APIC_LVT_LINT1, lvt.lint1, true);
  vcpu.set("lapic", lapic.bytes);
}

/** What only the boot processor gets: where to start. The others wait for INIT and SIPI. @throws OsError */
export function setUpBootProcessor(vcpu: KvmVcpu, entry: BootEntry): void {
  const fpu = vcpu.get("fpu");
  fpu.bytes.fill(0);
  fpu.set("fcw", BOOT_FPU.fcw).set("mxcsr", BOOT_FPU.mxcsr);
  vcpu.set("fpu", fpu.bytes);

  const regs = vcpu.get("regs");
  regs.bytes.fill(0);
  for (const [name, value] of Object.entries(bootRegs(entry))) regs.set(name, value);
  vcpu.set("regs", regs.bytes);

  const wanted = bootSregs(false);
  const sregs = vcpu.get("sregs");
  for (const name of SEGMENTS) writeSegment(sregs, name, wanted[name]);
  writeTable(sregs, "gdt", wanted.gdt);
  writeTable(sregs, "idt", wanted.idt);
  sregs.set("cr0", wanted.cr0).set("cr4", wanted.cr4).set("efer", wanted.efer);
  vcpu.set("sregs", sregs.bytes);
}

/** Turns on x2APIC mode, needed when an APIC id does not fit in eight bits. @throws OsError */
export function enableX2apic(vcpu: KvmVcpu): void {
  const sregs = vcpu.get("sregs");
  sregs.set("apic_base", sregs.getBig("apic_base") | BigInt(bootSregs(true).apicBaseBits));
  vcpu.set("sregs", sregs.bytes);
}

function writeSegment(sregs: StructBuffer<string>, name: string, state: SegmentState): void {
  writeFields(sregs, name, Segment, { ...state, unusable: 0 });
}

function writeTable(sregs: StructBuffer<string>, name: string, table: DescriptorTable): void {
  writeFields(sregs, name, Dtable, { ...table });
}

/** Writes the scalar members of a structure nested in `outer`. */
function writeFields(
  outer: StructBuffer<string>,
  name: string,
  inner: StructLayout<string>,
  values: Record<string, number>,
): void {
  const base = outer.layout.offsets[name];
  for (const [key, value] of Object.entries(values)) {
    const { offset, type } = inner.fields[key];
    const at = base + offset;
    if (type === "u8") outer.view.setUint8(at, value);
    else if (type === "u16") outer.view.setUint16(at, value, true);
    else if (type === "u32") outer.view.setUint32(at, value, true);
    else outer.view.setBigUint64(at, BigInt(value), true);
  }
}
