/**
 * The calling OS thread: name, id, signals, CPU affinity.
 *
 * L0, any isolate. Source: prctl(2) PR_SET_NAME, gettid(2), tgkill(2), sched_setaffinity(2), rt_sigprocmask(2), rt_sigaction(2),
 * signal(7).
 */
import { addressOf, check, cString, SYS, syscall, word } from "./syscall.ts";

const PR_SET_NAME = 15n;
/** Longest thread name the kernel keeps, without the NUL. */
const NAME_MAX = 15;

/** Names the calling thread as `/proc/PID/task/TID/comm` shows it; longer names are cut to 15 bytes. */
export function setThreadName(name: string): void {
  const text = cString(name.slice(0, NAME_MAX));
  syscall(SYS.prctl, PR_SET_NAME, addressOf(text));
}

/** Kernel id of the calling thread. */
export function threadId(): number {
  return Number(syscall(SYS.gettid));
}

/** Sends `signal` to a thread of this process; false if it is gone. */
export function signalThread(tid: number, signal: number): boolean {
  return syscall(SYS.tgkill, syscall(SYS.getpid), word(tid), word(signal)) === 0n;
}

/** Numbers of signals a program is told what to do by. */
const SIGNALS = { SIGINT: 2, SIGUSR1: 10, SIGTERM: 15, SIGWINCH: 28 } as const;
const SIG_UNBLOCK = 1n;
const KERNEL_SIGSET_BYTES = 8;
/** struct sigaction of the kernel: handler, flags, restorer, mask. */
const KERNEL_SIGACTION_BYTES = 32;

/**
 * Lets signals through to the calling thread. A mask is inherited by exec, and some supervisors start programs with everything
 * blocked. To be called once somebody listens: a signal that was waiting arrives at once. @throws OsError
 */
export function unblockSignals(names: readonly (keyof typeof SIGNALS)[]): void {
  const set = new BigUint64Array(1);
  for (const name of names) set[0] |= 1n << BigInt(SIGNALS[name] - 1);
  const bytes = new Uint8Array(set.buffer);
  check(
    syscall(SYS.rt_sigprocmask, SIG_UNBLOCK, addressOf(bytes), 0n, BigInt(KERNEL_SIGSET_BYTES)),
    "rt_sigprocmask",
  );
}

/** Gives a signal the kernel's own action, whatever the runtime has set. @throws OsError */
export function resetSignal(name: keyof typeof SIGNALS): void {
  const action = new Uint8Array(KERNEL_SIGACTION_BYTES); // SIG_DFL, without flags and mask
  check(
    syscall(SYS.rt_sigaction, BigInt(SIGNALS[name]), addressOf(action), 0n, BigInt(KERNEL_SIGSET_BYTES)),
    "rt_sigaction",
  );
}

/** Restricts the calling thread to the given host CPUs. @throws OsError, EINVAL when none of them exists */
export function setAffinity(cpus: readonly number[]): void {
  const mask = new Uint8Array(Math.ceil((Math.max(...cpus, 0) + 1) / 64) * 8);
  for (const cpu of cpus) mask[cpu >> 3] |= 1 << (cpu & 7);
  check(syscall(SYS.sched_setaffinity, 0n, BigInt(mask.length), addressOf(mask)), "sched_setaffinity");
}

/** Sets the file mode creation mask; returns the old one. */
export function umask(mask: number): number {
  return Number(syscall(SYS.umask, BigInt(mask)));
}
