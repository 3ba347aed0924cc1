/**
 * `/dev/kvm` itself: extensions, supported CPUID, making VMs.
 *
 * L2, main isolate. Source: KVM api.rst §4.1–4.5, 4.46.
 */
import { OsError } from "@ffi/abi/errno.ts";
import { close, O, open } from "@ffi/libc/fd.ts";
import { check } from "@ffi/libc/syscall.ts";
import { KVM, KVM_API_VERSION, KvmCap } from "@ffi/kvm/codes.ts";
import { ioctlBuffer, ioctlValue } from "@ffi/kvm/ioctl.ts";
import { Cpuid2, CpuidEntry2 } from "@ffi/kvm/structs.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import type { CpuidEntry } from "./cpuid_entry.ts";

/** Extensions without which no VM can be made, with the names the error message uses. */
const REQUIRED: readonly [string, number][] = [
  ["AdjustClock", KvmCap.ADJUST_CLOCK],
  ["ExtCpuid", KvmCap.EXT_CPUID],
  ["GetTscKhz", KvmCap.GET_TSC_KHZ],
  ["ImmediateExit", KvmCap.IMMEDIATE_EXIT],
  ["Ioeventfd", KvmCap.IOEVENTFD],
  ["Irqchip", KvmCap.IRQCHIP],
  ["Irqfd", KvmCap.IRQFD],
  ["IrqRouting", KvmCap.IRQ_ROUTING],
  ["MpState", KvmCap.MP_STATE],
  ["SetIdentityMapAddr", KvmCap.SET_IDENTITY_MAP_ADDR],
  ["SetTssAddr", KvmCap.SET_TSS_ADDR],
  ["SignalMsi", KvmCap.SIGNAL_MSI],
  ["SplitIrqchip", KvmCap.SPLIT_IRQCHIP],
  ["TscDeadlineTimer", KvmCap.TSC_DEADLINE_TIMER],
  ["UserMemory", KvmCap.USER_MEMORY],
  ["UserNmi", KvmCap.USER_NMI],
  ["VcpuEvents", KvmCap.VCPU_EVENTS],
  ["Xsave", KvmCap.XSAVE],
];

const FIRST_CPUID_CAPACITY = 128;
const E2BIG = 7;

/** An open `/dev/kvm`. */
export class KvmSystem {
  readonly fd: number;
  /** Bytes of a vCPU's run page mapping. */
  readonly runPageBytes: number;
  #supportedCpuid?: CpuidEntry[];

  /**
   * @param path device node, `/dev/kvm` but for tests
   * @throws ContextError when it cannot be opened; Error when the API version or an extension is missing
   */
  constructor(path = "/dev/kvm") {
    try {
      this.fd = open(path, O.RDWR);
    } catch (cause) {
      throw new ContextError([`Cannot open ${JSON.stringify(path)}`], cause);
    }
    const version = ioctlValue(this.fd, KVM.GET_API_VERSION, 0n);
    if (version < 0) throw new Error(`"${path}" is not KVM's device (error ${-version})`);
    if (version !== KVM_API_VERSION) {
      throw new Error(`"${path}" has KVM API version ${version}, not ${KVM_API_VERSION}`);
    }
    for (const [name, cap] of REQUIRED) {
      if (this.extension(cap) <= 0) throw new Error(`The host's KVM lacks the extension ${name}`);
    }
    this.runPageBytes = check(
      BigInt(ioctlValue(this.fd, KVM.GET_VCPU_MMAP_SIZE, 0n)),
      "KVM_GET_VCPU_MMAP_SIZE",
    );
  }

  /** Value of an extension: 0 when absent. */
  extension(cap: number): number {
    return Math.max(0, ioctlValue(this.fd, KVM.CHECK_EXTENSION, BigInt(cap)));
  }

  /** Makes a VM; returns its descriptor. @throws OsError */
  createVm(): number {
    for (;;) {
      const fd = ioctlValue(this.fd, KVM.CREATE_VM, 0n);
      if (fd === -4) continue; // EINTR: a signal arrived while the kernel allocated
      return check(BigInt(fd), "KVM_CREATE_VM");
    }
  }

  /** What KVM can give a guest, asked once. @throws OsError */
  supportedCpuid(): readonly CpuidEntry[] {
    return this.#supportedCpuid ??= readCpuid(this.fd);
  }

  close(): void {
    close(this.fd);
  }
}

function readCpuid(fd: number): CpuidEntry[] {
  for (let capacity = FIRST_CPUID_CAPACITY;; capacity *= 2) {
    const bytes = new Uint8Array(Cpuid2.size + capacity * CpuidEntry2.size);
    const view = new DataView(bytes.buffer);
    view.setUint32(Cpuid2.offsets.nent, capacity, true);
    const result = ioctlBuffer(fd, KVM.GET_SUPPORTED_CPUID, bytes);
    if (result === -E2BIG) continue;
    if (result < 0) throw new OsError(-result, "KVM_GET_SUPPORTED_CPUID");
    return decodeCpuid(view, view.getUint32(Cpuid2.offsets.nent, true));
  }
}

function decodeCpuid(view: DataView, count: number): CpuidEntry[] {
  const at = CpuidEntry2.offsets;
  return Array.from({ length: count }, (_, i) => {
    const base = Cpuid2.size + i * CpuidEntry2.size;
    const word = (offset: number) => view.getUint32(base + offset, true);
    return {
      function: word(at.function),
      index: word(at.index),
      flags: word(at.flags),
      eax: word(at.eax),
      ebx: word(at.ebx),
      ecx: word(at.ecx),
      edx: word(at.edx),
    };
  });
}
