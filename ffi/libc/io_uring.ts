/**
 * io_uring: many positioned reads and writes handed to the kernel by one call, finished in any order.
 *
 * L0, I/O Worker. Nothing is allocated per operation. Source: io_uring_setup(2), io_uring_enter(2), linux/io_uring.h.
 */
import { errno } from "../abi/errno.ts";
import { struct } from "../abi/struct.ts";
import { close } from "./fd.ts";
import { MAP, map, PROT, unmap, wrap } from "./mmap.ts";
import { addressOf, check, SYS, syscall } from "./syscall.ts";

/** struct io_sqring_offsets. */
export const SqringOffsets = struct("io_sqring_offsets", {
  head: "u32",
  tail: "u32",
  ring_mask: "u32",
  ring_entries: "u32",
  flags: "u32",
  dropped: "u32",
  array: "u32",
  resv1: "u32",
  resv2: "u64",
}, { size: 40, source: "linux/io_uring.h" });

/** struct io_cqring_offsets. */
export const CqringOffsets = struct("io_cqring_offsets", {
  head: "u32",
  tail: "u32",
  ring_mask: "u32",
  ring_entries: "u32",
  overflow: "u32",
  cqes: "u32",
  flags: "u32",
  resv1: "u32",
  resv2: "u64",
}, { size: 40, source: "linux/io_uring.h" });

/** struct io_uring_params. */
export const UringParams = struct("io_uring_params", {
  sq_entries: "u32",
  cq_entries: "u32",
  flags: "u32",
  sq_thread_cpu: "u32",
  sq_thread_idle: "u32",
  features: "u32",
  wq_fd: "u32",
  resv: { bytes: 12, align: 4 },
  sq_off: SqringOffsets,
  cq_off: CqringOffsets,
}, { size: 120, source: "linux/io_uring.h" });

/** struct io_uring_sqe: the fields used here; the kernel's has 64 bytes. */
const Sqe = {
  opcode: 0,
  fd: 4,
  off: 8,
  addr: 16,
  len: 24,
  rw_flags: 28,
  user_data: 32,
  buf_index: 40,
  splice_fd_in: 44,
  size: 64,
} as const;
/** struct io_uring_cqe. */
const Cqe = { user_data: 0, res: 8, size: 16 } as const;

const IORING_OP_READV = 1;
const IORING_OP_WRITEV = 2;
const IORING_OP_FSYNC = 3;
const IORING_OP_READ = 22;
const IORING_OP_WRITE = 23;
const IORING_FSYNC_DATASYNC = 1;
const IORING_ENTER_GETEVENTS = 1;
const IORING_FEAT_SINGLE_MMAP = 1;
const IORING_FEAT_NODROP = 2;
const IORING_FEAT_SUBMIT_STABLE = 4;
const NEEDED_FEATURES = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;
const IORING_SETUP_CLAMP = 0x10;
const IORING_OFF_SQES = 0x1000_0000;
const WORD = 0x1_0000_0000;
const EINTR = 4;

// SAFETY: the raw call takes integers only here; the two null words stand for no signal mask.
const lib = Deno.dlopen("libc.so.6", {
  enter: {
    name: "syscall",
    parameters: ["i64", "i32", "u32", "u32", "u32", "u64", "u64"],
    result: "i32",
  },
});

/** A submission and a completion ring. */
export class IoUring {
  /** Readable while completions wait. */
  readonly fd: number;
  /** Operations that fit between two submissions. */
  readonly entries: number;
  /** Operations prepared and not yet seen by the kernel. */
  queued = 0;
  /** Operations the kernel has and that were not reaped. */
  inFlight = 0;

  readonly #ringAddress: bigint;
  readonly #ringBytes: number;
  readonly #sqeAddress: bigint;
  readonly #sqeBytes: number;
  readonly #words: Uint32Array;
  readonly #completions: DataView;
  readonly #sqes: DataView;
  readonly #sqTail: number;
  readonly #sqMask: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqes: number;
  #tail = 0;

