/**
 * bzImage kernels: setup header and protected-mode part.
 *
 * L2, any isolate; pure. Source: kernel Documentation/arch/x86/boot.rst (setup header, 32-bit boot protocol).
 */
import { alignUp, HIGH_RAM_START } from "@vmm/arch/x86_64/layout.ts";
import {
  BZIMAGE_HEADER_UNREADABLE,
  BZIMAGE_UNDERFLOW,
  INVALID_BZIMAGE,
  type KernelFile,
  loadError,
  type LoadSegment,
} from "./kernel_file.ts";

/** Where the setup header starts in the file and in the zero page. */
export const SETUP_HEADER_START = 0x1f1;
/** Length of the header copied: up to and including `kernel_info_offset` of protocol 2.15. */
export const SETUP_HEADER_BYTES = 123;

/** Fields of the setup header, as offsets in the file's first sectors and in the zero page. */
export const SETUP_HEADER = {
  setup_sects: 0x1f1,
  header: 0x202,
  version: 0x206,
  type_of_loader: 0x210,
  loadflags: 0x211,
  ramdisk_image: 0x218,
  ramdisk_size: 0x21c,
  cmd_line_ptr: 0x228,
  initrd_addr_max: 0x22c,
  kernel_alignment: 0x230,
  relocatable_kernel: 0x234,
  cmdline_size: 0x238,
  pref_address: 0x258,
  init_size: 0x260,
} as const;

const HEADER_MAGIC = 0x5372_6448; // "HdrS"
const MIN_VERSION = 0x200;
/** Version from which `pref_address` and `init_size` say what memory the kernel needs. */
const INIT_SIZE_VERSION = 0x20a;
const LOADED_HIGH = 1;
const SECTOR_BYTES = 512;
/** Meaning of `setup_sects` 0. */
const DEFAULT_SETUP_SECTS = 4;

/** A parsed kernel. */
export interface BzImage {
  /** The setup header as it stands in the file. */
  readonly setupHeader: Uint8Array;
  readonly segment: LoadSegment;
  /** Memory the kernel uses before it reads the memory map, or undefined for old protocols. */
  readonly workArea: { readonly gpa: number; readonly sizeBytes: number } | undefined;
}

/**
 * Reads the setup header of a bzImage.
 *
 * @throws ArchError (kernel-load)
 */
export function parseBzImage(file: KernelFile): BzImage {
  const setupHeader = new Uint8Array(SETUP_HEADER_BYTES);
  try {
    setupHeader.set(file.readAt(SETUP_HEADER_START, SETUP_HEADER_BYTES));
  } catch (error) {
    throw loadError(BZIMAGE_HEADER_UNREADABLE, error instanceof Error ? error.message : String(error));
  }
  const view = new DataView(setupHeader.buffer);
  const at = (field: keyof typeof SETUP_HEADER) => SETUP_HEADER[field] - SETUP_HEADER_START;
  const version = view.getUint16(at("version"), true);
  if (
    view.getUint32(at("header"), true) !== HEADER_MAGIC || version < MIN_VERSION ||
    (view.getUint8(at("loadflags")) & LOADED_HIGH) === 0
  ) {
    throw loadError(INVALID_BZIMAGE);
  }
  const setupSects = view.getUint8(at("setup_sects")) || DEFAULT_SETUP_SECTS;
  const fileOffset = (setupSects + 1) * SECTOR_BYTES;
  if (fileOffset > file.sizeBytes) {
    throw loadError(
      BZIMAGE_UNDERFLOW,
      `bzImage is truncated: its kernel starts at ${fileOffset} in a file of ${file.sizeBytes} bytes`,
    );
  }
  return {
    setupHeader,
    segment: {
      source: "kernel",
      gpa: HIGH_RAM_START,
      fileOffset,
      lengthBytes: file.sizeBytes - fileOffset,
      zeroTailBytes: 0,
    },
    workArea: version < INIT_SIZE_VERSION ? undefined : workArea(view, at),
  };
}

function workArea(view: DataView, at: (field: keyof typeof SETUP_HEADER) => number): BzImage["workArea"] {
  const sizeBytes = view.getUint32(at("init_size"), true);
  if (sizeBytes === 0) return undefined;
  const alignment = view.getUint32(at("kernel_alignment"), true) || 1;
  const low = view.getUint32(at("pref_address"), true);
  const preferred = low + view.getUint32(at("pref_address") + 4, true) * 0x1_0000_0000;
  // A 64-bit kernel never decompresses below its preferred address, relocatable or not.
  return { gpa: Math.max(alignUp(HIGH_RAM_START, alignment), preferred), sizeBytes };
}
