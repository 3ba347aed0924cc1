/**
 * Core scheduling: threads share the hyperthreads of a core only with threads that have the same cookie.
 *
 * L0, any isolate; all calls are about the calling thread. Source: prctl(2) PR_SCHED_CORE, the kernel's
 * Documentation/admin-guide/hw-vuln/core-scheduling.rst.
 */
import { Errno } from "../abi/errno.ts";
import { addressOf, check, SYS, syscall, word } from "./syscall.ts";

const PR_SCHED_CORE = 62n;
const PR_SCHED_CORE_GET = 0n;
const PR_SCHED_CORE_CREATE = 1n;
const PR_SCHED_CORE_SHARE_FROM = 3n;
const PIDTYPE_PID = 0n;
const SELF = 0;
const NOTHING = 0n;
/** How an order ended: nothing is isolated by a kernel built without core scheduling, nothing needs to be without hyperthreads. */
export type CoreOutcome = "done" | "noKernelSupport" | "noHyperthreads";

/** Errors that are no failures. */
const OUTCOMES: ReadonlyMap<bigint, CoreOutcome> = new Map([
  [BigInt(-Errno.EINVAL), "noKernelSupport"],
  [BigInt(-Errno.ENODEV), "noHyperthreads"],
]);

/** Gives the thread a cookie nobody else has. @throws OsError */
export function createCoreCookie(): CoreOutcome {
  return order(PR_SCHED_CORE_CREATE, SELF);
}

/** Gives the thread the cookie of thread `tid`, or none if that has none. @throws OsError */
export function shareCoreCookie(tid: number): CoreOutcome {
  return order(PR_SCHED_CORE_SHARE_FROM, tid);
}

/** The thread's cookie; 0 for none. */
export function coreCookie(): bigint {
  const cookie = new BigUint64Array(1);
  syscall(
    SYS.prctl,
    PR_SCHED_CORE,
    PR_SCHED_CORE_GET,
    word(SELF),
    PIDTYPE_PID,
    addressOf(new Uint8Array(cookie.buffer)),
  );
  return cookie[0];
}

function order(command: bigint, tid: number): CoreOutcome {
  const result = syscall(SYS.prctl, PR_SCHED_CORE, command, word(tid), PIDTYPE_PID, NOTHING);
  const outcome = OUTCOMES.get(result);
  if (outcome === undefined) check(result, "prctl", "core scheduling");
  return outcome ?? "done";
}
