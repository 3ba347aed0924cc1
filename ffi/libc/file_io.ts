/**
 * Positioned reads and writes of JavaScript buffers, and the durability and space calls of image files.
 *
 * L0, any isolate; the hot calls of disk formats. All return a count (or 0) or `-errno` and never throw.
 * Source: pread(2), fdatasync(2), fallocate(2), ftruncate(2).
 */
import { errno } from "../abi/errno.ts";

// SAFETY: fixed argument lists of C functions; buffers are referenced for the call, lengths never exceed theirs.
const lib = Deno.dlopen("libc.so.6", {
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  preadv2: { parameters: ["i32", "buffer", "i32", "i64", "i32"], result: "i32" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  fdatasync: { parameters: ["i32"], result: "i32" },
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
});
const call = lib.symbols;

/** Reads up to `lengthBytes` (at most 2^31−1) at `offset` into the start of `buffer`. */
export function pread(
  fd: number,
  buffer: Uint8Array,
  offset: number,
  lengthBytes = buffer.byteLength,
): number {
  const result = call.pread(fd, buffer as Uint8Array<ArrayBuffer>, BigInt(lengthBytes), BigInt(offset));
  return result < 0 ? -errno() : result;
}

/** Flag of preadv2: what is not in memory already is not waited for. */
const RWF_NOWAIT = 8;
/** An offset on its way into a hot call: compiled code passes the element on without making a bigint of it. */
const OFFSET = new BigInt64Array(1);
const OFFSET_HALVES = new Uint32Array(OFFSET.buffer);
const HIGH = 0x1_0000_0000;

/**
 * Reads into `count` iovec entries only what the page cache holds: `-EAGAIN` if that is nothing, `-EOPNOTSUPP` where the
 * file system cannot tell.
 */
export function preadvCached(
  fd: number,
  iov: Uint8Array<ArrayBuffer>,
  count: number,
  offset: number,
): number {
  OFFSET_HALVES[0] = offset;
  OFFSET_HALVES[1] = offset / HIGH;
  const result = call.preadv2(fd, iov, count, OFFSET[0], RWF_NOWAIT);
  return result < 0 ? -errno() : result;
}

/** Writes up to `lengthBytes` (at most 2^31−1) from the start of `buffer` at `offset`. */
export function pwrite(
  fd: number,
  buffer: Uint8Array,
  offset: number,
  lengthBytes = buffer.byteLength,
): number {
  const result = call.pwrite(fd, buffer as Uint8Array<ArrayBuffer>, BigInt(lengthBytes), BigInt(offset));
  return result < 0 ? -errno() : result;
}

/** Waits until written data, and the metadata needed to read it back, are on the medium. */
export function fdatasync(fd: number): number {
  return call.fdatasync(fd) < 0 ? -errno() : 0;
}

/** fallocate(2) with the mode bits of `FALLOC`. */
export function allocate(fd: number, mode: number, offset: number, lengthBytes: number): number {
  return call.fallocate(fd, mode, BigInt(offset), BigInt(lengthBytes)) < 0 ? -errno() : 0;
}

/** Sets the length of a file. */
export function setLength(fd: number, sizeBytes: number): number {
  return call.ftruncate(fd, BigInt(sizeBytes)) < 0 ? -errno() : 0;
}
