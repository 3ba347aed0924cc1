/**
 * KVM's structures as tables.
 *
 * L0, any isolate. Source: include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h.
 */
import { struct } from "../abi/struct.ts";

const KVM_H = "linux/kvm.h";
const ASM_KVM_H = "asm/kvm.h";

export const UserspaceMemoryRegion = struct("kvm_userspace_memory_region", {
  slot: "u32",
  flags: "u32",
  guest_phys_addr: "u64",
  memory_size: "u64",
  userspace_addr: "u64",
}, { size: 32, source: KVM_H });

export const EnableCap = struct("kvm_enable_cap", {
  cap: "u32",
  flags: "u32",
  args: { bytes: 32, align: 8 },
  pad: { bytes: 64 },
}, { size: 104, source: KVM_H });

export const Regs = struct("kvm_regs", {
  rax: "u64",
  rbx: "u64",
  rcx: "u64",
  rdx: "u64",
  rsi: "u64",
  rdi: "u64",
  rsp: "u64",
  rbp: "u64",
  r8: "u64",
  r9: "u64",
  r10: "u64",
  r11: "u64",
  r12: "u64",
  r13: "u64",
  r14: "u64",
  r15: "u64",
  rip: "u64",
  rflags: "u64",
}, { size: 144, source: ASM_KVM_H });

export const Segment = struct("kvm_segment", {
  base: "u64",
  limit: "u32",
  selector: "u16",
  type: "u8",
  present: "u8",
  dpl: "u8",
  db: "u8",
  s: "u8",
  l: "u8",
  g: "u8",
  avl: "u8",
  unusable: "u8",
  padding: "u8",
}, { size: 24, source: ASM_KVM_H });

export const Dtable = struct("kvm_dtable", { base: "u64", limit: "u16", padding: { bytes: 6 } }, {
  size: 16,
  source: ASM_KVM_H,
});

export const Sregs = struct("kvm_sregs", {
  cs: Segment,
  ds: Segment,
  es: Segment,
  fs: Segment,
  gs: Segment,
  ss: Segment,
  tr: Segment,
  ldt: Segment,
  gdt: Dtable,
  idt: Dtable,
  cr0: "u64",
  cr2: "u64",
  cr3: "u64",
  cr4: "u64",
  cr8: "u64",
  efer: "u64",
  apic_base: "u64",
  interrupt_bitmap: { bytes: 32, align: 8 },
}, { size: 312, source: ASM_KVM_H });

export const Fpu = struct("kvm_fpu", {
  fpr: { bytes: 128 },
  fcw: "u16",
  fsw: "u16",
  ftwx: "u8",
  pad1: "u8",
  last_opcode: "u16",
  last_ip: "u64",
  last_dp: "u64",
  xmm: { bytes: 256 },
  mxcsr: "u32",
  pad2: "u32",
}, { size: 416, source: ASM_KVM_H });

export const Msrs = struct("kvm_msrs", { nmsrs: "u32", pad: "u32" }, { size: 8, source: ASM_KVM_H });
export const MsrEntry = struct("kvm_msr_entry", { index: "u32", reserved: "u32", data: "u64" }, {
  size: 16,
  source: ASM_KVM_H,
});
export const MsrList = struct("kvm_msr_list", { nmsrs: "u32" }, { size: 4, source: ASM_KVM_H });

export const Cpuid2 = struct("kvm_cpuid2", { nent: "u32", padding: "u32" }, { size: 8, source: ASM_KVM_H });
export const CpuidEntry2 = struct("kvm_cpuid_entry2", {
  function: "u32",
  index: "u32",
  flags: "u32",
  eax: "u32",
  ebx: "u32",
  ecx: "u32",
  edx: "u32",
  padding: { bytes: 12 },
}, { size: 40, source: ASM_KVM_H });

export const LapicState = struct("kvm_lapic_state", { regs: { bytes: 1024 } }, {
  size: 1024,
  source: ASM_KVM_H,
});
export const MpState = struct("kvm_mp_state", { mp_state: "u32" }, { size: 4, source: KVM_H });
export const VcpuEvents = struct("kvm_vcpu_events", { raw: { bytes: 64, align: 4 } }, {
  size: 64,
  source: ASM_KVM_H,
});
export const Xsave = struct("kvm_xsave", { region: { bytes: 4096, align: 4 } }, {
  size: 4096,
  source: ASM_KVM_H,
});
export const Xcrs = struct("kvm_xcrs", {
  nr_xcrs: "u32",
  flags: "u32",
  xcrs: { bytes: 256, align: 8 },
  padding: { bytes: 128 },
}, { size: 392, source: ASM_KVM_H });
export const DebugRegs = struct("kvm_debugregs", { raw: { bytes: 128, align: 8 } }, {
  size: 128,
  source: ASM_KVM_H,
});

export const ClockData = struct("kvm_clock_data", {
  clock: "u64",
  flags: "u32",
  pad0: "u32",
  realtime: "u64",
  host_tsc: "u64",
  pad: { bytes: 16 },
}, { size: 48, source: KVM_H });

export const Irqfd = struct("kvm_irqfd", {
  fd: "u32",
  gsi: "u32",
  flags: "u32",
  resamplefd: "u32",
  pad: { bytes: 16 },
}, { size: 32, source: KVM_H });

export const Ioeventfd = struct("kvm_ioeventfd", {
  datamatch: "u64",
  addr: "u64",
  len: "u32",
  fd: "u32",
  flags: "u32",
  pad: { bytes: 36 },
}, { size: 64, source: KVM_H });

export const Msi = struct("kvm_msi", {
  address_lo: "u32",
  address_hi: "u32",
  data: "u32",
  flags: "u32",
  devid: "u32",
  pad: { bytes: 12 },
}, { size: 32, source: KVM_H });

export const IrqRouting = struct("kvm_irq_routing", { nr: "u32", flags: "u32" }, { size: 8, source: KVM_H });
export const IrqRoutingEntry = struct("kvm_irq_routing_entry", {
  gsi: "u32",
  type: "u32",
  flags: "u32",
  pad: "u32",
  address_lo: "u32",
  address_hi: "u32",
  data: "u32",
  devid: "u32",
  rest: { bytes: 16 },
}, { size: 48, source: KVM_H });

export const SignalMask = struct("kvm_signal_mask", { len: "u32" }, { size: 4, source: KVM_H });
export const DirtyLog = struct("kvm_dirty_log", { slot: "u32", padding1: "u32", dirty_bitmap: "u64" }, {
  size: 16,
  source: KVM_H,
});

/**
 * The fields of struct kvm_run this project reads, with their offsets in the mapped page. The union behind `apic_base`
 * starts at 32; `io`, `mmio` and the others share it, so it is a table of its own rather than a `struct`.
 */
export const RunPage = {
  immediate_exit: 1,
  exit_reason: 8,
  io: { direction: 32, size: 33, port: 34, count: 36, data_offset: 40 },
  mmio: { phys_addr: 32, data: 40, len: 48, is_write: 52 },
  internal: { suberror: 32, ndata: 36, data: 40 },
  fail_entry: { hardware_entry_failure_reason: 32 },
  eoi: { vector: 32 },
  system_event: { type: 32 },
} as const;

/** kvm_run.exit_reason values. */
export const KvmExit = {
  UNKNOWN: 0,
  EXCEPTION: 1,
  IO: 2,
  HYPERCALL: 3,
  DEBUG: 4,
  HLT: 5,
  MMIO: 6,
  IRQ_WINDOW_OPEN: 7,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
  IOAPIC_EOI: 26,
  HYPERV: 27,
} as const;
