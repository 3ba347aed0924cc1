/**
 * read, write and their vectored forms: the hot calls of data paths.
 *
 * L0, any isolate. Declared so that V8's fast calls apply: buffers and 32-bit numbers, offsets as bigint.
 * All return the byte count or `-errno`, never throw and allocate nothing once they are hot.
 * Source: read(2), preadv(2).
 */
import { errno } from "../abi/errno.ts";

// SAFETY: fixed argument lists; lengths never exceed the buffers, iovec entries are checked guest ranges.
const lib = Deno.dlopen("libc.so.6", {
  read: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  write: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  preadv: { parameters: ["i32", "buffer", "i32", "i64"], result: "i32" },
  pwritev: { parameters: ["i32", "buffer", "i32", "i64"], result: "i32" },
  readv: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  writev: { parameters: ["i32", "buffer", "i32"], result: "i32" },
});
const call = lib.symbols;

/** Bytes of one `struct iovec`: address (u64) and length (u64). */
export const IOVEC_SIZE = 16;

/** Reads up to `lengthBytes` into `buffer`. */
export function read(fd: number, buffer: Uint8Array<ArrayBuffer>, lengthBytes = buffer.byteLength): number {
  const result = call.read(fd, buffer, lengthBytes);
  return result < 0 ? -errno() : result;
}

/** Writes up to `lengthBytes` of `buffer`. */
export function write(fd: number, buffer: Uint8Array<ArrayBuffer>, lengthBytes = buffer.byteLength): number {
  const result = call.write(fd, buffer, lengthBytes);
  return result < 0 ? -errno() : result;
}

/**
 * An offset on its way into a call. Compiled code passes the element on as the integer it is, where `BigInt(offset)` would
 * leave an object behind for each request.
 */
const OFFSET = new BigInt64Array(1);
const OFFSET_HALVES = new Uint32Array(OFFSET.buffer);
const HIGH = 0x1_0000_0000;

/** preadv(2): `iov` holds `count` iovec entries. */
export function preadv(fd: number, iov: Uint8Array<ArrayBuffer>, count: number, offset: number): number {
  OFFSET_HALVES[0] = offset;
  OFFSET_HALVES[1] = offset / HIGH;
  const result = call.preadv(fd, iov, count, OFFSET[0]);
  return result < 0 ? -errno() : result;
}

/** pwritev(2): `iov` holds `count` iovec entries. */
export function pwritev(fd: number, iov: Uint8Array<ArrayBuffer>, count: number, offset: number): number {
  OFFSET_HALVES[0] = offset;
  OFFSET_HALVES[1] = offset / HIGH;
  const result = call.pwritev(fd, iov, count, OFFSET[0]);
  return result < 0 ? -errno() : result;
}

/** readv(2) at the current position: taps and sockets. */
export function readv(fd: number, iov: Uint8Array<ArrayBuffer>, count: number): number {
  const result = call.readv(fd, iov, count);
  return result < 0 ? -errno() : result;
}

/** writev(2) at the current position: taps and sockets. */
export function writev(fd: number, iov: Uint8Array<ArrayBuffer>, count: number): number {
  const result = call.writev(fd, iov, count);
  return result < 0 ? -errno() : result;
}

const ONE = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);
const COUNT = new Uint8Array(8);

/** Adds one to an eventfd's counter. */
export function signalEvent(fd: number): void {
  call.write(fd, ONE, 8);
}

/** Takes an eventfd's counter back to zero; true if it was above zero. */
export function drainEvent(fd: number): boolean {
  return call.read(fd, COUNT, 8) === 8;
}
