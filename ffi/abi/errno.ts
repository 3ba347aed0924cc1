/**
 * The C library's errno, and the error every failed system call becomes.
 *
 * L0, any isolate: errno lives in the calling OS thread, and an isolate keeps its thread for life.
 * Source: errno(3), errno-base.h; message form `text (os error N)` as clients of the original know it.
 */

/** errno values this project tests for by name (asm-generic/errno-base.h, errno.h). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EPIPE: 32,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ENOTCONN: 107,
  ECONNREFUSED: 111,
  EINPROGRESS: 115,
} as const;

// SAFETY: a C function without arguments that returns the address of this thread's errno.
const LOCATION = Deno.dlopen("libc.so.6", { __errno_location: { parameters: [], result: "pointer" } });

/** View of this thread's errno word. */
const cell = new Int32Array(
  // SAFETY: glibc keeps errno of a thread at a fixed address while the thread lives; this isolate never changes thread.
  new Deno.UnsafePointerView(LOCATION.symbols.__errno_location()!).getArrayBuffer(4),
);

/** errno of the system call made just before on this thread. Read it in the very next statement. Never throws. */
export function errno(): number {
  return cell[0];
}

/** The C library's text for `code`, as `perror` prints it. Opened on first use: only failures pay for it. */
export function errorText(code: number): string {
  // SAFETY: fixed argument list; the returned string is copied before the library is closed.
  const lib = Deno.dlopen("libc.so.6", { strerror: { parameters: ["i32"], result: "pointer" } });
  const text = lib.symbols.strerror(code);
  // SAFETY: strerror returns a NUL-terminated string that stays valid until the next call on this thread; copied at once.
  const copy = text === null ? "Unknown error" : new Deno.UnsafePointerView(text).getCString();
  lib.close();
  return copy;
}

/** Name of an errno value, `E42` style when the table above does not know it. */
export function errorName(code: number): string {
  return Object.entries(Errno).find(([, value]) => value === code)?.[0] ?? `E${code}`;
}

/** A failed system call: `Permission denied (os error 13)` with the call and its subject as fields. */
export class OsError extends Error {
  override readonly name = "OsError";
  /**
   * @param code errno value, 1 to 4095
   * @param call name of the system call or ioctl that failed
   * @param subject path or descriptor it was about, if any
   */
  constructor(readonly code: number, readonly call: string, readonly subject?: string) {
    super(`${errorText(code)} (os error ${code})`);
  }
}
