/**
 * What the loader needs of a payload file, and how it says that one is unusable.
 *
 * L2, any isolate. The file is given by the caller (a pread on main, a byte array in tests).
 */
import { ArchError, chainedError } from "@vmm/arch/x86_64/errors.ts";

/** A file that can be read at any offset. */
export interface KernelFile {
  readonly sizeBytes: number;
  /** Bytes from `offset`; fewer than `lengthBytes` only at the end of the file. May throw what the host says. */
  readAt(offset: number, lengthBytes: number): Uint8Array;
}

/** A part of a file that goes to one place in guest memory. */
export interface LoadSegment {
  readonly source: "kernel" | "initramfs";
  readonly gpa: number;
  readonly fileOffset: number;
  readonly lengthBytes: number;
  /** Bytes behind it that have to be zero (fresh guest memory is). */
  readonly zeroTailBytes: number;
}

/** A file in memory. */
export function bytesAsFile(bytes: Uint8Array): KernelFile {
  return {
    sizeBytes: bytes.length,
    readAt: (offset, lengthBytes) => bytes.subarray(offset, offset + lengthBytes),
  };
}

/** The original's word for a failed bzImage load, on top of `reason`. */
const BZIMAGE_FAILURE = "Kernel Loader: failed to load bzImage kernel image: ";

/** Reasons the original gives, each as it spells it. */
export const INVALID_BZIMAGE = "Kernel Loader: Invalid bzImage";
export const BZIMAGE_UNDERFLOW = "Kernel Loader: Underflow occurred during an arithmetic operation";
export const BZIMAGE_DOES_NOT_FIT = "Kernel Loader: Unable to read bzImage compressed kernel";
export const BZIMAGE_HEADER_UNREADABLE = "Kernel Loader: Unable to read bzImage header";

/**
 * A payload that cannot be loaded.
 *
 * @param reason one of the original's reasons: it tries every file as bzImage last, an unusable ELF too
 * @param detail what exactly is wrong, where the reason does not say it
 */
export function loadError(reason: string, detail?: string): ArchError {
  const head = ["Cannot load the kernel into memory", BZIMAGE_FAILURE + reason, reason] as const;
  return detail === undefined
    ? chainedError("kernel-load", ...head)
    : chainedError("kernel-load", ...head, detail);
}

/** Reads exactly `lengthBytes`, or throws the load error `reason` with the place in the file. */
export function readExactly(
  file: KernelFile,
  offset: number,
  lengthBytes: number,
  what: string,
): Uint8Array {
  if (offset + lengthBytes > file.sizeBytes) {
    throw loadError(
      INVALID_BZIMAGE,
      `${what} is truncated: it needs bytes ${offset} to ${
        offset + lengthBytes
      } of a file of ${file.sizeBytes}`,
    );
  }
  const bytes = file.readAt(offset, lengthBytes);
  if (bytes.length !== lengthBytes) throw loadError(INVALID_BZIMAGE, `${what} could not be read whole`);
  return bytes;
}
