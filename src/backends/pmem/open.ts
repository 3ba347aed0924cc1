/**
 * Opens and maps the file of a persistent memory device.
 *
 * L4, main isolate. Nobody here ever touches the mapping: a file that is cut short hurts the guest that reads behind its
 * end, not the VMM. Source: schemas page "PmemConfig"; open(2) O_TMPFILE, mmap(2).
 */
import { close, O, open, truncate } from "@ffi/libc/fd.ts";
import { MAP, map, PROT, unmap } from "@ffi/libc/mmap.ts";
import { check, SYS, syscall, word } from "@ffi/libc/syscall.ts";

/** What decides how a file is opened. */
export interface PmemFileOptions {
  /** A file, or a directory in which an unnamed file is made. */
  readonly file: string;
  /** Bytes of it to use; all of a file when absent, needed for a directory. */
  readonly size?: bigint;
  /** Writes stay in memory. */
  readonly discardWrites: boolean;
}

/** An open file. */
export interface PmemFile {
  readonly fd: number;
  /** A multiple of 2 MiB, not 0. */
  readonly sizeBytes: number;
}

/** A file that cannot be used; the message is what a client sees, `cause` the failed call. */
export class PmemError extends Error {
  override readonly name = "PmemError";
}

/** Sizes and guest addresses are multiples of this, so that huge pages can be used. */
export const PMEM_ALIGNMENT_BYTES = 2 << 20;
const SEEK_END = 2n;

/** Opens the file and settles its size. @throws PmemError */
export function openPmemFile(options: PmemFileOptions): PmemFile {
  const isDirectory = isDirectoryPath(options.file);
  if (isDirectory && options.size === undefined) {
    throw new PmemError("Trying to use a directory for pmem but no size specified");
  }
  const access = options.discardWrites ? O.RDONLY : O.RDWR;
  const fd = attempt(
    "Cannot open persistent memory file",
    () => open(options.file, access | (isDirectory ? O.TMPFILE : 0)),
  );
  try {
    const size = attempt("Cannot set persistent memory file size", () => {
      if (options.size === undefined) return fileSize(fd);
      if (isDirectory) truncate(fd, options.size);
      return options.size;
    });
    if (size % BigInt(PMEM_ALIGNMENT_BYTES) !== 0n) {
      throw new PmemError("Trying to use a size that is not multiple of 2MiB");
    }
    return { fd, sizeBytes: Number(size) };
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** Maps the file; returns the host address. @throws PmemError */
export function mapPmemFile(file: PmemFile, discardWrites: boolean): bigint {
  const flags = MAP.NORESERVE | (discardWrites ? MAP.PRIVATE : MAP.SHARED);
  return attempt(
    "Failed to create a new MmapRegion instance",
    () => map(file.sizeBytes, PROT.READ | PROT.WRITE, flags, file.fd),
  );
}

/** Unmaps the file. The guest does not have the memory any more. */
export function unmapPmemFile(file: PmemFile, hostAddress: bigint): void {
  unmap(hostAddress, file.sizeBytes);
}

function isDirectoryPath(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false; // opening it says why
  }
}

function fileSize(fd: number): bigint {
  return BigInt(check(syscall(SYS.lseek, word(fd), 0n, SEEK_END), "lseek", `fd ${fd}`));
}

function attempt<T>(message: string, call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw new PmemError(message, { cause });
  }
}
