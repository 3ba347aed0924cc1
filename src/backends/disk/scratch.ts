/**
 * Memory of our own that data can pass through on its way between guest memory and JavaScript or direct I/O.
 *
 * L4, I/O Worker. Guest memory is only known by host addresses here, so the copies are made by the kernel: the scratch is
 * a memory file, mapped for us and read or written with the guest's iovec list. A wrong address is then -EFAULT, not a crash.
 */
import { close, memfd, truncate } from "@ffi/libc/fd.ts";
import { preadv, pwritev } from "@ffi/libc/io.ts";
import { MAP, map, PROT, unmap, wrap } from "@ffi/libc/mmap.ts";
import { IOV_MAX, IovecSlice } from "./iovec.ts";

const slice = new IovecSlice();

/** Calls `preadv` or `pwritev` until `lengthBytes` are done; bytes done, fewer only at the file's end, or `-errno`. */
export function transfer(
  call: (fd: number, iov: Uint8Array<ArrayBuffer>, count: number, offset: number) => number,
  fd: number,
  iov: Uint8Array<ArrayBuffer>,
  count: number,
  lengthBytes: number,
  offset: number,
): number {
  let done = 0;
  if (count <= IOV_MAX) {
    done = call(fd, iov, count, offset);
    if (done === lengthBytes || done < 0 && done !== -EINTR) return done;
    if (done < 0) done = 0;
  }
  while (done < lengthBytes) {
    slice.set(iov, count, done, lengthBytes - done);
    if (slice.count === 0) break;
    const step = call(fd, slice.bytes, slice.count, offset + done);
    if (step === -EINTR) continue;
    if (step < 0) return step;
    if (step === 0) break;
    done += step;
  }
  return done;
}
const EINTR = 4;

/** A piece of page-aligned memory, addressable by us and by the kernel. */
export class Scratch {
  readonly #fd: number;
  readonly #address: bigint;
  /** The memory. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where the kernel finds it. */
  readonly hostAddress: number;

  /** @throws OsError */
  constructor(readonly sizeBytes: number) {
    this.#fd = memfd("disk-scratch");
    truncate(this.#fd, sizeBytes);
    this.#address = map(sizeBytes, PROT.READ | PROT.WRITE, MAP.SHARED, this.#fd);
    this.bytes = new Uint8Array(wrap(this.#address, sizeBytes));
    this.hostAddress = Number(this.#address);
  }

  /** Copies from byte `at` of the scratch into the listed memory; bytes or `-errno`. */
  copyTo(iov: Uint8Array<ArrayBuffer>, count: number, lengthBytes: number, at = 0): number {
    return transfer(preadv, this.#fd, iov, count, lengthBytes, at);
  }

  /** Copies the listed memory to byte `at` of the scratch; bytes or `-errno`. */
  copyFrom(iov: Uint8Array<ArrayBuffer>, count: number, lengthBytes: number, at = 0): number {
    return transfer(pwritev, this.#fd, iov, count, lengthBytes, at);
  }

  /** Frees the memory; `bytes` must not be used any more. */
  close(): void {
    unmap(this.#address, this.sizeBytes);
    close(this.#fd);
  }
}

/** Longest fill in one call: a sparse file of this size takes no memory. */
const ZEROES_BYTES = 2 ** 31;
let zeroesFd = -1;

/** Fills the listed memory with zeroes; bytes or `-errno`. */
export function fillZeroes(iov: Uint8Array<ArrayBuffer>, count: number, lengthBytes: number): number {
  if (zeroesFd < 0) {
    zeroesFd = memfd("disk-zeroes");
    truncate(zeroesFd, ZEROES_BYTES);
  }
  let done = 0;
  while (done < lengthBytes) {
    const wanted = Math.min(lengthBytes - done, ZEROES_BYTES);
    // A slice of at most IOV_MAX entries may cover less: `transfer` is not needed, the loop goes on.
    fillSlice.set(iov, count, done, wanted);
    if (fillSlice.count === 0) break;
    const step = preadv(zeroesFd, fillSlice.bytes, fillSlice.count, 0);
    if (step <= 0) return step === 0 ? done : step;
    done += step;
  }
  return done;
}
const fillSlice = new IovecSlice();
