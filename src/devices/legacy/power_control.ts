/**
 * Reset and power-off asked for by the guest, through whichever device it chose.
 *
 * L4, runs in vCPU Workers. One block per VM instance: the control loop hears of the first request only, the vCPU of
 * every request stops. Source: spec/machine-model.md §2 "Reset/power-off writes block the vCPU".
 */
import type { EventSink } from "@vmm/bus/ports.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

/** Whether a request was posted already. */
export const PowerControlBlock = defineBlock("power-control", { asked: "u32" });
export type PowerControlState = BlockOf<typeof PowerControlBlock>;

/** How devices ask for an end of this VM instance. */
export class PowerControl {
  /** @param halt makes the calling vCPU wait for the control loop instead of running on */
  constructor(
    private readonly state: PowerControlState,
    private readonly events: EventSink,
    private readonly halt: () => void,
  ) {}

  reset(): void {
    this.#ask("reset");
  }

  powerOff(): void {
    this.#ask("shutdown");
  }

  #ask(kind: "reset" | "shutdown"): void {
    this.halt();
    if (Atomics.exchange(this.state.words, PowerControlBlock.index.asked, 1) === 0) {
      this.events.post({ kind });
    }
  }
}
