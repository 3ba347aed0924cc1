/**
 * Words between main and one vCPU Worker.
 *
 * L5, main isolate and vCPU Workers.
 */
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

/** What main wants of a vCPU (`request`, written by main only). */
export const VcpuRequest = { run: 0, pause: 1, stop: 2 } as const;
/** What a vCPU does (`state`, written by its Worker only). */
export const VcpuState = { starting: 0, running: 1, paused: 2, stopped: 3 } as const;

/** Number of exit reasons counted; KVM's are below 64. */
export const EXIT_REASONS = 64;

export const VcpuControl = defineBlock("vcpu", {
  request: "u32",
  state: "u32",
  /** Counts main's orders and messages; a waiting vCPU sleeps on it, so none is missed (writer: main). */
  doorbell: "u32",
  /** Kernel thread id, 0 until the Worker runs. */
  tid: "u32",
  /** Exits by reason, low and high words (writer: the vCPU). */
  exitsLow: { u32: EXIT_REASONS },
  exitsHigh: { u32: EXIT_REASONS },
  /** Returns of KVM_RUN caused by a kick. */
  kicks: "u32",
});

export type VcpuControlBlock = BlockOf<typeof VcpuControl>;
