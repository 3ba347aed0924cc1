/**
 * System calls by number, for cold paths: one symbol serves them all, so an isolate pays for one trampoline only.
 *
 * L0, any isolate. Hot calls have typed symbols of their own (`io.ts`, `epoll.ts`, `../kvm/ioctl.ts`).
 * Source: arch/x86/entry/syscalls/syscall_64.tbl.
 */
import { errno, OsError } from "../abi/errno.ts";

/** System call numbers of x86-64. */
export const SYS = {
  open: 2n,
  close: 3n,
  fstat: 5n,
  poll: 7n,
  lseek: 8n,
  mmap: 9n,
  munmap: 11n,
  rt_sigaction: 13n,
  rt_sigprocmask: 14n,
  ioctl: 16n,
  madvise: 28n,
  dup: 32n,
  getpid: 39n,
  socket: 41n,
  connect: 42n,
  recvfrom: 45n,
  sendmsg: 46n,
  recvmsg: 47n,
  shutdown: 48n,
  bind: 49n,
  listen: 50n,
  getsockname: 51n,
  getpeername: 52n,
  socketpair: 53n,
  setsockopt: 54n,
  getsockopt: 55n,
  fcntl: 72n,
  fsync: 74n,
  fdatasync: 75n,
  ftruncate: 77n,
  umask: 95n,
  prctl: 157n,
  gettid: 186n,
  sched_setaffinity: 203n,
  tgkill: 234n,
  mbind: 237n,
  fallocate: 285n,
  timerfd_create: 283n,
  timerfd_settime: 286n,
  accept4: 288n,
  eventfd2: 290n,
  epoll_create1: 291n,
  epoll_ctl: 233n,
  dup3: 292n,
  pipe2: 293n,
  memfd_create: 319n,
  io_uring_setup: 425n,
  io_uring_enter: 426n,
  userfaultfd: 323n,
  epoll_pwait2: 441n,
} as const;

// SAFETY: six INTEGER arguments for any call; addresses given are of buffers the caller keeps alive for the call.
const lib = Deno.dlopen("libc.so.6", {
  syscall: { parameters: ["i64", "u64", "u64", "u64", "u64", "u64", "u64"], result: "i64" },
});

/**
 * Makes a system call; returns its result, or `-errno` on failure. Arguments are unsigned 64-bit words; give negative
 * ones through `word`.
 */
export function syscall(nr: bigint, a = 0n, b = 0n, c = 0n, d = 0n, e = 0n, f = 0n): bigint {
  const result = lib.symbols.syscall(nr, a, b, c, d, e, f) as bigint;
  return result === -1n ? -BigInt(errno()) : result;
}

/** A signed number as the unsigned 64-bit word the C ABI passes. */
export function word(value: number | bigint): bigint {
  return BigInt.asUintN(64, BigInt(value));
}

/** Buffers whose address was taken last: held until their call has returned, whoever else forgot them. */
const held: Uint8Array[] = new Array(16).fill(new Uint8Array());
let heldNext = 0;

/**
 * Address of a buffer's first byte. The caller keeps `buffer` referenced until the kernel is done with it.
 * V8 does not move the backing store of an ArrayBuffer.
 */
export function addressOf(buffer: Uint8Array<ArrayBufferLike>): bigint {
  held[heldNext = (heldNext + 1) % held.length] = buffer;
  // SAFETY: only the numeric address is taken; bounds are the caller's `buffer.byteLength`.
  return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer as Uint8Array<ArrayBuffer>)));
}

/** `text` as a NUL-terminated C string. @throws TypeError if it holds a NUL */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new TypeError("A path or name cannot contain a NUL character");
  return new TextEncoder().encode(text + "\0");
}

/** Result of `syscall` as a number. @throws OsError when it is `-errno` */
export function check(result: bigint, call: string, subject?: string): number {
  if (result < 0n && result > -4096n) throw new OsError(Number(-result), call, subject);
  return Number(result);
}
