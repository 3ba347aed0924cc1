/**
 * From payload files to a plan: which bytes go where in guest memory and how the first vCPU enters.
 *
 * L2, any isolate; pure: reads headers only, the caller copies (pread straight into guest memory). Kernel and firmware
 * take the same way. Source: spec/machine-model.md §1, §7.
 */
import { type BootEntry, bootStructures, type GuestBlob } from "@vmm/arch/x86_64/boot_cpu.ts";
import { chainedError } from "@vmm/arch/x86_64/errors.ts";
import {
  type AddressRange,
  alignDown,
  BOOT_STACK_START,
  CMDLINE_MAX_SIZE_BYTES,
  CMDLINE_START,
  EBDA_START,
  HIGH_RAM_START,
  type MemoryPlan,
  PAGE_SIZE_BYTES,
  PVH_INFO_START,
} from "@vmm/arch/x86_64/layout.ts";
import { contiguousRam, memoryMap, type MemoryMapEntry } from "@vmm/arch/x86_64/memory_map.ts";
import { parseBzImage } from "./bzimage.ts";
import { cmdlineBlob } from "./cmdline.ts";
import { isElf, parseElf } from "./elf.ts";
import {
  BZIMAGE_DOES_NOT_FIT,
  BZIMAGE_HEADER_UNREADABLE,
  INVALID_BZIMAGE,
  type KernelFile,
  loadError,
  type LoadSegment,
} from "./kernel_file.ts";
import { pvhBlobs } from "./pvh.ts";
import { zeroPageBlob } from "./zero_page.ts";

/** What is to be booted, and where there is memory. */
export interface PayloadRequest {
  /** Kernel or firmware. */
  readonly kernel: KernelFile;
  readonly initramfs?: { readonly sizeBytes: number };
  readonly cmdline?: string;
  readonly memory: MemoryPlan;
  /** Address of the RSDP, 0 without ACPI. */
  readonly rsdpGpa: number;
}

/** What goes where in guest memory, and where the first vCPU starts. */
export interface LoadPlan {
  readonly entry: BootEntry;
  /** Parts of the files, to be copied first. */
  readonly segments: readonly LoadSegment[];
  /** Boot structures, to be written after the segments: GDT, start info or zero page, memory map, command line. */
  readonly blobs: readonly GuestBlob[];
  readonly initramfs?: AddressRange;
  readonly memoryMap: readonly MemoryMapEntry[];
}

/** Areas below 1 MiB that boot structures and tables occupy. */
const RESERVED_LOW: readonly AddressRange[] = [
  { gpa: 0, sizeBytes: PAGE_SIZE_BYTES }, // vectors, EBDA pointer, GDT, IDT
  { gpa: PVH_INFO_START, sizeBytes: BOOT_STACK_START + PAGE_SIZE_BYTES - PVH_INFO_START },
  { gpa: CMDLINE_START, sizeBytes: CMDLINE_MAX_SIZE_BYTES },
  { gpa: EBDA_START, sizeBytes: HIGH_RAM_START - EBDA_START },
];

const hex = (value: number) => `0x${value.toString(16)}`;

function overlaps(a: AddressRange, b: AddressRange): boolean {
  return a.gpa < b.gpa + b.sizeBytes && b.gpa < a.gpa + a.sizeBytes;
}

function footprint(segment: LoadSegment): AddressRange {
  return { gpa: segment.gpa, sizeBytes: segment.lengthBytes + segment.zeroTailBytes };
}

/** Why `range` cannot be used in guest RAM, or undefined. */
function placementFault(range: AddressRange, memory: MemoryPlan): string | undefined {
  const end = range.gpa + range.sizeBytes;
  const where = `${hex(range.gpa)} to ${hex(end)}`;
  if (!contiguousRam(memory).some(([start, ramEnd]) => range.gpa >= start && end <= ramEnd)) {
    return `${where} is not guest RAM`;
  }
  const taken = RESERVED_LOW.find((area) => overlaps(area, range));
  return taken && `${where} overlaps the boot structures at ${hex(taken.gpa)}`;
}

interface KernelPlan {
  readonly entry: BootEntry;
  readonly segments: readonly LoadSegment[];
  /** Memory the kernel needs before it knows where the initramfs is. */
  readonly used: readonly AddressRange[];
  /** Setup header of a bzImage. */
  readonly setupHeader?: Uint8Array;
}

