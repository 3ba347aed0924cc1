/**
 * KVM's ioctl codes and constants.
 *
 * L0, any isolate. Source: include/uapi/linux/kvm.h; Documentation/virt/kvm/api.rst by section number.
 */
import { io, ior, iow, iowr } from "../abi/ioctl.ts";
import * as S from "./structs.ts";

const KVMIO = 0xae;

/** Request codes. */
export const KVM = {
  GET_API_VERSION: io("KVM_GET_API_VERSION", KVMIO, 0x00),
  CREATE_VM: io("KVM_CREATE_VM", KVMIO, 0x01),
  GET_MSR_INDEX_LIST: iowr("KVM_GET_MSR_INDEX_LIST", KVMIO, 0x02, S.MsrList),
  CHECK_EXTENSION: io("KVM_CHECK_EXTENSION", KVMIO, 0x03),
  GET_VCPU_MMAP_SIZE: io("KVM_GET_VCPU_MMAP_SIZE", KVMIO, 0x04),
  GET_SUPPORTED_CPUID: iowr("KVM_GET_SUPPORTED_CPUID", KVMIO, 0x05, S.Cpuid2),
  CREATE_VCPU: io("KVM_CREATE_VCPU", KVMIO, 0x41),
  GET_DIRTY_LOG: iow("KVM_GET_DIRTY_LOG", KVMIO, 0x42, S.DirtyLog),
  SET_USER_MEMORY_REGION: iow("KVM_SET_USER_MEMORY_REGION", KVMIO, 0x46, S.UserspaceMemoryRegion),
  SET_TSS_ADDR: io("KVM_SET_TSS_ADDR", KVMIO, 0x47),
  SET_IDENTITY_MAP_ADDR: iow("KVM_SET_IDENTITY_MAP_ADDR", KVMIO, 0x48, 8),
  SET_GSI_ROUTING: iow("KVM_SET_GSI_ROUTING", KVMIO, 0x6a, S.IrqRouting),
  IRQFD: iow("KVM_IRQFD", KVMIO, 0x76, S.Irqfd),
  IOEVENTFD: iow("KVM_IOEVENTFD", KVMIO, 0x79, S.Ioeventfd),
  SET_CLOCK: iow("KVM_SET_CLOCK", KVMIO, 0x7b, S.ClockData),
  GET_CLOCK: ior("KVM_GET_CLOCK", KVMIO, 0x7c, S.ClockData),
  RUN: io("KVM_RUN", KVMIO, 0x80),
  GET_REGS: ior("KVM_GET_REGS", KVMIO, 0x81, S.Regs),
  SET_REGS: iow("KVM_SET_REGS", KVMIO, 0x82, S.Regs),
  GET_SREGS: ior("KVM_GET_SREGS", KVMIO, 0x83, S.Sregs),
  SET_SREGS: iow("KVM_SET_SREGS", KVMIO, 0x84, S.Sregs),
  GET_MSRS: iowr("KVM_GET_MSRS", KVMIO, 0x88, S.Msrs),
  SET_MSRS: iow("KVM_SET_MSRS", KVMIO, 0x89, S.Msrs),
  SET_SIGNAL_MASK: iow("KVM_SET_SIGNAL_MASK", KVMIO, 0x8b, S.SignalMask),
  GET_FPU: ior("KVM_GET_FPU", KVMIO, 0x8c, S.Fpu),
  SET_FPU: iow("KVM_SET_FPU", KVMIO, 0x8d, S.Fpu),
  GET_LAPIC: ior("KVM_GET_LAPIC", KVMIO, 0x8e, S.LapicState),
  SET_LAPIC: iow("KVM_SET_LAPIC", KVMIO, 0x8f, S.LapicState),
  SET_CPUID2: iow("KVM_SET_CPUID2", KVMIO, 0x90, S.Cpuid2),
  GET_MP_STATE: ior("KVM_GET_MP_STATE", KVMIO, 0x98, S.MpState),
  SET_MP_STATE: iow("KVM_SET_MP_STATE", KVMIO, 0x99, S.MpState),
  NMI: io("KVM_NMI", KVMIO, 0x9a),
  GET_VCPU_EVENTS: ior("KVM_GET_VCPU_EVENTS", KVMIO, 0x9f, S.VcpuEvents),
  SET_VCPU_EVENTS: iow("KVM_SET_VCPU_EVENTS", KVMIO, 0xa0, S.VcpuEvents),
  SET_TSC_KHZ: io("KVM_SET_TSC_KHZ", KVMIO, 0xa2),
  GET_TSC_KHZ: io("KVM_GET_TSC_KHZ", KVMIO, 0xa3),
  ENABLE_CAP: iow("KVM_ENABLE_CAP", KVMIO, 0xa3, S.EnableCap),
  GET_XSAVE: ior("KVM_GET_XSAVE", KVMIO, 0xa4, S.Xsave),
  SET_XSAVE: iow("KVM_SET_XSAVE", KVMIO, 0xa5, S.Xsave),
  SIGNAL_MSI: iow("KVM_SIGNAL_MSI", KVMIO, 0xa5, S.Msi),
  GET_XCRS: ior("KVM_GET_XCRS", KVMIO, 0xa6, S.Xcrs),
  SET_XCRS: iow("KVM_SET_XCRS", KVMIO, 0xa7, S.Xcrs),
  KVMCLOCK_CTRL: io("KVM_KVMCLOCK_CTRL", KVMIO, 0xad),
} as const;

/** The API version every KVM since 2007 reports. */
export const KVM_API_VERSION = 12;

/** Capabilities asked for with KVM_CHECK_EXTENSION. */
export const KvmCap = {
  IRQCHIP: 0,
  USER_MEMORY: 3,
  SET_TSS_ADDR: 4,
  EXT_CPUID: 7,
  MP_STATE: 14,
  USER_NMI: 22,
  IRQ_ROUTING: 25,
  IRQFD: 32,
  IOEVENTFD: 36,
  SET_IDENTITY_MAP_ADDR: 37,
  ADJUST_CLOCK: 39,
  VCPU_EVENTS: 41,
  XSAVE: 55,
  GET_TSC_KHZ: 61,
  NR_VCPUS: 9,
  MAX_VCPUS: 66,
  TSC_DEADLINE_TIMER: 72,
  SIGNAL_MSI: 77,
  SPLIT_IRQCHIP: 121,
  IMMEDIATE_EXIT: 136,
  X2APIC_API: 129,
  MAX_VCPU_ID: 128,
} as const;

/** KVM_CAP_X2APIC_API flags. */
export const X2APIC_API = { USE_32BIT_IDS: 1, DISABLE_BROADCAST_QUIRK: 2 } as const;
/** kvm_userspace_memory_region flags. */
export const KVM_MEM = { LOG_DIRTY_PAGES: 1, READONLY: 2 } as const;
/** kvm_ioeventfd flags. */
export const IOEVENTFD_FLAG = { DATAMATCH: 1, PIO: 2, DEASSIGN: 4 } as const;
/** kvm_irqfd flags. */
export const IRQFD_FLAG = { DEASSIGN: 1 } as const;
/** kvm_irq_routing_entry types. */
export const KVM_IRQ_ROUTING = { IRQCHIP: 1, MSI: 2 } as const;
