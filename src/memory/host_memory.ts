/**
 * Guest RAM on the host: mapping it, with an error that names the cause.
 *
 * L2, main isolate. Anonymous private memory by default; a memfd when it is shared or on huge pages; a file for zones that
 * name one. Untouched memory costs nothing: mappings are not reserved unless asked. Source: mmap(2), memfd_create(2),
 * machine model §1.
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import { close, fileStatus, FileType, memfd, O, open, S_IFMT, truncate } from "@ffi/libc/fd.ts";
import { advise, bindToNode, MADV, MAP, map, PROT, unmap, wrap } from "@ffi/libc/mmap.ts";
import type { MemoryRegion } from "./guest_memory.ts";

/** How one RAM region is backed. Sizes in bytes. */
export interface BackingOptions {
  readonly shared: boolean;
  readonly hugepages: boolean;
  readonly hugepageSizeBytes?: number;
  readonly prefault: boolean;
  readonly reserve: boolean;
  readonly mergeable: boolean;
  readonly thp: boolean;
  /** File of a zone, at least as long as the zone. */
  readonly file?: string;
  /** The only NUMA node of the host the memory may come from. */
  readonly hostNumaNode?: number;
}

/** A mapped region, with what snapshot, vhost-user and release need. */
export interface HostRegion extends MemoryRegion {
  /** Descriptor of the backing file, −1 for anonymous memory. */
  readonly fd: number;
  readonly fileOffset: number;
  readonly options: BackingOptions;
}

/** Guest memory that could not be set up. The message is what a client sees; `cause` keeps the system call. */
export class MemoryError extends Error {
  override readonly name = "MemoryError";
}

const PAGE_BYTES = 4096;
const DEFAULT_HUGEPAGE_BYTES = 2 << 20;
const MFD_HUGETLB = 4n;
const MFD_HUGE_SHIFT = 26n;

/**
 * Maps one region of guest RAM.
 *
 * @param gpa guest physical start
 * @param sizeBytes a multiple of the page size in use
 * @param fileOffset where in a zone's file the region starts, bytes
 * @throws MemoryError naming what is wrong: alignment, huge pages that are missing, memory that does not exist
 */
export function mapRegion(
  gpa: number,
  sizeBytes: number,
  options: BackingOptions,
  fileOffset = 0,
): HostRegion {
  const pageBytes = options.hugepages ? options.hugepageSizeBytes ?? DEFAULT_HUGEPAGE_BYTES : PAGE_BYTES;
  if (pageBytes === 0 || sizeBytes % pageBytes !== 0) {
    throw new MemoryError(`Region of ${sizeBytes} bytes is not a multiple of the page size ${pageBytes}`);
  }
  const fd = backingFile(fileOffset + sizeBytes, pageBytes, options);
  const flags = (options.shared ? MAP.SHARED : MAP.PRIVATE) |
    (fd < 0 ? MAP.ANONYMOUS : 0) |
    // Huge pages that are not there must fail now: touching one later would kill the process.
    (options.reserve || options.hugepages ? 0 : MAP.NORESERVE) |
    (options.prefault ? MAP.POPULATE : 0);
  let hostAddress: bigint;
  try {
    hostAddress = map(sizeBytes, PROT.READ | PROT.WRITE, flags, fd, fd < 0 ? 0 : fileOffset);
  } catch (cause) {
    close(fd);
    throw mapFailure(sizeBytes, pageBytes, options, cause as OsError);
  }
  try {
    if (options.file !== undefined) refuseShortFile(fd, options.file, fileOffset + sizeBytes);
    if (options.hostNumaNode !== undefined) bindMemory(hostAddress, sizeBytes, options.hostNumaNode);
  } catch (error) {
    unmap(hostAddress, sizeBytes);
    close(fd);
    throw error;
  }
  if (options.mergeable) advise(hostAddress, sizeBytes, MADV.MERGEABLE);
  if (options.thp && !options.hugepages) advise(hostAddress, sizeBytes, MADV.HUGEPAGE);
  const file = options.shared && fd >= 0 ? { fd, offset: fileOffset } : undefined;
  return { gpa, sizeBytes, hostAddress, buffer: wrap(hostAddress, sizeBytes), fd, fileOffset, options, file };
}