function planElf(file: KernelFile, memory: MemoryPlan): KernelPlan {
  const { segments, pvhEntry } = parseElf(file);
  for (const segment of segments) {
    const fault = placementFault(footprint(segment), memory);
    if (fault !== undefined) throw loadError(INVALID_BZIMAGE, `ELF segment at ${fault}`);
  }
  if (pvhEntry === undefined) throw chainedError("kernel-missing-pvh-header", "Kernel lacks PVH header");
  const used = segments.map(footprint);
  const entered = { gpa: pvhEntry, sizeBytes: 1 };
  if (!used.some((range) => overlaps(range, entered))) {
    throw loadError(INVALID_BZIMAGE, `PVH entry point ${hex(pvhEntry)} is in none of the ELF segments`);
  }
  return { entry: { kind: "pvh", rip: pvhEntry }, segments, used };
}

function planBzImage(file: KernelFile, memory: MemoryPlan): KernelPlan {
  const { setupHeader, segment, workArea } = parseBzImage(file);
  const used = workArea === undefined ? [footprint(segment)] : [footprint(segment), workArea];
  for (const range of used) {
    const fault = placementFault(range, memory);
    if (fault !== undefined) throw loadError(BZIMAGE_DOES_NOT_FIT, `bzImage needs memory: ${fault}`);
  }
  return { entry: { kind: "linux32", rip: segment.gpa }, segments: [segment], used, setupHeader };
}

function planKernel(file: KernelFile, memory: MemoryPlan): KernelPlan {
  let elf: boolean;
  try {
    elf = isElf(file);
  } catch (error) { // a directory, a device that fails
    throw loadError(BZIMAGE_HEADER_UNREADABLE, error instanceof Error ? error.message : String(error));
  }
  return elf ? planElf(file, memory) : planBzImage(file, memory);
}

/**
 * Place of an initramfs: at the end of the first RAM region, rounded down to a page.
 *
 * @throws ArchError (initramfs-address) when it does not fit between kernel and end of low RAM
 */
export function placeInitramfs(
  sizeBytes: number,
  memory: MemoryPlan,
  used: readonly AddressRange[] = [],
): AddressRange {
  const fail = (detail: string) =>
    chainedError(
      "initramfs-address",
      "Cannot determine initramfs load address",
      "Failed to compute initramfs address",
      detail,
    );
  const low = memory.ramRegions[0];
  if (sizeBytes > low.sizeBytes) {
    throw fail(`Initramfs of ${sizeBytes} bytes is larger than the first RAM region of ${low.sizeBytes}`);
  }
  const range = { gpa: alignDown(low.sizeBytes - sizeBytes, PAGE_SIZE_BYTES), sizeBytes };
  const fault = sizeBytes === 0 ? undefined : placementFault(range, memory);
  if (fault !== undefined) throw fail(`Initramfs at ${fault}`);
  const taken = used.find((other) => overlaps(other, range));
  if (taken !== undefined) {
    throw fail(
      `Initramfs of ${sizeBytes} bytes at ${hex(range.gpa)} overlaps the kernel, which uses ${
        hex(taken.gpa)
      } to ` +
        hex(taken.gpa + taken.sizeBytes),
    );
  }
  return range;
}

/**
 * Plans the start of a payload.
 *
 * @throws ArchError kernel-load, kernel-missing-pvh-header, kernel-cmdline, initramfs-address, memory-map
 */
export function planPayload(request: PayloadRequest): LoadPlan {
  const { memory } = request;
  const cmdline = cmdlineBlob(request.cmdline ?? "");
  const kernel = planKernel(request.kernel, memory);
  const segments = [...kernel.segments];
  let initramfs: AddressRange | undefined;
  if (request.initramfs !== undefined) {
    initramfs = placeInitramfs(request.initramfs.sizeBytes, memory, kernel.used);
    segments.push({
      source: "initramfs",
      gpa: initramfs.gpa,
      fileOffset: 0,
      lengthBytes: initramfs.sizeBytes,
      zeroTailBytes: 0,
    });
  }
  const map = memoryMap(memory);
  const info = kernel.setupHeader === undefined
    ? pvhBlobs(map, initramfs, request.rsdpGpa)
    : [zeroPageBlob(kernel.setupHeader, map, initramfs, request.rsdpGpa)];
  return {
    entry: kernel.entry,
    segments,
    blobs: [...bootStructures(), ...info, cmdline],
    initramfs,
    memoryMap: map,
  };
}
