/**
 * Opening, duplicating, sizing and closing descriptors.
 *
 * L0, any isolate, cold paths. Source: open(2), close(2), fcntl(2), eventfd(2), memfd_create(2), fallocate(2).
 */
import { Errno } from "../abi/errno.ts";
import { addressOf, check, cString, SYS, syscall, word } from "./syscall.ts";
import { struct } from "../abi/struct.ts";

/** Flags of open(2), x86-64 values. */
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  NOCTTY: 0o400,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DIRECT: 0o40000,
  DIRECTORY: 0o200000,
  CLOEXEC: 0o2000000,
  TMPFILE: 0o20200000,
  PATH: 0o10000000,
} as const;

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const MFD_CLOEXEC = 1n;
const F_DUPFD_CLOEXEC = 1030;
const F_GETFL = 3;
const F_SETFL = 4;

/** Flags of fallocate(2). */
export const FALLOC = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 16 } as const;

/** stat(2) result, x86-64 (asm/stat.h). */
export const Stat = struct("stat", {
  st_dev: "u64",
  st_ino: "u64",
  st_nlink: "u64",
  st_mode: "u32",
  st_uid: "u32",
  st_gid: "u32",
  __pad0: "u32",
  st_rdev: "u64",
  st_size: "u64",
  st_blksize: "u64",
  st_blocks: "u64",
  times: { bytes: 48 },
  __unused: { bytes: 24 },
}, { size: 144, source: "asm/stat.h" });

/** Opens `path`; returns the descriptor, always close-on-exec. @throws OsError */
export function open(path: string, flags: number, mode = 0o600): number {
  const name = cString(path);
  return check(syscall(SYS.open, addressOf(name), BigInt(flags | O.CLOEXEC), BigInt(mode)), "open", path);
}

let badClose: ((fd: number) => void) | undefined;

/** From now on `report` is told of descriptors that are closed but not open: somebody's bug. Per isolate; tests throw. */
export function onBadClose(report: (fd: number) => void): void {
  badClose = report;
}

/**
 * Closes `fd`; errors are of no use to anyone at that point and are dropped. Never throws.
 *
 * Close once only: a number that was given back belongs to whoever opened something since, in any thread.
 */
export function close(fd: number): void {
  if (fd >= 0 && syscall(SYS.close, BigInt(fd)) === -BigInt(Errno.EBADF)) badClose?.(fd);
}

/** Duplicates `fd` close-on-exec. @throws OsError */
export function duplicate(fd: number): number {
  return check(syscall(SYS.fcntl, word(fd), BigInt(F_DUPFD_CLOEXEC), 3n), "fcntl", `fd ${fd}`);
}

/** Puts `fd` in non-blocking mode, or back. The mode belongs to the open file, shared by all its descriptors. @throws OsError */
export function setNonBlocking(fd: number, on: boolean): void {
  const flags = check(syscall(SYS.fcntl, word(fd), BigInt(F_GETFL)), "fcntl", `fd ${fd}`);
  const wanted = on ? flags | O.NONBLOCK : flags & ~O.NONBLOCK;
  check(syscall(SYS.fcntl, word(fd), BigInt(F_SETFL), BigInt(wanted)), "fcntl", `fd ${fd}`);
}

/** A new event counter, non-blocking, close-on-exec. @throws OsError */
export function eventfd(): number {
  return check(syscall(SYS.eventfd2, 0n, BigInt(EFD_CLOEXEC | EFD_NONBLOCK)), "eventfd");
}

/** An anonymous file in memory named `name` in /proc. @throws OsError */
export function memfd(name: string, flags = 0n): number {
  const text = cString(name);
  return check(syscall(SYS.memfd_create, addressOf(text), MFD_CLOEXEC | flags), "memfd_create");
}

/** Sets the length of a file in bytes. @throws OsError */
export function truncate(fd: number, sizeBytes: number | bigint): void {
  check(syscall(SYS.ftruncate, word(fd), BigInt(sizeBytes)), "ftruncate", `fd ${fd}`);
}

/** fallocate(2); returns 0 or `-errno`. Never throws: discard paths map the error themselves. */
export function fallocate(fd: number, mode: number, offset: number, lengthBytes: number): number {
  return Number(syscall(SYS.fallocate, word(fd), BigInt(mode), BigInt(offset), BigInt(lengthBytes)));
}

/** fstat(2). Sizes and numbers as bigint. @throws OsError */
export function fileStatus(
  fd: number,
): { dev: bigint; ino: bigint; rdev: bigint; mode: number; sizeBytes: bigint } {
  const bytes = new Uint8Array(Stat.size);
  check(syscall(SYS.fstat, word(fd), addressOf(bytes)), "fstat", `fd ${fd}`);
  const view = new DataView(bytes.buffer);
  const at = Stat.offsets;
  return {
    dev: view.getBigUint64(at.st_dev, true),
    ino: view.getBigUint64(at.st_ino, true),
    rdev: view.getBigUint64(at.st_rdev, true),
    mode: view.getUint32(at.st_mode, true),
    sizeBytes: view.getBigUint64(at.st_size, true),
  };
}

/** File type bits of `mode`. */
export const S_IFMT = 0o170000;
/** File types in `mode & S_IFMT`. */
export const FileType = {
  regular: 0o100000,
  block: 0o060000,
  character: 0o020000,
  directory: 0o040000,
} as const;
