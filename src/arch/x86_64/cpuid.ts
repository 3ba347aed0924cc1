/**
 * CPUID shown to every vCPU: KVM's supported set with the hypervisor's own corrections.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §7, §11; Intel SDM vol. 2A CPUID; AMD APM vol. 3 appendix E;
 * Hypervisor Top Level Functional Specification ch. 2; kernel Documentation/virt/kvm/x86/cpuid.rst.
 */

/** One entry as in `struct kvm_cpuid_entry2`; registers are unsigned 32-bit numbers. */
export interface CpuidEntry {
  readonly function: number;
  readonly index: number;
  /** KVM_CPUID_FLAG_SIGNIFCANT_INDEX is bit 0. */
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** Register values of one leaf read on the host. */
export interface CpuidRegisters {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

export type CpuidRegister = keyof CpuidRegisters;

/** Feature bits to take away: a probe found that KVM offers but cannot emulate them. */
export interface HiddenFeature {
  readonly function: number;
  readonly index: number;
  readonly register: CpuidRegister;
  /** Mask of bits to clear. */
  readonly bits: number;
}

/** What only the host CPU itself tells. */
export interface HostCpuid {
  /** Leaves 0x80000002, 3 and 4. */
  readonly brand: readonly [CpuidRegisters, CpuidRegisters, CpuidRegisters];
  /** Leaf 0x80000005, used where KVM gives zeros. */
  readonly l1Cache?: CpuidRegisters;
  /** Leaf 0x80000006, used where KVM gives zeros. */
  readonly l2Cache?: CpuidRegisters;
}

/** What the configuration says of every vCPU's CPUID. */
export interface CommonCpuidOptions {
  /** Guest physical address bits. */
  readonly physBits: number;
  readonly amx?: boolean;
  readonly kvmHyperv?: boolean;
  readonly hiddenFeatures?: readonly HiddenFeature[];
}

export const CPUID_FLAG_SIGNIFICANT_INDEX = 1;

const LEAF = {
  features: 0x1,
  extendedFeatures: 0x7,
  tileInformation: 0x1d,
  tmulInformation: 0x1e,
  hypervisorVendor: 0x4000_0000,
  kvmFeatures: 0x4000_0001,
  brand: 0x8000_0002,
  l1Cache: 0x8000_0005,
  l2Cache: 0x8000_0006,
  addressSizes: 0x8000_0008,
} as const;

const TSC_DEADLINE_TIMER_ECX = 1 << 24;
const HYPERVISOR_ECX = 1 << 31;
const MTRR_EDX = 1 << 12;
const AMX_LEAF7_EDX = (1 << 22) | (1 << 24) | (1 << 25); // BF16, TILE, INT8
const AMX_FP16_LEAF7_1_EAX = 1 << 21;
const AMX_COMPLEX_LEAF7_1_EDX = 1 << 8;
const KVM_FEATURE_MSI_EXT_DEST_ID = 1 << 15;

const NO_REGISTERS: CpuidRegisters = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/** Whether a leaf carries nothing. */
function isZero(entry: CpuidRegisters): boolean {
  return (entry.eax | entry.ebx | entry.ecx | entry.edx) === 0;
}

function clear(value: number, bits: number): number {
  return (value & ~bits) >>> 0;
}

function set(value: number, bits: number): number {
  return (value | bits) >>> 0;
}

/** Hyper-V leaves of `kvm_hyperv`: what replaces KVM's own signature. */
function hypervLeaves(): CpuidEntry[] {
  const leaf = (fn: number, registers: Partial<CpuidRegisters>): CpuidEntry => ({
    function: fn,
    index: 0,
    flags: 0,
    ...NO_REGISTERS,
    ...registers,
  });
  return [
    // "Linux KVM Hv"
    leaf(0x4000_0000, { eax: 0x4000_000a, ebx: 0x756e_694c, ecx: 0x564b_2078, edx: 0x7648_204d }),
    // "Hv#1"
    leaf(0x4000_0001, { eax: 0x3123_7648 }),
    leaf(0x4000_0002, { eax: 0x3839, ebx: 0xa_0000 }),
    leaf(0x4000_0003, { eax: 0x7f | (1 << 9) | (1 << 11), edx: (1 << 3) | (1 << 4) | (1 << 8) }),
    leaf(0x4000_0004, { eax: (1 << 1) | (1 << 2) | (1 << 3) | (1 << 5) | (1 << 9) | (1 << 10), ebx: 0xfff }),
    ...[5, 6, 7, 8, 9, 0xa].map((n) => leaf(0x4000_0000 + n, {})),
  ];
}

function correct(entry: CpuidEntry, host: HostCpuid, options: CommonCpuidOptions): CpuidEntry {
  switch (entry.function) {
    case LEAF.features:
      return {
        ...entry,
        ebx: clear(entry.ebx, 0xff00_0000), // the APIC id of the CPU that asked KVM
        ecx: set(entry.ecx, HYPERVISOR_ECX | TSC_DEADLINE_TIMER_ECX),
        edx: set(entry.edx, MTRR_EDX),
      };
    case LEAF.extendedFeatures:
      if (options.amx) return entry;
      if (entry.index === 0) return { ...entry, edx: clear(entry.edx, AMX_LEAF7_EDX) };
      if (entry.index !== 1) return entry;
      return {
        ...entry,
        eax: clear(entry.eax, AMX_FP16_LEAF7_1_EAX),
        edx: clear(entry.edx, AMX_COMPLEX_LEAF7_1_EDX),
      };
    case LEAF.tileInformation:
    case LEAF.tmulInformation:
      return options.amx ? entry : { ...entry, ...NO_REGISTERS };
    case 0xb:
    case 0x1f:
      return { ...entry, edx: 0 }; // as above
    case LEAF.l1Cache:
      return isZero(entry) ? { ...entry, ...host.l1Cache } : entry;
    case LEAF.l2Cache:
      return isZero(entry) ? { ...entry, ...host.l2Cache } : entry;
    case LEAF.addressSizes:
      return {
        ...entry,
        eax: set(
          clear(entry.eax, 0x00ff_00ff),
          (options.physBits & 0xff) | ((options.physBits & 0xff) << 16),
        ),
      };
    case LEAF.kvmFeatures:
      return { ...entry, eax: set(entry.eax, KVM_FEATURE_MSI_EXT_DEST_ID) };
    default:
      return entry;
  }
}

function hide(entry: CpuidEntry, hidden: readonly HiddenFeature[]): CpuidEntry {
  return hidden.reduce(
    (result, feature) =>
      feature.function === result.function && feature.index === result.index
        ? { ...result, [feature.register]: clear(result[feature.register], feature.bits) }
        : result,
    entry,
  );
}

/**
 * The CPUID every vCPU starts from.
 *
 * @param supported answer of KVM_GET_SUPPORTED_CPUID, in its order
 */
export function commonCpuid(
  supported: readonly CpuidEntry[],
  host: HostCpuid,
  options: CommonCpuidOptions,
): CpuidEntry[] {
  const isBrand = (fn: number) => fn >= LEAF.brand && fn < LEAF.brand + host.brand.length;
  const replacedByHyperv = (fn: number) => fn === LEAF.hypervisorVendor || fn === LEAF.kvmFeatures;
  const entries = supported
    .filter((entry) => !isBrand(entry.function))
    .filter((entry) => !(options.kvmHyperv && replacedByHyperv(entry.function)))
    .map((entry) => correct(entry, host, options));
  host.brand.forEach((registers, i) => {
    entries.push({ function: LEAF.brand + i, index: 0, flags: 0, ...registers });
  });
  if (options.kvmHyperv) entries.push(...hypervLeaves());
  return entries.map((entry) => hide(entry, options.hiddenFeatures ?? []));
}

export type CpuVendor = "AMD" | "Intel" | "Unknown";

/** Vendor by the signature in leaf 0. */
export function cpuVendor(entries: readonly CpuidEntry[]): CpuVendor {
  const leaf = entries.find((entry) => entry.function === 0);
  if (leaf === undefined) return "Unknown";
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  [leaf.ebx, leaf.edx, leaf.ecx].forEach((word, i) => view.setUint32(i * 4, word, true));
  const signature = new TextDecoder().decode(bytes);
  if (signature === "AuthenticAMD") return "AMD";
  return signature === "GenuineIntel" ? "Intel" : "Unknown";
}
