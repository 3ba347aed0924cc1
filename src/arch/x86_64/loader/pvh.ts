/**
 * What a PVH kernel is told: start info, modules, memory map.
 *
 * L2, any isolate; pure. Source: xen/include/public/arch-x86/hvm/start_info.h (hvm_start_info version 1).
 */
import type { GuestBlob } from "@vmm/arch/x86_64/boot_cpu.ts";
import { ByteWriter } from "@vmm/arch/x86_64/byte_writer.ts";
import {
  type AddressRange,
  CMDLINE_START,
  MEMMAP_START,
  MODLIST_START,
  PVH_INFO_START,
} from "@vmm/arch/x86_64/layout.ts";
import type { MemoryMapEntry } from "@vmm/arch/x86_64/memory_map.ts";

const XEN_HVM_START_MAGIC_VALUE = 0x336e_c578;
const START_INFO_VERSION = 1;

/**
 * Start info and what it points to.
 *
 * @param rsdpGpa address of the RSDP, 0 without ACPI
 */
export function pvhBlobs(
  memoryMap: readonly MemoryMapEntry[],
  initramfs: AddressRange | undefined,
  rsdpGpa: number,
): GuestBlob[] {
  const modules = new ByteWriter();
  if (initramfs !== undefined) {
    modules.u64(initramfs.gpa, initramfs.sizeBytes, 0, 0); // paddr, size, cmdline_paddr, reserved
  }
  const map = new ByteWriter();
  for (const entry of memoryMap) map.u64(entry.gpa, entry.sizeBytes).u32(entry.type, 0);
  const info = new ByteWriter()
    .u32(XEN_HVM_START_MAGIC_VALUE, START_INFO_VERSION)
    .u32(0, initramfs === undefined ? 0 : 1) // flags, nr_modules
    .u64(initramfs === undefined ? 0 : MODLIST_START, CMDLINE_START, rsdpGpa, MEMMAP_START)
    .u32(memoryMap.length, 0);
  const blobs = [
    { gpa: PVH_INFO_START, bytes: info.take() },
    { gpa: MEMMAP_START, bytes: map.take() },
  ];
  if (initramfs !== undefined) blobs.push({ gpa: MODLIST_START, bytes: modules.take() });
  return blobs;
}
