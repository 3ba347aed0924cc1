/**
 * CPUID of one vCPU: the common set with its APIC id, topology, caches and TSC frequency.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §11; Intel SDM vol. 2A CPUID leaves 1, 4, 0xb, 0x1f; AMD APM
 * vol. 3 appendix E.4.
 */
import {
  CPUID_FLAG_SIGNIFICANT_INDEX,
  type CpuidEntry,
  type CpuidRegister,
  type CpuidRegisters,
  type CpuVendor,
} from "./cpuid.ts";
import { type CpuTopology, topologyWidths, x2apicId } from "./topology.ts";

/** What differs from one vCPU to the next, and what decides how it is shown. */
export interface VcpuCpuidOptions {
  /** vCPU number. */
  readonly cpu: number;
  readonly topology: CpuTopology;
  readonly vendor: CpuVendor;
  /** Whether the guest may use VMX or SVM. */
  readonly nested: boolean;
  readonly kvmHyperv?: boolean;
  /** KVM_GET_TSC_KHZ, given only when the host's TSC is invariant. */
  readonly tscKhz?: number;
}

const VMX_ECX = 1 << 5;
const SVM_ECX = 1 << 2;
const HTT_EDX = 1 << 28;
const AMD_CMP_LEGACY_ECX = 1 << 1;
const AMD_TOPOLOGY_EXTENSIONS_ECX = 1 << 22;
/** CLFLUSH line size in units of 8 bytes, leaf 1 EBX[15:8]. */
const CLFLUSH_UNITS = 8;

/** Level types of leaves 0xb and 0x1f, ECX[15:8]. */
const LEVEL_SMT = 1 << 8;
const LEVEL_CORE = 2 << 8;
const LEVEL_DIE = 5 << 8;

const TIMING_LEAF = 0x4000_0010;
/** APIC bus frequency in kHz, fixed in KVM. */
const APIC_BUS_KHZ = 1_000_000;

/** EAX of the cache leaves 4 and 0x8000001d. */
const CACHE_TYPE_MASK = 0x1f;
const CACHE_SHARING = { shift: 14, mask: 0xfff } as const;
const CACHE_CORE_IDS = { shift: 26, mask: 0x3f } as const;

type MutableEntry = { -readonly [K in keyof CpuidEntry]: CpuidEntry[K] };

/** Entries being changed, found by leaf and sub-leaf. */
class CpuidSet {
  readonly entries: MutableEntry[];

  constructor(entries: readonly CpuidEntry[]) {
    this.entries = entries.map((entry) => ({ ...entry }));
  }

  /** Changes registers of every sub-leaf of a leaf. */
  setAll(fn: number, registers: Partial<CpuidRegisters>): void {
    for (const entry of this.entries) if (entry.function === fn) Object.assign(entry, registers);
  }

  /** Changes registers of one sub-leaf, adding it when absent. */
  setOne(fn: number, index: number, registers: Partial<CpuidRegisters>): void {
    const found = this.entries.filter((entry) => entry.function === fn && entry.index === index);
    if (found.length === 0) {
      const added = {
        function: fn,
        index,
        flags: CPUID_FLAG_SIGNIFICANT_INDEX,
        eax: 0,
        ebx: 0,
        ecx: 0,
        edx: 0,
      };
      this.entries.push(added);
      found.push(added);
    }
    for (const entry of found) Object.assign(entry, registers);
  }

  get(fn: number, register: CpuidRegister): number {
    return this.entries.find((entry) => entry.function === fn)?.[register] ?? 0;
  }
}

/** One less than a power of two, limited by the field that stores it. */
function maxAddressableIds(width: number, mask: number): number {
  return Math.min(2 ** width - 1, mask);
}

function setField(eax: number, field: { shift: number; mask: number }, value: number): number {
  return ((eax & ~(field.mask << field.shift)) | (value << field.shift)) >>> 0;
}

