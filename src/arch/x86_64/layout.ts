/**
 * Guest physical addresses: where RAM, boot structures, PCI windows and platform controllers lie.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §1, §4, §5.
 */
import { ArchError } from "./errors.ts";

export const KIB = 0x400;
export const MIB = 0x10_0000;
export const GIB = 0x4000_0000;
const FOUR_GIB = 4 * GIB;

export const PAGE_SIZE_BYTES = 0x1000;

// Below 1 MiB ------------------------------------------------------------------------------------------------------

/** u16: segment of the EBDA, where ACPICA starts its RSDP search. */
export const EBDA_POINTER = 0x40e;
export const BOOT_GDT_START = 0x500;
export const BOOT_IDT_START = 0x520;
export const PVH_INFO_START = 0x6000;
export const MODLIST_START = 0x6040;
export const MEMMAP_START = 0x7000;
/** Linux `boot_params`; shares its page with the PVH memory map, of which only one is written. */
export const ZERO_PAGE_START = 0x7000;
export const BOOT_STACK_START = 0x8000;
export const BOOT_STACK_POINTER = 0x8ff0;
export const CMDLINE_START = 0x2_0000;
export const CMDLINE_MAX_SIZE_BYTES = 0x1_0000;
/** End of conventional RAM in the memory map. */
export const EBDA_START = 0xa_0000;
export const RSDP_START = EBDA_START;
export const SMBIOS_START = 0xf_0000;
export const HIGH_RAM_START = 0x10_0000;

// 3 GiB to 4 GiB ---------------------------------------------------------------------------------------------------

export const MEM_32BIT_RESERVED_START = 0xc000_0000;
export const MEM_32BIT_DEVICES_START = MEM_32BIT_RESERVED_START;
export const MEM_32BIT_DEVICES_SIZE = 640 * MIB;
export const PCI_MMCONFIG_START = MEM_32BIT_DEVICES_START + MEM_32BIT_DEVICES_SIZE;
export const PCI_MMCONFIG_SIZE = 256 * MIB;
/** One bus of 32 devices of 8 functions of 4 KiB. */
export const PCI_MMIO_CONFIG_SIZE_PER_SEGMENT = MIB;
export const KVM_TSS_START = PCI_MMCONFIG_START + PCI_MMCONFIG_SIZE;
export const KVM_TSS_SIZE = 3 * PAGE_SIZE_BYTES;
export const KVM_IDENTITY_MAP_START = KVM_TSS_START + KVM_TSS_SIZE;
export const IOAPIC_START = 0xfec0_0000;
export const IOAPIC_SIZE = 0x20;
export const TPM_START = 0xfed4_0000;
export const TPM_SIZE = 0x1000;
export const APIC_START = 0xfee0_0000;

// Above 4 GiB ------------------------------------------------------------------------------------------------------

export const RAM_64BIT_START = 0x1_0000_0000;
/** Distance of the platform area's end from the top of the address space. */
export const PLATFORM_DEVICE_AREA_GAP = 64 * KIB;
export const PLATFORM_DEVICE_AREA_SIZE = MIB;
/** Alignment of hot-pluggable memory: Linux' memory block size. */
export const HOTPLUG_ALIGNMENT = 128 * MIB;
/** DIMM slots of the ACPI memory hot-plug controller. */
export const HOTPLUG_SLOT_COUNT = 8;

// Port I/O ---------------------------------------------------------------------------------------------------------

export const ACPI_SHUTDOWN_PORT = 0x600;
export const ACPI_PM_TIMER_PORT = 0x608;
export const ACPI_PM_TIMER_PORT_COUNT = 4;
export const ACPI_PM1A_EVENT_PORT = 0x60c;
export const ACPI_PM1A_CONTROL_PORT = 0x610;
export const FW_CFG_PORT = 0x510;
export const FW_CFG_PORT_COUNT = 0x0c;
export const COM1_PORT = 0x3f8;
export const COM1_PORT_COUNT = 8;
export const PCI_CONFIG_PORT = 0xcf8;
export const PCI_CONFIG_PORT_COUNT = 8;

