/**
 * Which way an image file's data goes: at once by plain calls, or through io_uring.
 *
 * L4, I/O Worker. Plain calls are faster wherever data is in memory (tmpfs, page cache): one call, no completion to fetch.
 * The ring is for what would block the thread: direct I/O, reads the page cache cannot serve, and flushes. A read is tried
 * without waiting first, so a warm file never pays for the ring.
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import { preadvCached } from "@ffi/libc/file_io.ts";
import { IoUring } from "@ffi/libc/io_uring.ts";
import { addressOf } from "@ffi/libc/syscall.ts";
import { type DiskCompletion, IO_PENDING } from "@vmm/virtio/ports/disk.ts";
import type { ImageFile } from "./image_file.ts";
import { IOV_MAX, IOVEC_BYTES } from "./iovec.ts";

/** Operations in the ring at a time; more are submitted in several goes. */
const RING_ENTRIES = 128;
/** Lists of up to this many entries wait in memory of the ring's; longer ones are submitted at once. */
const SHORT_LIST = 8;
const WORD = 0x1_0000_0000;

/** Data paths of one image file. */
export class DataPath {
  readonly #file: ImageFile;
  readonly #ring: IoUring | undefined;
  /** Every aligned transfer goes through the ring. */
  readonly #isDirect: boolean;
  /** The file system can say that data is not in memory. */
  readonly #canTry: boolean;
  /** Short iovec lists of prepared operations, a place for each. */
  readonly #lists: Uint8Array<ArrayBuffer>;
  readonly #listWords: Uint32Array;
  readonly #listAddress: number;
  /** Where iovec lists of callers lie: `addressOf` makes a bigint each time. */
  readonly #addresses = new WeakMap<ArrayBufferLike, number>();

  /** @param wantsRing false: plain calls only */
  constructor(file: ImageFile, wantsRing: boolean) {
    this.#file = file;
    this.#isDirect = file.alignment > 1;
    this.#canTry = !this.#isDirect && wantsRing && tellsWhatIsCached(file.fd);
    this.#ring = wantsRing && (this.#isDirect || this.#canTry) ? openRing() : undefined;
    this.#lists = new Uint8Array(this.#ring === undefined ? 0 : RING_ENTRIES * SHORT_LIST * IOVEC_BYTES);
    this.#listWords = new Uint32Array(this.#lists.buffer);
    this.#listAddress = this.#ring === undefined ? 0 : Number(addressOf(this.#lists));
  }

  /** For `Disk.completionFd`. */
  get completionFd(): number {
    return this.#ring?.fd ?? -1;
  }

  /** Operations that have not been reported yet. */
  get pending(): number {
    return this.#ring === undefined ? 0 : this.#ring.queued + this.#ring.inFlight;
  }

