/**
 * Flushing a file without waiting: the kernel's asynchronous I/O, for fsync only.
 *
 * L0, I/O Worker, cold paths. A finished flush raises an eventfd, so that an event loop sees it; meanwhile a kernel thread
 * does the waiting. Source: io_setup(2), io_submit(2), io_getevents(2), linux/aio_abi.h.
 */
import { Errno } from "../abi/errno.ts";
import { struct, StructBuffer } from "../abi/struct.ts";
import { addressOf, check, SYS, syscall, word } from "./syscall.ts";

const SYS_IO_SETUP = 206n;
const SYS_IO_DESTROY = 207n;
const SYS_IO_GETEVENTS = 208n;
const SYS_IO_SUBMIT = 209n;

const IOCB_CMD_FSYNC = 2;
const IOCB_FLAG_RESFD = 1;

/** struct iocb of a little-endian machine. */
export const Iocb = struct("iocb", {
  aio_data: "u64",
  aio_key: "u32",
  aio_rw_flags: "u32",
  aio_lio_opcode: "u16",
  aio_reqprio: "u16",
  aio_fildes: "u32",
  aio_buf: "u64",
  aio_nbytes: "u64",
  aio_offset: "u64",
  aio_reserved2: "u64",
  aio_flags: "u32",
  aio_resfd: "u32",
}, { size: 64, source: "linux/aio_abi.h" });

/** struct io_event. */
export const IoEvent = struct("io_event", { data: "u64", obj: "u64", res: "u64", res2: "u64" }, {
  size: 32,
  source: "linux/aio_abi.h",
});

/** Flushes one file, one flush at a time. */
export class AsyncFlush {
  readonly #context: bigint;
  readonly #iocb: StructBuffer<keyof typeof Iocb.offsets>;
  /** The array of one pointer that io_submit takes. */
  readonly #list: Uint8Array<ArrayBuffer>;
  readonly #event = new StructBuffer(IoEvent);

  /** @param eventFd raised when a flush has finished @throws OsError, ENOSYS where the kernel lacks it */
  constructor(fd: number, eventFd: number) {
    const context = new BigUint64Array(1);
    check(syscall(SYS_IO_SETUP, 1n, addressOf(new Uint8Array(context.buffer))), "io_setup");
    this.#context = context[0];
    this.#iocb = new StructBuffer(Iocb)
      .set("aio_lio_opcode", IOCB_CMD_FSYNC)
      .set("aio_fildes", fd)
      .set("aio_flags", IOCB_FLAG_RESFD)
      .set("aio_resfd", eventFd);
    this.#list = new Uint8Array(new BigUint64Array([addressOf(this.#iocb.bytes)]).buffer);
  }

  /** Starts a flush; 0, or `-errno` when it could not be started. Not while one is under way. */
  start(): number {
    const result = syscall(SYS_IO_SUBMIT, this.#context, 1n, addressOf(this.#list));
    return result === 1n ? 0 : Number(result);
  }

  /** Waits for the flush that was started; 0 or its `-errno`. Does not wait after the eventfd was raised. */
  wait(): number {
    for (;;) {
      const result = syscall(SYS_IO_GETEVENTS, this.#context, 1n, 1n, addressOf(this.#event.bytes));
      if (result === 1n) return Number(BigInt.asIntN(64, this.#event.getBig("res")));
      if (result !== BigInt(-Errno.EINTR)) return Number(result);
    }
  }

  /** Waits for what is under way and forgets the file. */
  close(): void {
    syscall(SYS_IO_DESTROY, this.#context);
  }
}

/** The fallback: waits on the spot. 0 or `-errno`. */
export function flushNow(fd: number): number {
  return Number(syscall(SYS.fsync, word(fd)));
}
