/**
 * Linux boot parameters ("zero page") for the 32-bit boot protocol.
 *
 * L2, any isolate; pure. Source: kernel Documentation/arch/x86/zero-page.rst, boot.rst.
 */
import type { GuestBlob } from "@vmm/arch/x86_64/boot_cpu.ts";
import { chainedError } from "@vmm/arch/x86_64/errors.ts";
import {
  type AddressRange,
  CMDLINE_MAX_SIZE_BYTES,
  CMDLINE_START,
  PAGE_SIZE_BYTES,
  ZERO_PAGE_START,
} from "@vmm/arch/x86_64/layout.ts";
import type { MemoryMapEntry } from "@vmm/arch/x86_64/memory_map.ts";
import { SETUP_HEADER, SETUP_HEADER_START } from "./bzimage.ts";

const ACPI_RSDP_ADDR = 0x070;
const E820_ENTRIES = 0x1e8;
const E820_TABLE = 0x2d0;
const E820_ENTRY_BYTES = 20;
const E820_MAX_ENTRIES = 128;
/** `type_of_loader` of loaders without a number of their own. */
const KERNEL_LOADER_OTHER = 0xff;

/**
 * The zero page for a kernel's setup header.
 *
 * @param rsdpGpa address of the RSDP, 0 without ACPI
 * @throws ArchError (memory-map) when the memory map has more than 128 entries
 */
export function zeroPageBlob(
  setupHeader: Uint8Array,
  memoryMap: readonly MemoryMapEntry[],
  initramfs: AddressRange | undefined,
  rsdpGpa: number,
): GuestBlob {
  if (memoryMap.length > E820_MAX_ENTRIES) {
    throw chainedError("memory-map", "Cannot configure system", "Failed to configure E820 map for bzImage");
  }
  const bytes = new Uint8Array(PAGE_SIZE_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(setupHeader, SETUP_HEADER_START);
  if (view.getUint8(SETUP_HEADER.type_of_loader) === 0) {
    view.setUint8(SETUP_HEADER.type_of_loader, KERNEL_LOADER_OTHER);
  }
  view.setUint32(SETUP_HEADER.cmd_line_ptr, CMDLINE_START, true);
  view.setUint32(SETUP_HEADER.cmdline_size, CMDLINE_MAX_SIZE_BYTES, true);
  if (initramfs !== undefined) {
    view.setUint32(SETUP_HEADER.ramdisk_image, initramfs.gpa, true);
    view.setUint32(SETUP_HEADER.ramdisk_size, initramfs.sizeBytes, true);
  }
  view.setBigUint64(ACPI_RSDP_ADDR, BigInt(rsdpGpa), true);
  view.setUint8(E820_ENTRIES, memoryMap.length);
  memoryMap.forEach((entry, i) => {
    const at = E820_TABLE + i * E820_ENTRY_BYTES;
    view.setBigUint64(at, BigInt(entry.gpa), true);
    view.setBigUint64(at + 8, BigInt(entry.sizeBytes), true);
    view.setUint32(at + 16, entry.type, true);
  });
  return { gpa: ZERO_PAGE_START, bytes };
}