  /** Reads at an offset of the file; bytes (fewer only at its end), `-errno` or `IO_PENDING`. */
  read(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    const ring = this.#ring;
    if (ring === undefined || lengthBytes === 0) return this.#file.read(iov, count, lengthBytes, offset);
    if (this.#isDirect) {
      if (!this.#file.fits(iov, count, lengthBytes, offset)) {
        return this.#file.read(iov, count, lengthBytes, offset);
      }
      return this.#prepare(ring, false, token, iov, count, lengthBytes, offset);
    }
    if (count > IOV_MAX) return this.#file.read(iov, count, lengthBytes, offset);
    const got = preadvCached(this.#file.fd, iov, count, offset);
    if (got === lengthBytes) return got;
    if (got < 0 && got !== -Errno.EAGAIN) return this.#file.read(iov, count, lengthBytes, offset);
    // Part of it, or nothing, is in memory: the whole is read again, by whoever may wait.
    return this.#prepare(ring, false, token, iov, count, lengthBytes, offset);
  }

  /** Writes at an offset of the file; bytes, `-errno` or `IO_PENDING`. */
  write(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    const ring = this.#ring;
    if (ring === undefined || !this.#isDirect || lengthBytes === 0) {
      return this.#file.write(iov, count, lengthBytes, offset);
    }
    if (!this.#file.fits(iov, count, lengthBytes, offset)) {
      return this.#file.write(iov, count, lengthBytes, offset);
    }
    return this.#prepare(ring, true, token, iov, count, lengthBytes, offset);
  }

  /** Reads or writes without waiting for the medium; anything but `lengthBytes`: use `read` or `write`. */
  now(
    isWrite: boolean,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    if (this.#isDirect) return -Errno.EAGAIN;
    if (isWrite) return this.#file.write(iov, count, lengthBytes, offset);
    if (this.#ring === undefined) return this.#file.read(iov, count, lengthBytes, offset);
    return preadvCached(this.#file.fd, iov, count, offset);
  }

  /** Makes what was written durable; 0, `-errno` or `IO_PENDING`. */
  flush(token: number): number {
    const ring = this.#ring;
    if (ring === undefined || !this.#makeRoom(ring)) return this.#file.sync();
    ring.dataSync(this.#file.fd, token);
    return IO_PENDING;
  }

  /** Hands prepared operations to the kernel. */
  submit(): void {
    const ring = this.#ring;
    if (ring !== undefined && ring.queued > 0) ring.submit();
  }

  /** Reports what has finished. */
  reap(completed: DiskCompletion): void {
    this.#ring?.reap(completed);
  }

  /** Waits until everything pending has finished, without reporting it: `reap` does that later. */
  settle(): void {
    const ring = this.#ring;
    if (ring === undefined) return;
    while (ring.queued + ring.inFlight > ring.ready) {
      if (ring.submit(ring.queued + ring.inFlight) < 0 && ring.ready > 0) return;
    }
  }

  /** Waits for everything pending and reports it. */
  drain(completed: DiskCompletion): void {
    const ring = this.#ring;
    if (ring === undefined) return;
    while (ring.queued + ring.inFlight > 0) {
      if (ring.ready === 0) ring.submit(1);
      ring.reap(completed);
    }
  }

  /** Frees the ring. */
  close(): void {
    this.drain(() => {});
    this.#ring?.close();
  }

  #prepare(
    ring: IoUring,
    isWrite: boolean,
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    if (!this.#makeRoom(ring)) {
      return isWrite
        ? this.#file.write(iov, count, lengthBytes, offset)
        : this.#file.read(iov, count, lengthBytes, offset);
    }
    const { fd } = this.#file;
    if (count <= SHORT_LIST) {
      const at = ring.slot * SHORT_LIST * IOVEC_BYTES;
      for (let i = 0; i < count * IOVEC_BYTES; i++) this.#lists[at + i] = iov[i];
      if (count === 1) {
        const address = this.#listWords[at >> 2] + this.#listWords[(at >> 2) + 1] * WORD;
        ring.transfer(isWrite, fd, address, lengthBytes, offset, token);
      } else {
        ring.transferVector(isWrite, fd, this.#listAddress + at, count, offset, token);
      }
      return IO_PENDING;
    }
    ring.transferVector(isWrite, fd, this.#addressOf(iov), count, offset, token);
    // The caller changes its list after this; the kernel only refuses while it is short of memory.
    while (ring.queued > 0) ring.submit();
    return IO_PENDING;
  }

  /** True if one more operation fits, and its completion will. */
  #makeRoom(ring: IoUring): boolean {
    if (ring.queued + ring.inFlight >= 2 * ring.entries) return false;
    if (ring.queued < ring.entries) return true;
    ring.submit();
    return ring.queued < ring.entries;
  }

  #addressOf(iov: Uint8Array<ArrayBuffer>): number {
    let base = this.#addresses.get(iov.buffer);
    if (base === undefined) {
      base = Number(addressOf(iov)) - iov.byteOffset;
      this.#addresses.set(iov.buffer, base);
    }
    return base + iov.byteOffset;
  }
}

/** False on file systems, such as tmpfs, that keep everything in memory or cannot say what is. */
function tellsWhatIsCached(fd: number): boolean {
  const byte = new Uint8Array(1);
  const list = new BigUint64Array([addressOf(byte), 1n]);
  const result = preadvCached(fd, new Uint8Array(list.buffer), 1, 0);
  return byte.length === 1 && result !== -Errno.EOPNOTSUPP;
}

/** A ring, or undefined on a host that has none: plain calls do everything then. */
function openRing(): IoUring | undefined {
  try {
    return new IoUring(RING_ENTRIES);
  } catch (error) {
    if (error instanceof OsError) return undefined;
    throw error;
  }
}
