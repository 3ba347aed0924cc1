/**
 * How many reports a guest may cause: a token bucket in a shared block, so that all vCPUs share one budget.
 *
 * L1, any isolate. What a guest can repeat at will must not fill the main isolate's message queue.
 */
import { type BlockOf, defineBlock } from "./shared_block.ts";

/** Reports allowed at once, and per second in the long run. */
export const EVENT_BURST = 32;
export const EVENTS_PER_SECOND = 10;
const NS_PER_EVENT = 1e9 / EVENTS_PER_SECOND;

/** Reports left, when the bucket was filled last (in units of one report), and reports refused since the last allowed one. */
export const EventBudgetBlock = defineBlock("event-budget", {
  tokens: "u32",
  filled: "u32",
  refused: "u32",
});
export type EventBudgetState = BlockOf<typeof EventBudgetBlock>;

/** A new block with a full bucket. */
export function createEventBudget(): EventBudgetState {
  const state = EventBudgetBlock.create();
  state.tokens = EVENT_BURST;
  return state;
}

/**
 * Takes one report from the budget; the number of those refused before it, to be told with it. Undefined when the budget is
 * used up. `nowNs`: the monotonic clock.
 */
export function takeReport(state: EventBudgetState, nowNs: number): number | undefined {
  const tick = Math.floor(nowNs / NS_PER_EVENT) >>> 0;
  state.lock();
  const earned = (tick - state.filled) >>> 0;
  state.tokens = Math.min(EVENT_BURST, state.tokens + earned);
  state.filled = tick;
  const allowed = state.tokens > 0;
  const { refused } = state;
  if (allowed) state.tokens--;
  state.refused = allowed ? 0 : refused + 1;
  state.unlock();
  return allowed ? refused : undefined;
}