// Interrupt lines --------------------------------------------------------------------------------------------------

export const IOAPIC_PIN_COUNT = 24;
export const COM1_IRQ = 4;
/** First legacy line handed out by the allocator. */
export const IRQ_BASE = 5;
/** Lines shared by PCI slots: slot i uses `PCI_IRQ_BASE + i mod PCI_IRQ_COUNT`. */
export const PCI_IRQ_BASE = IRQ_BASE;
export const PCI_IRQ_COUNT = 8;
export const GED_IRQ = PCI_IRQ_BASE + PCI_IRQ_COUNT;

export const PCI_SLOTS_PER_SEGMENT = 32;
export const MAX_PCI_SEGMENTS = 96;

/** A span of guest physical addresses. */
export interface AddressRange {
  readonly gpa: number;
  readonly sizeBytes: number;
}

/** RAM of one zone that is contiguous in guest and in backing. */
export interface RamRegion extends AddressRange {
  readonly zoneId: string;
  /** Offset in the zone's backing file, bytes. */
  readonly zoneOffsetBytes: number;
}

/** Where a zone's virtio-mem device plugs its blocks. */
export interface VirtioMemRegion extends AddressRange {
  readonly zoneId: string;
}

/** One zone as configured. */
export interface ZoneRequest {
  readonly id: string;
  readonly sizeBytes: number;
  /** virtio-mem only: how far the zone can grow. */
  readonly hotplugSizeBytes?: number;
}

/** What decides where memory lies. Sizes in bytes. */
export interface MemoryPlanRequest {
  /** Zones in configuration order; a plain `size` is one zone. */
  readonly zones: readonly ZoneRequest[];
  /** Whether `zones` are the user's own rather than one made from a plain `size`: they cannot grow by DIMMs. */
  readonly userZones?: boolean;
  readonly hotplugMethod?: "Acpi" | "VirtioMem";
  /** Acpi only: size of the gap in which DIMMs appear. */
  readonly hotplugSizeBytes?: number;
  /** Guest physical address bits, already limited by the host's. */
  readonly physBits: number;
}

/** Where RAM and the windows around it lie. */
export interface MemoryPlan {
  /** Boot RAM, ascending. */
  readonly ramRegions: readonly RamRegion[];
  /** virtio-mem regions, ascending. */
  readonly virtioMemRegions: readonly VirtioMemRegion[];
  /** Whether the ACPI memory hot-plug controller exists. With the user's own zones it does, but has no room. */
  readonly acpiMemoryHotplug: boolean;
  /** Gap in which DIMMs appear, or undefined. */
  readonly dimmArea?: AddressRange;
  readonly bootRamBytes: number;
  /** First address behind boot RAM. */
  readonly ramEnd: number;
  readonly pciWindow32: AddressRange;
  readonly pciWindow64: AddressRange;
  readonly ecam: AddressRange;
  readonly platformArea: AddressRange;
  readonly physBits: number;
}

/** `value` rounded up to a multiple of `alignment`. Exact below 2^53. */
export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/** `value` rounded down to a multiple of `alignment`. Exact below 2^53. */
export function alignDown(value: number, alignment: number): number {
  return Math.floor(value / alignment) * alignment;
}

/** Guest physical address bits for a configured limit. */
export function guestPhysBits(hostPhysBits: number, maxPhysBits: number): number {
  return Math.min(hostPhysBits, maxPhysBits);
}

/**
 * Lays out guest memory: zones one after the other from 0, skipping 3 GiB to 4 GiB, then hot-plug areas, then the
 * 64-bit device window, then the platform controllers at the top.
 *
 * @throws ArchError (memory-layout) for a non-positive or unaligned size, or when the address space is too small
 */