  /** @throws OsError when the kernel has none, or not enough of it */
  constructor(entries: number) {
    const params = new Uint8Array(UringParams.size);
    const view = new DataView(params.buffer);
    const at = UringParams.offsets;
    view.setUint32(at.flags, IORING_SETUP_CLAMP, true);
    this.fd = check(syscall(SYS.io_uring_setup, BigInt(entries), addressOf(params)), "io_uring_setup");
    try {
      if ((view.getUint32(at.features, true) & NEEDED_FEATURES) !== NEEDED_FEATURES) {
        check(-95n, "io_uring_setup");
      }
      const sq = (field: keyof typeof SqringOffsets.offsets) =>
        view.getUint32(at.sq_off + SqringOffsets.offsets[field], true);
      const cq = (field: keyof typeof CqringOffsets.offsets) =>
        view.getUint32(at.cq_off + CqringOffsets.offsets[field], true);
      this.entries = view.getUint32(at.sq_entries, true);
      const cqEntries = view.getUint32(at.cq_entries, true);
      this.#ringBytes =
        Math.ceil(Math.max(sq("array") + 4 * this.entries, cq("cqes") + Cqe.size * cqEntries) / 8) * 8;
      this.#sqeBytes = this.entries * Sqe.size;
      const protection = PROT.READ | PROT.WRITE;
      this.#ringAddress = map(this.#ringBytes, protection, MAP.SHARED | MAP.POPULATE, this.fd);
      this.#sqeAddress = map(this.#sqeBytes, protection, MAP.SHARED | MAP.POPULATE, this.fd, IORING_OFF_SQES);
      const ring = wrap(this.#ringAddress, this.#ringBytes);
      this.#words = new Uint32Array(ring);
      this.#completions = new DataView(ring);
      this.#sqes = new DataView(wrap(this.#sqeAddress, this.#sqeBytes));
      this.#sqTail = sq("tail") >> 2;
      this.#sqMask = this.#words[sq("ring_mask") >> 2];
      this.#cqHead = cq("head") >> 2;
      this.#cqTail = cq("tail") >> 2;
      this.#cqMask = this.#words[cq("ring_mask") >> 2];
      this.#cqes = cq("cqes");
      // Entry i of the ring is always submission i.
      for (let i = 0; i < this.entries; i++) this.#words[(sq("array") >> 2) + i] = i;
    } catch (error) {
      close(this.fd);
      throw error;
    }
  }

  /** Index that the next prepared operation will have: for memory that has to live until the submission. */
  get slot(): number {
    return this.#tail & this.#sqMask;
  }

  /** Prepares a transfer of one buffer at a host address; the caller made room by submitting. */
  transfer(
    isWrite: boolean,
    fd: number,
    address: number,
    lengthBytes: number,
    offset: number,
    token: number,
  ): void {
    this.#prepare(isWrite ? IORING_OP_WRITE : IORING_OP_READ, fd, address, lengthBytes, offset, token, 0);
  }

  /** Prepares a vectored transfer: `count` iovec entries at host address `list`, needed until the submission only. */
  transferVector(
    isWrite: boolean,
    fd: number,
    list: number,
    count: number,
    offset: number,
    token: number,
  ): void {
    this.#prepare(isWrite ? IORING_OP_WRITEV : IORING_OP_READV, fd, list, count, offset, token, 0);
  }

  /** Prepares an fdatasync. */
  dataSync(fd: number, token: number): void {
    this.#prepare(IORING_OP_FSYNC, fd, 0, 0, 0, token, IORING_FSYNC_DATASYNC);
  }

  /**
   * Gives prepared operations to the kernel, and waits until `atLeast` completions are there; 0 or `-errno`. −EBUSY and
   * −EAGAIN: reap, then come back.
   */
  submit(atLeast = 0): number {
    Atomics.store(this.#words, this.#sqTail, this.#tail);
    while (this.queued > 0 || atLeast > 0) {
      const flags = atLeast > 0 ? IORING_ENTER_GETEVENTS : 0;
      const taken = lib.symbols.enter(SYS.io_uring_enter, this.fd, this.queued, atLeast, flags, 0n, 0n);
      if (taken < 0) {
        const reason = errno();
        if (reason === EINTR) continue;
        return -reason;
      }
      this.queued -= taken;
      this.inFlight += taken;
      if (atLeast > 0 && this.ready >= atLeast) break;
      if (atLeast === 0 && taken === 0) break;
    }
    return 0;
  }

  /** Completions that wait. */
  get ready(): number {
    return (Atomics.load(this.#words, this.#cqTail) - this.#words[this.#cqHead]) >>> 0;
  }

  /** Reports each completion: its token, and bytes or `-errno`. */
  reap(completed: (token: number, result: number) => void): void {
    for (;;) {
      const head = this.#words[this.#cqHead];
      if (Atomics.load(this.#words, this.#cqTail) === head) return;
      const at = this.#cqes + (head & this.#cqMask) * Cqe.size;
      const token = this.#completions.getUint32(at + Cqe.user_data, true);
      const result = this.#completions.getInt32(at + Cqe.res, true);
      Atomics.store(this.#words, this.#cqHead, (head + 1) >>> 0);
      this.inFlight--;
      completed(token, result);
    }
  }

  /** Frees the rings. Nothing may be in flight. */
  close(): void {
    unmap(this.#ringAddress, this.#ringBytes);
    unmap(this.#sqeAddress, this.#sqeBytes);
    close(this.fd);
  }

  #prepare(
    opcode: number,
    fd: number,
    address: number,
    length: number,
    offset: number,
    token: number,
    flags: number,
  ): void {
    const at = (this.#tail & this.#sqMask) * Sqe.size;
    const sqe = this.#sqes;
    sqe.setUint32(at + Sqe.opcode, opcode, true);
    sqe.setInt32(at + Sqe.fd, fd, true);
    sqe.setUint32(at + Sqe.off, offset >>> 0, true);
    sqe.setUint32(at + Sqe.off + 4, Math.floor(offset / WORD), true);
    sqe.setUint32(at + Sqe.addr, address >>> 0, true);
    sqe.setUint32(at + Sqe.addr + 4, Math.floor(address / WORD), true);
    sqe.setUint32(at + Sqe.len, length, true);
    sqe.setUint32(at + Sqe.rw_flags, flags, true);
    sqe.setUint32(at + Sqe.user_data, token, true);
    sqe.setUint32(at + Sqe.user_data + 4, 0, true);
    sqe.setUint32(at + Sqe.buf_index, 0, true);
    sqe.setUint32(at + Sqe.splice_fd_in, 0, true);
    this.#tail = (this.#tail + 1) >>> 0;
    this.queued++;
  }
}
