/**
 * Words put above another error on its way up.
 *
 * L0, any isolate. Source: spec/rest-api.md §1.2 (only a direct cause decides the status).
 */
import { type ErrorCode, messagesOf, VmmError } from "./vmm_error.ts";

/** An error with words above its cause. Keeps the cause's code; its status is always 500. */
export class ContextError extends VmmError {
  readonly code: ErrorCode;
  readonly status = 500;
  /** Own words, outermost first. */
  readonly messages: readonly string[];

  /** `messages`: outermost first, as `["Error from device manager", "Cannot create virtio-blk device"]`. */
  constructor(messages: readonly [string, ...string[]], cause: unknown) {
    super(messages[0], { cause });
    this.messages = messages;
    this.code = cause instanceof VmmError ? cause.code : "OPERATION_REFUSED";
  }

  override chain(): string[] {
    return [...this.messages, ...messagesOf(this.cause)];
  }
}