/** Keeps caches from spanning guest dies: sharing counts come from the host's numbering. */
function limitCacheSharing(set: CpuidSet, coreWidth: number, coreIdsWidth: number): void {
  const dieIds = maxAddressableIds(coreWidth, CACHE_SHARING.mask);
  for (const entry of set.entries) {
    if (entry.function !== 0x4 && entry.function !== 0x8000_001d) continue;
    if ((entry.eax & CACHE_TYPE_MASK) === 0) continue;
    const sharing = (entry.eax >>> CACHE_SHARING.shift) & CACHE_SHARING.mask;
    entry.eax = setField(entry.eax, CACHE_SHARING, Math.min(sharing, dieIds));
    if (entry.function === 0x4) {
      const coreIds = maxAddressableIds(coreIdsWidth, CACHE_CORE_IDS.mask);
      entry.eax = setField(entry.eax, CACHE_CORE_IDS, coreIds);
    }
  }
}

function setAmdTopology(set: CpuidSet, topology: CpuTopology, id: number): void {
  const { threadsPerCore, coresPerDie, diesPerPackage } = topology;
  const width = topologyWidths(topology);
  const perDie = coresPerDie * threadsPerCore;
  set.setOne(0x8000_001e, 0, {
    eax: id,
    ebx: ((threadsPerCore - 1) << 8) | (id & 0xff),
    ecx: ((diesPerPackage - 1) << 8) | ((width.thread + width.die) & 0xff),
    edx: 0,
  });
  if (perDie === 1) {
    set.setOne(0x8000_0008, 0, { ecx: 0 });
    return;
  }
  set.setOne(0x8000_0001, 0, {
    ecx: (set.get(0x8000_0001, "ecx") | AMD_CMP_LEGACY_ECX | AMD_TOPOLOGY_EXTENSIONS_ECX) >>> 0,
  });
  set.setOne(0x1, 0, {
    ebx: ((id << 24) | ((perDie & 0xff) << 16) | (CLFLUSH_UNITS << 8)) >>> 0,
  });
  set.setOne(0x8000_0008, 0, {
    ecx: ((width.thread + width.core + width.die) << 12) | (perDie - 1),
  });
}

/** CPUID of one vCPU, to be given to KVM_SET_CPUID2 in this order. */
export function vcpuCpuid(common: readonly CpuidEntry[], options: VcpuCpuidOptions): CpuidEntry[] {
  const { topology, vendor } = options;
  const { threadsPerCore, coresPerDie, diesPerPackage } = topology;
  const id = x2apicId(options.cpu, topology);
  const width = topologyWidths(topology);
  const perDie = threadsPerCore * coresPerDie;
  const perPackage = perDie * diesPerPackage;
  const set = new CpuidSet(common);

  set.setAll(0xb, { edx: id });
  set.setAll(0x1f, { edx: id });
  set.setAll(0x1, {
    ebx: ((id << 24) | ((perPackage & 0xff) << 16) | (set.get(0x1, "ebx") & 0xffff)) >>> 0,
    ecx: (set.get(0x1, "ecx") & (options.nested ? ~0 : ~VMX_ECX)) >>> 0,
    edx: (set.get(0x1, "edx") | HTT_EDX) >>> 0,
  });
  set.setAll(0x8000_0001, {
    ecx: (set.get(0x8000_0001, "ecx") & (options.nested ? ~0 : ~SVM_ECX)) >>> 0,
  });

  set.setOne(0xb, 0, { eax: width.thread, ebx: threadsPerCore, ecx: LEVEL_SMT });
  set.setOne(0xb, 1, { eax: width.die, ebx: perPackage, ecx: LEVEL_CORE, edx: id });
  set.setOne(0x1f, 0, { eax: width.thread, ebx: threadsPerCore, ecx: LEVEL_SMT, edx: id });
  set.setOne(0x1f, 1, { eax: width.core, ebx: perDie, ecx: LEVEL_CORE, edx: id });
  set.setOne(0x1f, 2, { eax: width.die, ebx: perPackage, ecx: LEVEL_DIE, edx: id });

  limitCacheSharing(set, width.core, width.die - width.thread);
  if (vendor === "AMD") setAmdTopology(set, topology, id);

  // A Hyper-V guest takes frequencies from synthetic MSRs, and its leaf range ends before this one.
  if (!options.kvmHyperv && options.tscKhz !== undefined) {
    set.setAll(0x4000_0000, { eax: TIMING_LEAF });
    const timing = { function: TIMING_LEAF, index: 0, flags: 0, ecx: 0, edx: 0 };
    return [
      ...set.entries.filter((entry) => entry.function !== TIMING_LEAF),
      { ...timing, eax: options.tscKhz, ebx: APIC_BUS_KHZ },
    ];
  }
  return set.entries;
}