export function planMemory(request: MemoryPlanRequest): MemoryPlan {
  const ramRegions: RamRegion[] = [];
  let cursor = 0;
  for (const zone of request.zones) {
    checkSize(zone.sizeBytes, `memory zone "${zone.id}"`);
    let offset = 0;
    while (offset < zone.sizeBytes) {
      if (cursor === MEM_32BIT_RESERVED_START) cursor = RAM_64BIT_START;
      const room = cursor < MEM_32BIT_RESERVED_START ? MEM_32BIT_RESERVED_START - cursor : Infinity;
      const sizeBytes = Math.min(room, zone.sizeBytes - offset);
      ramRegions.push({ zoneId: zone.id, gpa: cursor, sizeBytes, zoneOffsetBytes: offset });
      offset += sizeBytes;
      cursor += sizeBytes;
    }
  }
  if (ramRegions.length === 0) throw new ArchError("memory-layout", "Guest memory is empty");
  const ramEnd = cursor;
  const virtioMemRegions: VirtioMemRegion[] = [];
  let dimmArea: AddressRange | undefined;
  let top = Math.max(ramEnd, RAM_64BIT_START);
  if (request.hotplugMethod === "VirtioMem") {
    for (const zone of request.zones) {
      if (zone.hotplugSizeBytes === undefined) continue;
      checkSize(zone.hotplugSizeBytes, `hot-plug area of memory zone "${zone.id}"`);
      const gpa = alignUp(top, HOTPLUG_ALIGNMENT);
      virtioMemRegions.push({ zoneId: zone.id, gpa, sizeBytes: zone.hotplugSizeBytes });
      top = gpa + zone.hotplugSizeBytes;
    }
  }
  const dimmSizeBytes = request.hotplugMethod === "VirtioMem" ? 0 : request.hotplugSizeBytes ?? 0;
  if (dimmSizeBytes > 0 && !request.userZones) {
    checkSize(dimmSizeBytes, "hot-plug area");
    dimmArea = { gpa: alignUp(top, HOTPLUG_ALIGNMENT), sizeBytes: dimmSizeBytes };
    top = dimmArea.gpa + dimmSizeBytes;
  }
  const spaceEnd = 2 ** request.physBits;
  const platformStart = spaceEnd - PLATFORM_DEVICE_AREA_GAP - PLATFORM_DEVICE_AREA_SIZE;
  if (!Number.isSafeInteger(spaceEnd) || platformStart <= top) {
    throw new ArchError(
      "memory-layout",
      `Cannot place devices behind guest memory: it ends at 0x${
        top.toString(16)
      } and physical addresses have ` +
        `${request.physBits} bits`,
    );
  }
  return {
    ramRegions,
    virtioMemRegions,
    acpiMemoryHotplug: dimmSizeBytes > 0,
    dimmArea,
    bootRamBytes: request.zones.reduce((sum, zone) => sum + zone.sizeBytes, 0),
    ramEnd,
    pciWindow32: { gpa: MEM_32BIT_DEVICES_START, sizeBytes: MEM_32BIT_DEVICES_SIZE },
    pciWindow64: { gpa: top, sizeBytes: platformStart - top },
    ecam: { gpa: PCI_MMCONFIG_START, sizeBytes: PCI_MMCONFIG_SIZE },
    platformArea: { gpa: platformStart, sizeBytes: PLATFORM_DEVICE_AREA_SIZE },
    physBits: request.physBits,
  };
}

function checkSize(sizeBytes: number, what: string): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % PAGE_SIZE_BYTES !== 0) {
    throw new ArchError("memory-layout", `Size of ${what} is not a positive multiple of 4 KiB: ${sizeBytes}`);
  }
}

/** Weights of one PCI segment in the two windows. */
export interface SegmentWeights {
  readonly mmio32: number;
  readonly mmio64: number;
}

/** Addresses of one PCI segment. */
export interface SegmentWindows {
  readonly segment: number;
  readonly ecam: AddressRange;
  readonly window32: AddressRange;
  readonly window64: AddressRange;
}