/** Unmaps a region; no isolate may touch its buffer any more. */
export function unmapRegion(region: HostRegion): void {
  unmap(region.hostAddress, region.sizeBytes);
  close(region.fd);
}

function backingFile(sizeBytes: number, pageBytes: number, options: BackingOptions): number {
  try {
    if (options.file !== undefined) return open(options.file, options.shared ? O.RDWR : O.RDONLY);
    if (!options.shared && !options.hugepages) return -1;
    const hugeFlags = options.hugepages ? MFD_HUGETLB | (BigInt(Math.log2(pageBytes)) << MFD_HUGE_SHIFT) : 0n;
    const fd = memfd("ch_ram", hugeFlags);
    try {
      truncate(fd, sizeBytes);
    } catch (cause) {
      close(fd);
      throw cause;
    }
    return fd;
  } catch (cause) {
    const named = options.file === undefined ? cause : naming(options.file, cause);
    throw new MemoryError("Failed to create shared file", { cause: named });
  }
}

/**
 * Looks whether the file of a memory zone can be one.
 *
 * @throws MemoryError when it is not there or is a directory
 */
export function checkZoneFile(path: string): void {
  let fd: number;
  try {
    fd = open(path, O.PATH);
  } catch (cause) {
    throw new MemoryError("Failed to stat filesystem", { cause: naming(path, cause) });
  }
  const isDirectory = (fileStatus(fd).mode & S_IFMT) === FileType.directory;
  close(fd);
  if (isDirectory) {
    const cause = new Error(`Memory zone file "${path}"`);
    throw new MemoryError("Using a directory as a backing file for memory is not supported", { cause });
  }
}

/** `cause`, a failed call, and behind it the file: the original's words do not name it. */
function naming(path: string, cause: unknown): unknown {
  if (cause instanceof OsError) cause.cause = new Error(`Memory zone file "${path}"`);
  return cause;
}

/**
 * A guest that touched memory behind the end of its file would kill the VMM. Asked once it is mapped: that lengthens
 * files of a huge page file system. @throws MemoryError
 */
function refuseShortFile(fd: number, path: string, neededBytes: number): void {
  const { mode, sizeBytes } = fileStatus(fd);
  if ((mode & S_IFMT) !== FileType.regular || sizeBytes >= BigInt(neededBytes)) return;
  throw new MemoryError(
    `Memory zone file "${path}" has ${sizeBytes} bytes, fewer than the ${neededBytes} of the zone`,
  );
}

/** @throws MemoryError */
function bindMemory(hostAddress: bigint, sizeBytes: number, node: number): void {
  try {
    bindToNode(hostAddress, sizeBytes, node);
  } catch (cause) {
    throw new MemoryError("Failed applying NUMA memory policy", { cause });
  }
}

function mapFailure(
  sizeBytes: number,
  pageBytes: number,
  options: BackingOptions,
  cause: OsError,
): MemoryError {
  const mebibytes = `${sizeBytes / (1 << 20)} MiB`;
  if (cause.code === Errno.ENOMEM && options.hugepages) {
    return new MemoryError(
      `Cannot map ${mebibytes} of guest memory: the host has too few free huge pages of ${
        pageBytes >> 10
      } KiB`,
      { cause },
    );
  }
  if (cause.code === Errno.ENOMEM) {
    return new MemoryError(`Cannot map ${mebibytes} of guest memory: the host does not have it`, { cause });
  }
  return new MemoryError(`Cannot map ${mebibytes} of guest memory`, { cause });
}
