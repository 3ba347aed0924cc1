/**
 * What an operation is: a name, the words above its errors, and the code that the control loop runs.
 *
 * L6, main isolate.
 */
import type { EventName } from "@schemas/api/event.ts";
import type { ApiCommand, ApiReply, OperationName } from "./command.ts";
import type { Situation } from "./state_matrix.ts";
import type { Vmm } from "./vmm.ts";

/**
 * When an operation runs beside others. `immediate`: at once, whatever is under way. `settled`: at once unless a mutation
 * is half done, then after it. `exclusive`: it changes something, one after another.
 */
export type Concurrency = "immediate" | "settled" | "exclusive";

/** One operation. */
export interface Operation<N extends OperationName = OperationName> {
  readonly name: N;
  /** Text between "Error from API" and the cause in an error chain. */
  readonly failure: string;
  readonly concurrency: Concurrency;
  /** Event told before the state is checked, in these situations only. */
  readonly announces?: { readonly event: EventName<"vm">; readonly in: readonly Situation[] };
  /** Does it; the state matrix allowed it. @throws any error, its chain becomes the answer */
  run(vmm: Vmm, command: ApiCommand<N>): ApiReply | Promise<ApiReply>;
}

/** Situations with an instance: where most operations announce themselves. */
export const WITH_INSTANCE: readonly Situation[] = ["created", "running", "paused", "breakpoint"];
