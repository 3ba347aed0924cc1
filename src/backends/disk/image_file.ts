/**
 * Positioned I/O on one image file: vectored for guest data, plain for metadata, with or without direct I/O.
 *
 * L4, I/O Worker (and main while a disk is being opened). Results are byte counts or `-errno`; nothing throws after
 * construction. Source: open(2) "O_DIRECT", fallocate(2).
 */
import { Errno } from "@ffi/abi/errno.ts";
import { deviceSizeBytes, discardRange, zeroRange } from "@ffi/libc/block_device.ts";
import { FALLOC, fileStatus, O } from "@ffi/libc/fd.ts";
import { allocate, fdatasync, pread, pwrite, setLength } from "@ffi/libc/file_io.ts";
import { preadv, pwritev } from "@ffi/libc/io.ts";
import { SYS, syscall, word } from "@ffi/libc/syscall.ts";
import type { FileDescription } from "./description.ts";
import { IOV_MAX, IovecSlice, isAligned } from "./iovec.ts";
import { Scratch, transfer } from "./scratch.ts";

/** Direct I/O that is not aligned goes through a buffer of this size, piece by piece. */
const BOUNCE_BYTES = 1 << 20;
/** Zeroes written in one call where the file system cannot zero a range itself. */
const ZERO_CHUNK_BYTES = 1 << 20;
const F_GETFL = 3n;
const F_SETFL = 4n;

let bounceMemory: Scratch | undefined;
/** The isolate's bounce buffer: calls are synchronous, so one is enough for all files. */
function bounce(): Scratch {
  return bounceMemory ??= new Scratch(BOUNCE_BYTES);
}
const part = new IovecSlice();
const single = new IovecSlice();
let zeroChunk: Uint8Array | undefined;

/** One open image file. The descriptor belongs to main and is never closed here. */
export class ImageFile {
  readonly fd: number;
  readonly path: string;
  /** 1 unless opened for direct I/O. */
  readonly alignment: number;
  readonly isBlockDevice: boolean;

  constructor(description: FileDescription) {
    this.fd = description.fd;
    this.path = description.path;
    this.alignment = description.alignment;
    this.isBlockDevice = description.isBlockDevice;
  }

  /** Size in bytes. @throws OsError */
  sizeBytes(): number {
    return this.isBlockDevice ? deviceSizeBytes(this.fd) : Number(fileStatus(this.fd).sizeBytes);
  }

  /** True if the kernel takes this transfer as it is. */
  fits(iov: Uint8Array, count: number, lengthBytes: number, offset: number): boolean {
    const alignment = this.alignment;
    if (alignment === 1) return true;
    return offset % alignment === 0 && lengthBytes % alignment === 0 && count <= IOV_MAX &&
      isAligned(iov, count, alignment);
  }

