/**
 * Which format an image has, told by its content.
 *
 * L4, main isolate, while a disk is opened. The order of the questions is the original's: a raw disk may begin with
 * anything, so everything that is nothing else is raw.
 */
import { OsError } from "@ffi/abi/errno.ts";
import type { DiskFormat } from "./description.ts";
import type { ImageFile } from "./image_file.ts";
import { parseFixedFooter, VHD_FOOTER_BYTES } from "./vhd/footer.ts";
import { isFlat, looksLikeDescriptor, MAX_DESCRIPTOR_BYTES, parseDescriptor } from "./vmdk/descriptor.ts";

const QCOW_MAGIC = 0x5146_49fb; // "QFI\xfb", big-endian
const VHDX_SIGNATURE = "vhdxfile";
const PROBE_BYTES = 4096;

/** Detects the format of an open file of `sizeBytes`. @throws OsError when it cannot be read */
export function detectFormat(file: ImageFile, sizeBytes: number): DiskFormat {
  const start = readUpTo(file, 0, Math.min(PROBE_BYTES, sizeBytes));
  const view = new DataView(start.buffer);
  if (start.byteLength >= 4 && view.getUint32(0) === QCOW_MAGIC) return "qcow2";
  if (sizeBytes >= VHD_FOOTER_BYTES) {
    const footer = readUpTo(file, sizeBytes - VHD_FOOTER_BYTES, VHD_FOOTER_BYTES);
    if (parseFixedFooter(footer) !== undefined) return "vhd";
  }
  if (start.byteLength >= 8 && String.fromCharCode(...start.subarray(0, 8)) === VHDX_SIGNATURE) return "vhdx";
  if (looksLikeDescriptor(start) && sizeBytes <= MAX_DESCRIPTOR_BYTES) {
    const descriptor = parseDescriptor(readUpTo(file, 0, sizeBytes));
    if (typeof descriptor !== "string" && isFlat(descriptor)) return "vmdk";
  }
  return "raw";
}

/** Bytes of a file, fewer than asked for at its end. @throws OsError */
export function readUpTo(file: ImageFile, offset: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(lengthBytes);
  const got = file.readBytes(bytes, offset);
  if (got < 0) throw new OsError(-got, "pread", file.path);
  return bytes.slice(0, got);
}
