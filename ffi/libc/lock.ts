/**
 * Advisory locks that belong to an open file, not to a process: only the last close releases them.
 *
 * L0, main isolate, cold paths. Source: fcntl(2) "Open file description locks".
 */
import { addressOf, SYS, syscall, word } from "./syscall.ts";
import { struct, StructBuffer } from "../abi/struct.ts";

/** struct flock, x86-64. */
export const Flock = struct("flock", {
  l_type: "u16",
  l_whence: "u16",
  l_start: "u64",
  l_len: "u64",
  l_pid: "u32",
}, { size: 32, source: "fcntl.h" });

const F_OFD_GETLK = 36n;
const F_OFD_SETLK = 37n;

/** Values of `l_type`. */
const LockType = { read: 0, write: 1, unlocked: 2 } as const;
/** Kinds of lock, and none. */
export type LockKind = keyof typeof LockType;

/** Bytes a lock covers; length 0 means up to the end of the file, wherever that will be. */
export interface LockRange {
  readonly start: bigint;
  readonly lengthBytes: bigint;
}

function describe(kind: LockKind, range: LockRange): StructBuffer<keyof typeof Flock.offsets> {
  return new StructBuffer(Flock)
    .set("l_type", LockType[kind])
    .set("l_start", range.start)
    .set("l_len", range.lengthBytes);
}

/** Takes, changes or (`"unlocked"`) drops a lock without waiting; 0 or `-errno`, −EAGAIN when another file holds one. */
export function setLock(fd: number, kind: LockKind, range: LockRange): number {
  return Number(syscall(SYS.fcntl, word(fd), F_OFD_SETLK, addressOf(describe(kind, range).bytes)));
}

/** The lock that stands in the way of a write lock on `range`, `"unlocked"` if none, undefined if the kernel won't say. */
export function conflictingLock(fd: number, range: LockRange): LockKind | undefined {
  const query = describe("write", range);
  if (syscall(SYS.fcntl, word(fd), F_OFD_GETLK, addressOf(query.bytes)) !== 0n) return undefined;
  const held = query.get("l_type");
  return (Object.keys(LockType) as LockKind[]).find((kind) => LockType[kind] === held);
}
