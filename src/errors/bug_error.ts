/**
 * A broken invariant of our own, never a consequence of guest or API data.
 *
 * L0, any isolate.
 */
import { VmmError } from "./vmm_error.ts";

/** A defect of this program; the VMM stops on it. */
export class BugError extends VmmError {
  readonly code = "BUG";
  readonly status = 500;

  constructor(message: string, options?: ErrorOptions) {
    super(`Internal error: ${message}`, options);
  }
}

/**
 * Throws `BugError` unless `condition` holds. For our own invariants only: must not be used on guest or
 * API data.
 */
export function assertInternal(condition: unknown, message: string): asserts condition {
  if (!condition) throw new BugError(message);
}
