/**
 * epoll: readiness of many descriptors in one wait.
 *
 * L0, I/O Worker and API front door. Source: epoll(7), epoll_ctl(2), epoll_wait(2).
 */
import { struct } from "../abi/struct.ts";
import { close } from "./fd.ts";
import { addressOf, check, SYS, syscall, word } from "./syscall.ts";

/** struct epoll_event, packed on x86-64. */
export const EpollEvent = struct("epoll_event", { events: "u32", data: "u64" }, {
  size: 12,
  packed: true,
  source: "linux/eventpoll.h",
});

/** Event bits. */
export const EPOLL = { IN: 1, PRI: 2, OUT: 4, ERR: 8, HUP: 0x10, RDHUP: 0x2000, ET: 0x80000000 } as const;
/** Operations of epoll_ctl. */
const CTL = { ADD: 1n, DEL: 2n, MOD: 3n } as const;
const EPOLL_CLOEXEC = 0o2000000n;

const PARAMETERS = ["i32", "buffer", "i32", "i32"] as const;
let blocking: ((fd: number, events: BufferSource, max: number, timeoutMs: number) => number) | undefined;
let pooled:
  | ((fd: number, events: BufferSource, max: number, timeoutMs: number) => Promise<number>)
  | undefined;

/** An epoll set whose entries carry a 32-bit token. */
export class Epoll {
  readonly fd: number = check(syscall(SYS.epoll_create1, EPOLL_CLOEXEC), "epoll_create1");
  readonly #buffer: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #bufferAddress: bigint;
  /** struct timespec, seconds always 0. */
  readonly #timeout = new BigInt64Array(2);
  readonly #timeoutAddress: bigint;

  /** @param capacity most events taken per wait */
  constructor(readonly capacity = 64) {
    this.#buffer = new Uint8Array(capacity * EpollEvent.size);
    this.#view = new DataView(this.#buffer.buffer);
    this.#bufferAddress = addressOf(this.#buffer);
    this.#timeoutAddress = addressOf(new Uint8Array(this.#timeout.buffer));
  }

  #control(operation: bigint, fd: number, events: number, token: number): bigint {
    const entry = new DataView(new ArrayBuffer(EpollEvent.size));
    entry.setUint32(EpollEvent.offsets.events, events >>> 0, true);
    entry.setUint32(EpollEvent.offsets.data, token, true);
    return syscall(
      SYS.epoll_ctl,
      word(this.fd),
      operation,
      word(fd),
      addressOf(new Uint8Array(entry.buffer)),
    );
  }

  /** Watches `fd`. @throws OsError, EPERM for regular files */
  add(fd: number, events: number, token: number): void {
    check(this.#control(CTL.ADD, fd, events, token), "epoll_ctl", `fd ${fd}`);
  }

  /** Changes what is watched. @throws OsError */
  modify(fd: number, events: number, token: number): void {
    check(this.#control(CTL.MOD, fd, events, token), "epoll_ctl", `fd ${fd}`);
  }

  /** Stops watching; an unknown descriptor is no error. */
  remove(fd: number): void {
    this.#control(CTL.DEL, fd, 0, 0);
  }

  /** Blocks the thread until something is ready; returns the count, 0 when interrupted. `timeoutMs` −1 waits for ever. */
  wait(timeoutMs: number): number {
    // SAFETY: fixed argument list; the buffer holds `capacity` events and lives as long as this object.
    blocking ??=
      Deno.dlopen("libc.so.6", { epoll_wait: { parameters: PARAMETERS, result: "i32" } }).symbols.epoll_wait;
    const count = blocking(this.fd, this.#buffer, this.capacity, timeoutMs);
    return count < 0 ? 0 : count;
  }

  /**
   * As `wait`, for microseconds only: lets an isolate that must not block catch what comes at once without the way over
   * a pool thread. 0 where the kernel (before 5.11) has no such call.
   */
  waitBriefly(timeoutUs: number): number {
    this.#timeout[1] = BigInt(timeoutUs * 1_000);
    const count = Number(
      syscall(
        SYS.epoll_pwait2,
        word(this.fd),
        this.#bufferAddress,
        BigInt(this.capacity),
        this.#timeoutAddress,
        0n,
      ),
    );
    return count < 0 ? 0 : count;
  }

  /** As `wait`, on a pool thread: the isolate's event loop goes on. errno is not available: 0 stands for any failure. */
  async waitPooled(timeoutMs: number): Promise<number> {
    // SAFETY: as in `wait`; the buffer is a field, so it stays referenced until the pool thread is done.
    pooled ??= Deno.dlopen("libc.so.6", {
      epoll_wait: { parameters: PARAMETERS, result: "i32", nonblocking: true },
    }).symbols.epoll_wait;
    const count = await pooled(this.fd, this.#buffer, this.capacity, timeoutMs);
    return count < 0 ? 0 : count;
  }

  /** Token of the `index`-th ready entry of the last wait. */
  token(index: number): number {
    return this.#view.getUint32(index * EpollEvent.size + EpollEvent.offsets.data, true);
  }

  /** Event bits of the `index`-th ready entry of the last wait. */
  events(index: number): number {
    return this.#view.getUint32(index * EpollEvent.size + EpollEvent.offsets.events, true);
  }

  /** Closes the set. */
  close(): void {
    close(this.fd);
  }
}
