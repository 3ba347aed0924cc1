/**
 * An operation that failed: the words above its cause, and the status its direct cause decides.
 *
 * L6, main isolate. Source: spec/rest-api.md §1.2.
 */
import { type ErrorStatus, messagesOf, VmmError } from "@vmm/errors/vmm_error.ts";

/** Outermost message of every chain. */
const OUTERMOST = "Error from API";
const TOO_MANY_REQUESTS = 429;

/** What every failed operation answers with. */
export class OperationError extends Error {
  /** @param failure the operation's own words, as "The VM could not boot" */
  constructor(readonly failure: string, cause: unknown) {
    super(failure, { cause });
    this.name = "OperationError";
  }

  /** HTTP status. */
  get status(): ErrorStatus {
    return this.cause instanceof VmmError ? this.cause.status : 500;
  }

  /** Messages as the REST API lists them, outermost first. */
  chain(): string[] {
    if (this.status === TOO_MANY_REQUESTS) return ["Too Many Requests"];
    return [OUTERMOST, this.failure, ...messagesOf(this.cause)];
  }
}
