/**
 * A call to the host that failed.
 *
 * L0, any isolate. Source: spec/rest-api.md §1.2; text of the last message as the original's runtime prints it.
 */
import { messagesOf, VmmError } from "./vmm_error.ts";

/** What the host reported. */
export interface HostFault {
  /** What we were doing, outermost first, as `["Cannot open kernel file"]`; at least one. */
  readonly messages: readonly string[];
  /** Symbolic errno, as `ENOENT`. */
  readonly errnoName: string;
  /** errno, positive. */
  readonly errno: number;
  /** The host's text for the errno, as "No such file or directory". */
  readonly errnoText: string;
  /** The call, as `open`. */
  readonly call: string;
  /** File, or descriptor, the call was about. */
  readonly path?: string;
  readonly fd?: number;
}

/** A failed host call: errno, call and object as fields; the chain ends in "<text> (os error <n>)". */
export class HostError extends VmmError {
  readonly code = "HOST_CALL_FAILED";
  readonly status = 500;
  readonly messages: readonly string[];
  readonly errnoName: string;
  readonly errno: number;
  readonly errnoText: string;
  readonly call: string;
  readonly path: string | undefined;
  readonly fd: number | undefined;

  constructor(fault: HostFault, options?: ErrorOptions) {
    super(fault.messages[0], options);
    this.messages = fault.messages;
    this.errnoName = fault.errnoName;
    this.errno = fault.errno;
    this.errnoText = fault.errnoText;
    this.call = fault.call;
    this.path = fault.path;
    this.fd = fault.fd;
  }

  override chain(): string[] {
    return [...this.messages, `${this.errnoText} (os error ${this.errno})`, ...messagesOf(this.cause)];
  }
}
