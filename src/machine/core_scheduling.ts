/**
 * Which vCPU threads may share a core's hyperthreads: those of one VM, or none.
 *
 * L5, vCPU Workers; the block is made by main for each start of a VM. Source: spec/schemas.md CpusConfig `core_scheduling`.
 */
import { type CoreOutcome, createCoreCookie, shareCoreCookie } from "@ffi/libc/core_scheduling.ts";
import { threadId } from "@ffi/libc/thread.ts";
import type { CpusConfig } from "@schemas/api/cpus.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

const SMT_ACTIVE = "/sys/devices/system/cpu/smt/active";

/** What the vCPUs of a VM have to know of each other. */
export const CoreSchedulingBlock = defineBlock("core-scheduling", {
  /** The thread whose cookie all share, 0 until one has it (writer: that thread, under the lock). */
  leader: "u32",
});

/** Gives the calling thread its cookie; undefined when none is wanted. @throws OsError */
export function joinCores(
  mode: CpusConfig["core_scheduling"],
  block: BlockOf<typeof CoreSchedulingBlock>,
): CoreOutcome | undefined {
  switch (mode) {
    case "Off":
      return undefined;
    case "Vcpu":
      return createCoreCookie();
    case "Vm":
      return lead(block) ?? shareCoreCookie(block.leader);
  }
}

/** Gives the calling thread a cookie if it is the first of its VM; undefined if it is not. */
function lead(block: BlockOf<typeof CoreSchedulingBlock>): CoreOutcome | undefined {
  block.lock();
  try {
    if (block.leader !== 0) return undefined;
    const outcome = createCoreCookie();
    block.leader = threadId();
    return outcome;
  } finally {
    block.unlock();
  }
}

/** Gives the calling thread back the cookie of the process, most often none. @throws OsError */
export function leaveCores(): void {
  shareCoreCookie(Deno.pid);
}

/** Whether threads of others may run beside a vCPU on its core. */
export function hasHyperthreads(): boolean {
  try {
    return Deno.readTextFileSync(SMT_ACTIVE).trim() === "1";
  } catch {
    // A kernel that knows nothing of them.
    return false;
  }
}
