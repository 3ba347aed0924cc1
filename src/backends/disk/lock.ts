/**
 * The advisory lock on an image: two VMs must not write the same disk.
 *
 * L4, main isolate: taken at boot, restore and hot-add, given back at shutdown, migration hand-over and removal.
 */
import { OsError } from "@ffi/abi/errno.ts";
import { Stat } from "@ffi/libc/fd.ts";
import { conflictingLock, type LockRange, setLock } from "@ffi/libc/lock.ts";
import { addressOf, check, SYS, syscall, word } from "@ffi/libc/syscall.ts";
import type { LockGranularity } from "@schemas/api/disk.ts";
import type { FileDescription } from "./description.ts";
import { DiskError } from "./disk_error.ts";

const STAT_BLOCK_BYTES = 512;
const EAGAIN = 11;
const EACCES = 13;

/** What is locked: everything up to wherever the file ends, or the bytes the image has now. */
function rangeOf(file: FileDescription, sizeBytes: number, granularity: LockGranularity): LockRange {
  if (granularity === "Full") return { start: 0n, lengthBytes: 0n };
  const lengthBytes = Math.max(sizeBytes, allocatedBytes(file));
  return { start: 0n, lengthBytes: BigInt(lengthBytes) };
}

/** Bytes the file takes on the host; a block device takes its size. */
function allocatedBytes(file: FileDescription): number {
  if (file.isBlockDevice) return 0;
  const bytes = new Uint8Array(Stat.size);
  check(syscall(SYS.fstat, word(file.fd), addressOf(bytes)), "fstat", file.path);
  return Number(new DataView(bytes.buffer).getBigUint64(Stat.offsets.st_blocks, true)) * STAT_BLOCK_BYTES;
}

/** The lock of one image. */
export class ImageLock {
  #range: LockRange | undefined;

  constructor(
    private readonly file: FileDescription,
    private readonly sizeBytes: number,
    private readonly granularity: LockGranularity,
  ) {}

  /** Takes the lock: for reading if the disk is read-only. @throws DiskError when somebody else holds one */
  acquire(): void {
    const kind = this.file.readonly ? "read" : "write";
    const range = rangeOf(this.file, this.sizeBytes, this.granularity);
    const result = setLock(this.file.fd, kind, range);
    if (result === 0) {
      this.#range = range;
      return;
    }
    const Kind = kind === "read" ? "Read" : "Write";
    const messages: [string, string] = [
      "Cannot lock images of all block devices",
      `Failed to get ${Kind} lock for disk image: ${this.file.path}`,
    ];
    if (result === -EAGAIN || result === -EACCES) {
      throw new DiskError([...messages, "The file is already locked"]);
    }
    throw new DiskError(
      [...messages, "The lock state could not be checked or set"],
      new OsError(-result, "fcntl", this.file.path),
    );
  }

  /** What stands in the way, for the log: `SharedRead`, `ExclusiveWrite`, or undefined. */
  holder(): string | undefined {
    const held = conflictingLock(this.file.fd, rangeOf(this.file, this.sizeBytes, this.granularity));
    return held === "read" ? "SharedRead" : held === "write" ? "ExclusiveWrite" : undefined;
  }

  /** Gives the lock back; nothing happens without one. */
  release(): void {
    if (this.#range === undefined) return;
    setLock(this.file.fd, "unlocked", this.#range);
    this.#range = undefined;
  }
}