  /** Reads into the listed memory; fewer bytes only at the end of the file. */
  read(iov: Uint8Array<ArrayBuffer>, count: number, lengthBytes: number, offset: number): number {
    if (this.alignment === 1) return transfer(preadv, this.fd, iov, count, lengthBytes, offset);
    if (this.fits(iov, count, lengthBytes, offset)) return preadv(this.fd, iov, count, offset);
    let done = 0;
    while (done < lengthBytes) {
      part.set(iov, count, done, this.#piece(offset + done, lengthBytes - done));
      if (part.count === 0) break;
      const got = this.#readBounce(offset + done, part.lengthBytes);
      if (got < 0) return got;
      const usable = Math.min(got, part.lengthBytes);
      const copied = bounce().copyTo(part.bytes, part.count, usable, (offset + done) % this.alignment);
      if (copied < 0) return copied;
      done += copied;
      if (usable < part.lengthBytes || copied === 0) break;
    }
    return done;
  }

  /** Writes the listed memory. */
  write(iov: Uint8Array<ArrayBuffer>, count: number, lengthBytes: number, offset: number): number {
    if (this.alignment === 1) return transfer(pwritev, this.fd, iov, count, lengthBytes, offset);
    if (this.fits(iov, count, lengthBytes, offset)) return pwritev(this.fd, iov, count, offset);
    let done = 0;
    while (done < lengthBytes) {
      part.set(iov, count, done, this.#piece(offset + done, lengthBytes - done));
      if (part.count === 0) break;
      const at = offset + done;
      let result = this.#fillBounce(at, part.lengthBytes);
      if (result < 0) return result;
      result = bounce().copyFrom(part.bytes, part.count, part.lengthBytes, at % this.alignment);
      if (result < 0) return result;
      result = this.#writeBounce(at, part.lengthBytes);
      if (result < 0) return result;
      done += part.lengthBytes;
    }
    return done;
  }

  /** Reads metadata into `target`; fewer bytes only at the end of the file. */
  readBytes(target: Uint8Array, offset: number): number {
    let done = 0;
    while (done < target.byteLength) {
      const rest = done === 0 ? target : target.subarray(done);
      let got: number;
      if (this.alignment === 1) {
        got = pread(this.fd, rest, offset + done);
      } else {
        const wanted = this.#piece(offset + done, rest.byteLength);
        got = this.#readBounce(offset + done, wanted);
        if (got > 0) {
          got = Math.min(got, wanted);
          const skip = (offset + done) % this.alignment;
          rest.set(bounce().bytes.subarray(skip, skip + got));
        }
      }
      if (got === -Errno.EINTR) continue;
      if (got < 0) return got;
      if (got === 0) break;
      done += got;
    }
    return done;
  }

  /** Writes metadata. */
  writeBytes(source: Uint8Array, offset: number): number {
    let done = 0;
    while (done < source.byteLength) {
      const rest = done === 0 ? source : source.subarray(done);
      let put: number;
      if (this.alignment === 1) {
        put = pwrite(this.fd, rest, offset + done);
      } else {
        put = this.#piece(offset + done, rest.byteLength);
        const prepared = this.#fillBounce(offset + done, put);
        if (prepared < 0) return prepared;
        bounce().bytes.set(rest.subarray(0, put), (offset + done) % this.alignment);
        const written = this.#writeBounce(offset + done, put);
        if (written < 0) return written;
      }
      if (put === -Errno.EINTR) continue;
      if (put < 0) return put;
      if (put === 0) return -Errno.EIO;
      done += put;
    }
    return done;
  }

  /** Waits until everything written is durable. */
  sync(): number {
    return fdatasync(this.fd);
  }

  /** Sets the file's length. */
  setSize(sizeBytes: number): number {
    return setLength(this.fd, sizeBytes);
  }

  /** Gives a range back to the host; it reads as zeroes afterwards wherever the host can promise that. */
  punch(offset: number, lengthBytes: number): number {
    if (this.isBlockDevice) {
      const result = discardRange(this.fd, offset, lengthBytes);
      return result === -Errno.EOPNOTSUPP ? 0 : result;
    }
    const result = allocate(this.fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, offset, lengthBytes);
    return result === -Errno.EOPNOTSUPP ? this.zero(offset, lengthBytes, false) : result;
  }

  /** Makes a range read as zeroes; its space is given back only if `mayUnmap`. */
  zero(offset: number, lengthBytes: number, mayUnmap: boolean): number {
    const punch = FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE;
    if (mayUnmap) {
      const result = allocate(this.fd, punch, offset, lengthBytes);
      if (result !== -Errno.EOPNOTSUPP) return result;
    }
    if (this.isBlockDevice) return zeroRange(this.fd, offset, lengthBytes);
    let result = allocate(this.fd, FALLOC.ZERO_RANGE | FALLOC.KEEP_SIZE, offset, lengthBytes);
    if (result !== -Errno.EOPNOTSUPP) return result;
    // tmpfs: a hole, given its blocks back at once, is the same thing.
    result = allocate(this.fd, punch, offset, lengthBytes);
    if (result === 0) result = allocate(this.fd, FALLOC.KEEP_SIZE, offset, lengthBytes);
    return result === -Errno.EOPNOTSUPP ? this.#writeZeroes(offset, lengthBytes) : result;
  }

  #writeZeroes(offset: number, lengthBytes: number): number {
    zeroChunk ??= new Uint8Array(ZERO_CHUNK_BYTES);
    for (let done = 0; done < lengthBytes; done += ZERO_CHUNK_BYTES) {
      const size = Math.min(ZERO_CHUNK_BYTES, lengthBytes - done);
      const result = this.writeBytes(zeroChunk.subarray(0, size), offset + done);
      if (result < 0) return result;
    }
    return 0;
  }

  /** Bytes from `offset`, at most `lengthBytes`, that fit the bounce buffer with the surroundings they need. */
  #piece(offset: number, lengthBytes: number): number {
    return Math.min(lengthBytes, BOUNCE_BYTES - this.alignment - offset % this.alignment);
  }

  /** Reads the aligned surroundings of a range into the bounce buffer; bytes usable from `offset` on, or `-errno`. */
  #readBounce(offset: number, lengthBytes: number): number {
    const skip = offset % this.alignment;
    const size = Math.ceil((skip + lengthBytes) / this.alignment) * this.alignment;
    single.setSingle(bounce().hostAddress, size);
    const got = preadv(this.fd, single.bytes, 1, offset - skip);
    return got < 0 ? got : Math.max(0, got - skip);
  }

  /** Puts into the bounce buffer what surrounds a range that is about to be overwritten. */
  #fillBounce(offset: number, lengthBytes: number): number {
    const skip = offset % this.alignment;
    if (skip === 0 && lengthBytes % this.alignment === 0) return 0;
    const got = this.#readBounce(offset, lengthBytes);
    if (got >= 0) bounce().bytes.fill(0, skip + got, skip + got + lengthBytes + this.alignment);
    return got;
  }

  /** Writes a range from the bounce buffer. A file must not grow by our rounding: its last piece goes in unrounded. */
  #writeBounce(offset: number, lengthBytes: number): number {
    const skip = offset % this.alignment;
    const size = Math.ceil((skip + lengthBytes) / this.alignment) * this.alignment;
    if (size !== lengthBytes && !this.isBlockDevice && offset - skip + size > this.sizeBytes()) {
      return this.#writeBuffered(offset, skip, lengthBytes);
    }
    single.setSingle(bounce().hostAddress, size);
    const put = whole(pwritev(this.fd, single.bytes, 1, offset - skip), size);
    return put < 0 ? put : lengthBytes;
  }

  /** Writes from the bounce buffer with direct I/O switched off for the call, and makes it durable. */
  #writeBuffered(offset: number, skip: number, lengthBytes: number): number {
    const flags = syscall(SYS.fcntl, word(this.fd), F_GETFL);
    syscall(SYS.fcntl, word(this.fd), F_SETFL, flags & ~BigInt(O.DIRECT));
    single.setSingle(bounce().hostAddress + skip, lengthBytes);
    let result = whole(pwritev(this.fd, single.bytes, 1, offset), lengthBytes);
    if (result >= 0) result = fdatasync(this.fd);
    syscall(SYS.fcntl, word(this.fd), F_SETFL, flags);
    return result < 0 ? result : lengthBytes;
  }
}

/** A partial write is a failure. */
function whole(result: number, wanted: number): number {
  return result >= 0 && result < wanted ? -Errno.EIO : result;
}
