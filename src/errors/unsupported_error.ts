/**
 * Something asked for that this program does not do.
 *
 * L0, any isolate.
 */
import { VmmError } from "./vmm_error.ts";

/** A feature that is not there: `what` names it, `why` says what is missing. */
export class UnsupportedError extends VmmError {
  readonly code = "UNSUPPORTED";
  readonly status = 500;

  constructor(readonly what: string, readonly why: string, options?: ErrorOptions) {
    super(`${what} is not supported: ${why}`, options);
  }
}