/** Units in which the windows are split. */
const WINDOW32_UNIT = PAGE_SIZE_BYTES;
const WINDOW64_UNIT = FOUR_GIB;

/**
 * Splits the PCI windows between segments by weight; the last segment takes the remainder.
 *
 * @param weights one entry per segment, segment 0 first
 * @throws ArchError (memory-layout) for no or too many segments, a weight below 1, or windows too small to split
 */
export function planSegments(plan: MemoryPlan, weights: readonly SegmentWeights[]): SegmentWindows[] {
  if (weights.length < 1 || weights.length > MAX_PCI_SEGMENTS) {
    throw new ArchError("memory-layout", `Number of PCI segments is not 1 to ${MAX_PCI_SEGMENTS}`);
  }
  const windows32 = splitByWeight(plan.pciWindow32, weights.map((w) => w.mmio32), WINDOW32_UNIT);
  const windows64 = splitByWeight(plan.pciWindow64, weights.map((w) => w.mmio64), WINDOW64_UNIT);
  return weights.map((_, segment) => ({
    segment,
    ecam: {
      gpa: plan.ecam.gpa + segment * PCI_MMIO_CONFIG_SIZE_PER_SEGMENT,
      sizeBytes: PCI_MMIO_CONFIG_SIZE_PER_SEGMENT,
    },
    window32: windows32[segment],
    window64: windows64[segment],
  }));
}

function splitByWeight(range: AddressRange, weights: readonly number[], unit: number): AddressRange[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (!weights.every((weight) => Number.isSafeInteger(weight) && weight >= 1)) {
    throw new ArchError("memory-layout", "Weight of a PCI segment's aperture is below 1");
  }
  const unitsPerWeight = Math.floor(Math.floor(range.sizeBytes / unit) / total);
  if (unitsPerWeight === 0 && weights.length > 1) {
    throw new ArchError(
      "memory-layout",
      `Cannot split a PCI window of ${range.sizeBytes} bytes between ${weights.length} segments in units of ${unit} bytes`,
    );
  }
  const end = range.gpa + range.sizeBytes;
  let gpa = range.gpa;
  return weights.map((weight, i) => {
    const sizeBytes = i === weights.length - 1 ? end - gpa : unitsPerWeight * weight * unit;
    const piece = { gpa, sizeBytes };
    gpa += sizeBytes;
    return piece;
  });
}

/** Addresses of the ACPI controllers, allocated downwards from the top of the platform area. */
export interface PlatformControllers {
  /** Memory hot-plug, only with ACPI memory hot-plug. */
  readonly memoryHotplug?: AddressRange;
  readonly pciHotplug: AddressRange;
  readonly cpuHotplug: AddressRange;
  readonly genericEvent: AddressRange;
}

/** Register windows of the controllers. */
const MEMORY_HOTPLUG_SIZE_BYTES = 0x18;
const PCI_HOTPLUG_SIZE_BYTES = 0x10;
const CPU_HOTPLUG_SIZE_BYTES = 0x0c;
const GED_SIZE_BYTES = 1;

/** Allocates the platform controllers of a plan: one 4 KiB page each, in the original's order. */
export function planControllers(plan: MemoryPlan): PlatformControllers {
  let page = plan.platformArea.gpa + plan.platformArea.sizeBytes;
  const allocate = (sizeBytes: number): AddressRange => {
    page -= PAGE_SIZE_BYTES;
    return { gpa: page, sizeBytes };
  };
  const memoryHotplug = plan.acpiMemoryHotplug ? allocate(MEMORY_HOTPLUG_SIZE_BYTES) : undefined;
  const pciHotplug = allocate(PCI_HOTPLUG_SIZE_BYTES);
  const cpuHotplug = allocate(CPU_HOTPLUG_SIZE_BYTES);
  const genericEvent = allocate(GED_SIZE_BYTES);
  return { memoryHotplug, pciHotplug, cpuHotplug, genericEvent };
}
