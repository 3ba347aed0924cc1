/**
 * Mapping memory, and wrapping a mapping as an ArrayBuffer.
 *
 * L0, any isolate, cold paths. Source: mmap(2), madvise(2), mbind(2).
 */
import { addressOf, check, SYS, syscall, word } from "./syscall.ts";

/** Protection bits. */
export const PROT = { NONE: 0, READ: 1, WRITE: 2 } as const;
/** Mapping flags. */
export const MAP = {
  SHARED: 1,
  PRIVATE: 2,
  FIXED: 0x10,
  ANONYMOUS: 0x20,
  NORESERVE: 0x4000,
  POPULATE: 0x8000,
  HUGETLB: 0x40000,
} as const;
/** Advice values of madvise(2). */
export const MADV = {
  WILLNEED: 3,
  DONTNEED: 4,
  MERGEABLE: 12,
  HUGEPAGE: 14,
  NOHUGEPAGE: 15,
  DONTDUMP: 16,
} as const;

const MPOL_BIND = 2;
const MPOL_MF_STRICT = 1;
const MPOL_MF_MOVE = 2;
const NODE_MASK_BITS = 64;
/** The kernel refuses masks of more bits than a page has. */
const MAX_MASK_BYTES = 4096;

/** Maps memory; returns its host address. @throws OsError */
export function map(
  lengthBytes: number,
  protection: number,
  flags: number,
  fd = -1,
  offset = 0,
  address = 0n,
): bigint {
  const result = syscall(
    SYS.mmap,
    address,
    BigInt(lengthBytes),
    BigInt(protection),
    BigInt(flags),
    word(fd),
    BigInt(offset),
  );
  check(result, "mmap", fd < 0 ? undefined : `fd ${fd}`);
  return result;
}

/** Unmaps. Any ArrayBuffer over the range must be out of use: touching it afterwards is a fault. */
export function unmap(address: bigint, lengthBytes: number): void {
  syscall(SYS.munmap, address, BigInt(lengthBytes));
}

/** madvise(2); returns 0 or `-errno`. */
export function advise(address: bigint, lengthBytes: number, advice: number): number {
  return Number(syscall(SYS.madvise, address, BigInt(lengthBytes), BigInt(advice)));
}

/** mbind(2): the pages of a range, those that are there too, come from this NUMA node only. @throws OsError */
export function bindToNode(address: bigint, lengthBytes: number, node: number): void {
  // The kernel looks at one bit fewer than it is told.
  const bits = node + 2;
  const mask = new BigUint64Array(
    Math.min(Math.floor(node / NODE_MASK_BITS) + 1, MAX_MASK_BYTES / BigUint64Array.BYTES_PER_ELEMENT),
  );
  mask[Math.floor(node / NODE_MASK_BITS)] = 1n << BigInt(node % NODE_MASK_BITS);
  const result = syscall(
    SYS.mbind,
    address,
    BigInt(lengthBytes),
    BigInt(MPOL_BIND),
    addressOf(new Uint8Array(mask.buffer)),
    BigInt(bits),
    BigInt(MPOL_MF_STRICT | MPOL_MF_MOVE),
  );
  check(result, "mbind");
}

/**
 * An ArrayBuffer over mapped memory, without copying. Wrap each mapping once per isolate: V8 counts its whole length as
 * external memory.
 */
export function wrap(address: bigint, lengthBytes: number): ArrayBuffer {
  // SAFETY: the mapping outlives every use of the buffer (unmap only after all users stopped); length is the mapping's.
  return new Deno.UnsafePointerView(Deno.UnsafePointer.create(address)!).getArrayBuffer(lengthBytes);
}

/** Host address of a buffer made by `wrap` or by V8. */
export { addressOf };
