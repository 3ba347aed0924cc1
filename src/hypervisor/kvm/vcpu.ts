/**
 * A KVM vCPU as its owner sees it: the structures it is set up from, and the mapping of its run page.
 *
 * L2, main isolate (the loop that runs it is in the vCPU Worker). State goes in and out as KVM's own structures, named by
 * `VCPU_STATE`, which is also what a snapshot keeps. Source: KVM api.rst §4.4–4.29.
 */
import { OsError } from "@ffi/abi/errno.ts";
import { StructBuffer, type StructLayout } from "@ffi/abi/struct.ts";
import { close } from "@ffi/libc/fd.ts";
import { MAP, map, PROT, unmap } from "@ffi/libc/mmap.ts";
import { KVM } from "@ffi/kvm/codes.ts";
import { ioctlBuffer, ioctlValue } from "@ffi/kvm/ioctl.ts";
import * as S from "@ffi/kvm/structs.ts";
import type { CpuidEntry } from "./cpuid_entry.ts";

/** One model-specific register. */
export interface Msr {
  readonly index: number;
  readonly value: bigint;
}

/** Structures that make up a vCPU's state, by name. */
export const VCPU_STATE = {
  regs: { layout: S.Regs, get: KVM.GET_REGS, set: KVM.SET_REGS },
  sregs: { layout: S.Sregs, get: KVM.GET_SREGS, set: KVM.SET_SREGS },
  fpu: { layout: S.Fpu, get: KVM.GET_FPU, set: KVM.SET_FPU },
  lapic: { layout: S.LapicState, get: KVM.GET_LAPIC, set: KVM.SET_LAPIC },
  mp_state: { layout: S.MpState, get: KVM.GET_MP_STATE, set: KVM.SET_MP_STATE },
  vcpu_events: { layout: S.VcpuEvents, get: KVM.GET_VCPU_EVENTS, set: KVM.SET_VCPU_EVENTS },
  xsave: { layout: S.Xsave, get: KVM.GET_XSAVE, set: KVM.SET_XSAVE },
  xcrs: { layout: S.Xcrs, get: KVM.GET_XCRS, set: KVM.SET_XCRS },
} as const satisfies Record<string, { layout: StructLayout; get: number; set: number }>;

/** Name of a state structure. */
export type VcpuStateName = keyof typeof VCPU_STATE;

/** A vCPU descriptor and its run page. */
export class KvmVcpu {
  /** Host address of the run page, `runPageBytes` long. */
  readonly runPage: bigint;

  /** @throws OsError when the run page cannot be mapped */
  constructor(readonly index: number, readonly fd: number, readonly runPageBytes: number) {
    this.runPage = map(runPageBytes, PROT.READ | PROT.WRITE, MAP.SHARED, fd);
  }

  #ioctl(request: number, bytes: Uint8Array<ArrayBuffer>, call: string): void {
    const result = ioctlBuffer(this.fd, request, bytes);
    if (result < 0) throw new OsError(-result, call, `vcpu ${this.index}`);
  }

  /** Reads a state structure. @throws OsError */
  get(name: VcpuStateName): StructBuffer<string> {
    const { layout, get } = VCPU_STATE[name];
    const buffer = new StructBuffer<string>(layout as StructLayout<string>);
    this.#ioctl(get, buffer.bytes, `KVM_GET_${name.toUpperCase()}`);
    return buffer;
  }

  /** Writes a state structure. @throws OsError */
  set(name: VcpuStateName, bytes: Uint8Array<ArrayBuffer>): void {
    this.#ioctl(VCPU_STATE[name].set, bytes, `KVM_SET_${name.toUpperCase()}`);
  }

  /** Gives the vCPU its CPUID table; before the first run. @throws OsError */
  setCpuid(entries: readonly CpuidEntry[]): void {
    const table = new StructBuffer(S.Cpuid2, entries.length * S.CpuidEntry2.size).set("nent", entries.length);
    const at = S.CpuidEntry2.offsets;
    entries.forEach((entry, i) => {
      const base = S.Cpuid2.size + i * S.CpuidEntry2.size;
      for (const key of ["function", "index", "flags", "eax", "ebx", "ecx", "edx"] as const) {
        table.view.setUint32(base + at[key], entry[key] >>> 0, true);
      }
    });
    this.#ioctl(KVM.SET_CPUID2, table.bytes, "KVM_SET_CPUID2");
  }

  /** Writes model-specific registers; returns how many KVM took (it stops at the first it refuses). @throws OsError */
  setMsrs(msrs: readonly Msr[]): number {
    const table = this.#msrTable(msrs);
    const result = ioctlBuffer(this.fd, KVM.SET_MSRS, table.bytes);
    if (result < 0) throw new OsError(-result, "KVM_SET_MSRS", `vcpu ${this.index}`);
    return result;
  }

  /** Reads model-specific registers; those behind the first refused one are missing. @throws OsError */
  getMsrs(indices: readonly number[]): Msr[] {
    const table = this.#msrTable(indices.map((index) => ({ index, value: 0n })));
    const count = ioctlBuffer(this.fd, KVM.GET_MSRS, table.bytes);
    if (count < 0) throw new OsError(-count, "KVM_GET_MSRS", `vcpu ${this.index}`);
    return indices.slice(0, count).map((index, i) => ({
      index,
      value: table.view.getBigUint64(S.Msrs.size + i * S.MsrEntry.size + S.MsrEntry.offsets.data, true),
    }));
  }

  #msrTable(msrs: readonly Msr[]): StructBuffer<"nmsrs" | "pad"> {
    const table = new StructBuffer(S.Msrs, msrs.length * S.MsrEntry.size).set("nmsrs", msrs.length);
    msrs.forEach((msr, i) => {
      const base = S.Msrs.size + i * S.MsrEntry.size;
      table.view.setUint32(base + S.MsrEntry.offsets.index, msr.index, true);
      table.view.setBigUint64(base + S.MsrEntry.offsets.data, msr.value, true);
    });
    return table;
  }

  /** Tells the guest's clock watchdog that it was stopped; KVMs without a guest clock refuse, which is no error. */
  notifyPaused(): void {
    ioctlValue(this.fd, KVM.KVMCLOCK_CTRL, 0n);
  }

  /** TSC frequency in kHz, 0 if KVM does not tell. */
  tscKhz(): number {
    return Math.max(0, ioctlValue(this.fd, KVM.GET_TSC_KHZ, 0n));
  }

  /** Unmaps the run page and closes the descriptor. Only after the Worker running it has stopped. */
  close(): void {
    unmap(this.runPage, this.runPageBytes);
    close(this.fd);
  }
}
